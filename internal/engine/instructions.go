package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"vitro/internal/image"
)

// applyInstruction applies a Dockerfile instruction of commit --change or import --change to an image's config, with
// Docker's messages (dockerfile(5)).
func applyInstruction(c *image.ContainerConfig, line string) error {
	name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	name, rest = strings.ToUpper(name), strings.TrimSpace(rest)
	if rest == "" && name != "CMD" && name != "ENTRYPOINT" {
		return fmt.Errorf("%s requires %s argument", name, map[bool]string{true: "exactly one", false: "at least one"}[name == "USER" || name == "WORKDIR"])
	}
	switch name {
	case "ENV", "LABEL", "EXPOSE", "VOLUME", "USER", "WORKDIR", "STOPSIGNAL":
		var err error
		if rest, err = expand(rest, c.Env); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if name == "USER" || name == "WORKDIR" { // the others are split into words, or have no quotes
			rest = unquote(rest)
		}
	}
	switch name {
	case "HEALTHCHECK":
		return healthcheck(c, rest)
	case "CMD":
		c.Cmd = command(rest)
	case "ENTRYPOINT":
		c.Entrypoint = command(rest)
	case "ENV":
		return pairs(name, rest, func(k, v string) { c.Env = mergeEnv(c.Env, []string{k + "=" + v}) })
	case "LABEL":
		c.Labels = maps.Clone(c.Labels)
		return pairs(name, rest, func(k, v string) {
			if c.Labels == nil {
				c.Labels = map[string]string{}
			}
			c.Labels[k] = v
		})
	case "EXPOSE":
		return expose(c, strings.Fields(rest))
	case "VOLUME":
		c.Volumes = maps.Clone(c.Volumes)
		for _, v := range list(rest) {
			if c.Volumes == nil {
				c.Volumes = map[string]struct{}{}
			}
			if v == "" {
				return errors.New("VOLUME specified can not be an empty string")
			}
			c.Volumes[v] = struct{}{}
		}
	case "USER":
		c.User = rest
	case "WORKDIR":
		if !path.IsAbs(rest) {
			rest = path.Join("/", c.WorkingDir, rest)
		}
		c.WorkingDir = path.Clean(rest)
	case "ONBUILD":
		return onbuild(c, rest)
	case "STOPSIGNAL":
		if _, err := ParseSignal(rest); err != nil {
			return err
		}
		c.StopSignal = rest
	default:
		return fmt.Errorf("%s is not a valid change command", strings.ToLower(name))
	}
	return nil
}

// unquote takes quotes and backslashes away from what is one word.
func unquote(s string) string {
	words, err := splitWords(s)
	if err != nil || len(words) != 1 {
		return s
	}
	return words[0]
}

func onbuild(c *image.ContainerConfig, rest string) error {
	trigger, _, _ := strings.Cut(strings.ToUpper(rest), " ")
	switch trigger {
	case "ONBUILD":
		return errors.New("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
	case "MAINTAINER", "FROM":
		return fmt.Errorf("%s isn't allowed as an ONBUILD trigger", trigger)
	}
	c.OnBuild = append(slices.Clone(c.OnBuild), rest)
	return nil
}

// command is a JSON array of words or, as Docker has it, a line for the shell.
func command(s string) []string {
	if words, ok := jsonWords(s); ok {
		return words
	}
	if s == "" {
		return nil
	}
	return []string{"/bin/sh", "-c", s}
}

func jsonWords(s string) (words []string, ok bool) {
	if !strings.HasPrefix(s, "[") || json.Unmarshal([]byte(s), &words) != nil {
		return nil, false
	}
	return words, true
}

// list is a JSON array, or words.
func list(s string) []string {
	if words, ok := jsonWords(s); ok {
		return words
	}
	return strings.Fields(s)
}

func expose(c *image.ContainerConfig, ports []string) error {
	c.ExposedPorts = maps.Clone(c.ExposedPorts)
	if c.ExposedPorts == nil {
		c.ExposedPorts = map[string]struct{}{}
	}
	for _, p := range ports {
		span, proto, ok := strings.Cut(p, "/")
		if !ok {
			proto = "tcp"
		}
		if proto = strings.ToLower(proto); proto != "tcp" && proto != "udp" && proto != "sctp" {
			return fmt.Errorf("Invalid proto: %s", proto)
		}
		first, last, ranged := strings.Cut(span, "-")
		if !ranged {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || from > to {
			return fmt.Errorf("Invalid containerPort: %s", span)
		}
		for n := from; n <= to; n++ {
			c.ExposedPorts[fmt.Sprintf("%d/%s", n, proto)] = struct{}{}
		}
	}
	return nil
}

// pairs reads KEY=VALUE words, or the old form KEY VALUE of one pair.
func pairs(name, s string, set func(k, v string)) error {
	words, err := splitWords(s)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if first, _, _ := strings.Cut(s, " "); !strings.Contains(first, "=") && !strings.HasPrefix(s, `"`) && !strings.HasPrefix(s, "'") {
		k, v, ok := strings.Cut(s, " ")
		if !ok {
			return fmt.Errorf("%s must have two arguments", name)
		}
		set(k, strings.TrimSpace(v))
		return nil
	}
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return fmt.Errorf("Syntax error - can't find = in %q. Must be of the form: name=value", w)
		}
		if k == "" {
			return fmt.Errorf("%s names can not be blank", name)
		}
		set(k, v)
	}
	return nil
}

// splitWords splits at spaces; quotes and backslashes protect and are taken away, as in a Dockerfile.
func splitWords(s string) (words []string, err error) {
	var b strings.Builder
	in, quote := false, byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
			in = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, in = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if in {
				words = append(words, b.String())
				b.Reset()
			}
			in = false
		default:
			b.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, errors.New("unexpected end of statement while looking for matching quote")
	}
	if in {
		words = append(words, b.String())
	}
	return words, nil
}
