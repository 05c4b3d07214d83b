package seccomp

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// errSkip says that an oracle has no answer.
var errSkip = errors.New("skip")

// pseudoCode asks libseccomp's pseudo code (PFC). It leaves out the x32 bit's handling, so numbers that x86_64 and x32
// do not have are skipped.
func (p *peer) pseudoCode(t *testing.T, s *specs.LinuxSeccomp, native specs.Arch) oracle {
	text := p.ask(t, s, native, "F\n")
	if text == nil {
		return nil
	}
	sections := map[string][]string{}
	section := ""
	for line := range strings.Lines(string(text)) {
		var name string
		line = strings.TrimRight(line, "\n")
		switch n, _ := fmt.Sscanf(line, "# filter for arch %s", &name); {
		case n == 1:
			section = name
		case strings.HasPrefix(line, "# invalid"):
			section = ""
		case section != "" && !strings.HasPrefix(strings.TrimSpace(line), "#"):
			sections[section] = append(sections[section], line)
		}
	}
	return func(d Data) (uint32, error) {
		name := ""
		for _, n := range append([]specs.Arch{native}, s.Architectures...) {
			a, _ := lookupArch(n)
			if a.audit != d.Arch || a.audit == 0xc000003e && (n == specs.ArchX32) != (d.Nr&x32Bit != 0) {
				continue
			}
			name = strings.ToLower(strings.TrimPrefix(string(n), "SCMP_ARCH_"))
		}
		switch {
		case d.Nr < 0 || name == "" && d.Arch == 0xc000003e:
			return 0, errSkip
		case name == "":
			return retKillThread, nil
		}
		action, err := runPseudo(sections[name], &d)
		if err == nil && action == "" {
			err = errors.New("no action")
		}
		if err != nil {
			return 0, fmt.Errorf("%w in %q: %s", err, name, text)
		}
		return pseudoAction(action)
	}
}

func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// runPseudo runs a block of lines and returns its first action, "" when it falls through.
func runPseudo(lines []string, d *Data) (string, error) {
	last := false // the last condition at this level
	for i := 0; i < len(lines); {
		line := strings.TrimSpace(lines[i])
		if rest, ok := strings.CutPrefix(line, "action "); ok {
			return strings.TrimSuffix(rest, ";"), nil
		}
		body := i + 1
		for body < len(lines) && indent(lines[body]) > indent(lines[i]) {
			body++
		}
		run := !last
		if !strings.HasPrefix(line, "else") {
			var err error
			if last, err = pseudoCond(line, d); err != nil {
				return "", err
			}
			run = last
		}
		if run {
			if action, err := runPseudo(lines[i+1:body], d); action != "" || err != nil {
				return action, err
			}
		}
		i = body
	}
	return "", nil
}

func pseudoCond(line string, d *Data) (bool, error) {
	f := strings.Fields(strings.TrimSuffix(strings.TrimPrefix(line, "if ("), ")"))
	if len(f) != 3 && len(f) != 5 {
		return false, fmt.Errorf("line %q", line)
	}
	var left, mask, right uint32 = 0, ^uint32(0), 0
	switch f[0] {
	case "$arch":
		left = d.Arch
	case "$syscall":
		left = uint32(d.Nr)
	default:
		if len(f[0]) < 3 || f[0][:2] != "$a" {
			return false, fmt.Errorf("line %q", line)
		}
		arg := d.Args[f[0][2]-'0']
		if left = uint32(arg); strings.HasSuffix(f[0], ".hi32") {
			left = uint32(arg >> 32)
		}
	}
	if len(f) == 5 {
		fmt.Sscanf(f[2], "0x%x", &mask)
		f = f[2:]
	}
	fmt.Sscan(f[2], &right)
	left &= mask
	switch f[1] {
	case "==":
		return left == right, nil
	case ">":
		return left > right, nil
	case ">=":
		return left >= right, nil
	case "!=":
		return left != right, nil
	case "<":
		return left < right, nil
	case "<=":
		return left <= right, nil
	}
	return false, fmt.Errorf("line %q", line)
}

func pseudoAction(s string) (uint32, error) {
	var data uint32
	name, arg, ok := strings.Cut(s, "(")
	if ok {
		fmt.Sscan(strings.TrimSuffix(arg, ")"), &data)
	}
	act := specs.LinuxSeccompAction("SCMP_ACT_" + name)
	ret, err := parseAction(act, nil, 0)
	if ok {
		ret = ret&^0xffff | data
	}
	return ret, err
}
