package engine

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"vitro/internal/image"
)

// expand replaces $NAME, ${NAME}, ${NAME:-WORD} and ${NAME:+WORD} by the image's environment, as a Dockerfile's instructions do. Single quotes
// and backslashes protect; they stay, for who splits the words.
func expand(s string, env []string) (string, error) {
	var b strings.Builder
	single := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\'':
			single = !single
			b.WriteByte(c)
		case c == '\\' && !single && i+1 < len(s):
			b.WriteString(s[i : i+2])
			i++
		case c == '$' && !single:
			value, n, err := variable(s[i:], env)
			if err != nil {
				return "", err
			}
			b.WriteString(value)
			i += n - 1
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// variable is the value of what s begins with, and its length.
func variable(s string, env []string) (value string, n int, err error) {
	braced := strings.HasPrefix(s, "${")
	from := 1
	if braced {
		from = 2
	}
	to := from
	for to < len(s) && (s[to] == '_' || s[to] >= 'a' && s[to] <= 'z' || s[to] >= 'A' && s[to] <= 'Z' || to > from && s[to] >= '0' && s[to] <= '9') {
		to++
	}
	name := s[from:to]
	if name == "" && !braced {
		return "$", 1, nil
	}
	set := false
	for _, kv := range env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			value, set = v, true
		}
	}
	if !braced {
		return value, to, nil
	}
	end := strings.IndexByte(s, '}')
	if end < to || name == "" {
		return "", 0, fmt.Errorf("syntax error: bad substitution in %q", s)
	}
	switch rest := s[to:end]; {
	case rest == "":
	case strings.HasPrefix(rest, ":-"):
		if !set || value == "" {
			value = rest[2:]
		}
	case strings.HasPrefix(rest, ":+"):
		if !set || value == "" {
			return "", end + 1, nil
		}
		value = rest[2:]
	default:
		return "", 0, fmt.Errorf("unsupported modifier (%s) in substitution", rest)
	}
	return value, end + 1, nil
}

// healthcheck reads NONE, or options and CMD with a line or a JSON array (dockerfile(5)). Vitro keeps it and does not run it.
func healthcheck(c *image.ContainerConfig, rest string) error {
	h := &image.Healthcheck{}
	for strings.HasPrefix(rest, "--") {
		word, more, _ := strings.Cut(rest, " ")
		rest = strings.TrimSpace(more)
		name, value, _ := strings.Cut(word[2:], "=")
		to := map[string]*time.Duration{"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod, "start-interval": &h.StartInterval}[name]
		var err error
		switch {
		case name == "retries":
			if h.Retries, err = strconv.Atoi(value); err == nil && h.Retries < 0 {
				err = errors.New("must be 0 or more")
			}
		case to == nil:
			return fmt.Errorf("unknown flag: %s", name)
		default:
			if *to, err = time.ParseDuration(value); err == nil && *to != 0 && *to < time.Millisecond {
				err = errors.New("cannot be less than 1ms")
			}
		}
		if err != nil {
			return fmt.Errorf("HEALTHCHECK --%s %s: %w", name, value, err)
		}
	}
	kind, line, _ := strings.Cut(rest, " ")
	line = strings.TrimSpace(line)
	switch strings.ToUpper(kind) {
	case "NONE":
		if line != "" {
			return errors.New("HEALTHCHECK NONE takes no arguments")
		}
		h = &image.Healthcheck{Test: []string{"NONE"}}
	case "CMD":
		if line == "" {
			return errors.New("Missing command after HEALTHCHECK CMD")
		}
		if words, ok := jsonWords(line); ok {
			h.Test = append([]string{"CMD"}, words...)
		} else {
			h.Test = []string{"CMD-SHELL", line}
		}
	default:
		return fmt.Errorf("Unknown type %q in HEALTHCHECK (try CMD)", kind)
	}
	c.Healthcheck = h
	return nil
}
