package main

import (
	"encoding/json"
	"slices"
	"testing"

	"vitro/internal/spec"

	"github.com/opencontainers/runtime-spec/specs-go/features"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		cmd  string
		args []string
		rest []string
		want string
	}{
		{"create", []string{"--bundle=/b", "-pid-file", "/p", "--no-pivot", "id"}, []string{"id"}, ""},
		{"create", []string{"id", "-b", "/b"}, []string{"id"}, ""},
		{"exec", []string{"-t=false", "id", "sh", "-c", "x"}, []string{"id", "sh", "-c", "x"}, ""},
		{"kill", []string{"--", "id", "-9"}, []string{"id", "-9"}, ""},
		{"kill", []string{"id", "-9"}, nil, "flag provided but not defined: -9"},
		{"run", []string{"--foo"}, nil, "flag provided but not defined: -foo"},
		{"run", []string{"-b"}, nil, "flag needs an argument: -b"},
		{"run", []string{"--preserve-fds", "x", "id"}, nil, `invalid value "x" for flag -preserve-fds: not a count`},
		{"run", []string{"--keep=maybe", "id"}, nil, "invalid boolean value for -keep"},
		{"exec", []string{"--process-label", "p", "id"}, nil, `invalid value "p" for flag -process-label: not supported yet`},
		{"exec", []string{"--help"}, nil, "help"},
	} {
		cmd := findCommand(c.cmd)
		rest, err := new(values).parse(cmd.options(), c.args, cmd.reorder)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want || err == nil && !slices.Equal(rest, c.rest) {
			t.Errorf("%s %v: %v, %q", c.cmd, c.args, rest, got)
		}
	}
}

func TestEveryOptionIsUnique(t *testing.T) {
	for _, c := range append(commands(), command{name: "vitrun", options: globalOptions}) {
		seen := map[string]bool{"": true}
		for _, o := range c.options() {
			for _, n := range []string{o.long, o.short} {
				if n != "" && seen[n] {
					t.Errorf("%s: -%s twice", c.name, n)
				}
				seen[n] = true
			}
		}
	}
}

func TestMountOptionsAreParsed(t *testing.T) {
	opts := mountOptions()
	if !slices.IsSorted(opts) {
		t.Error("not sorted")
	}
	for _, o := range opts {
		m, err := spec.ParseMountOptions([]string{o})
		if err != nil {
			t.Errorf("%s: %v", o, err)
		} else if slices.Contains(m.Data, o) {
			t.Errorf("%s is left to the file system", o)
		}
	}
}

func TestFeatures(t *testing.T) {
	out, code := vitrun(t, "", "features")
	var f features.Features
	if err := json.Unmarshal([]byte(out), &f); err != nil || code != 0 {
		t.Fatal(err, code)
	}
	if len(f.Hooks) != 6 || f.Linux == nil || !*f.Linux.Seccomp.Enabled || len(f.Linux.Capabilities) != 41 {
		t.Errorf("%+v", f)
	}
}

func TestFilterPS(t *testing.T) {
	out, err := filterPS("UID   PID CMD\nroot   12 a b\nroot  112 c\n", []int{12})
	if want := "UID   PID CMD\nroot   12 a b\n"; out != want || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := filterPS("CMD\na\n", nil); err == nil || err.Error() != "couldn't find PID field in ps output" {
		t.Error(err)
	}
}
