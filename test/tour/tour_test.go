package main

import (
	"strings"
	"testing"
)

const sample = "# T\n## 2. Two\ntext\n```console numbers\n$ echo a 12\na 13\n$ for i in 1 2; do\n> echo x$i; done\nx1\nx2\n```\n```sh\n$ no\n```\n```console v2\n$ c\n```\n"

func TestParse(t *testing.T) {
	d, err := parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.commands) != 3 {
		t.Fatal(len(d.commands))
	}
	c := d.commands[1]
	if c.text != "for i in 1 2; do\necho x$i; done" || strings.Join(c.want, "|") != "x1|x2" || c.step != 2 || !c.numbers || c.line != 7 {
		t.Errorf("%+v", c)
	}
	if d.commands[2].only != "v2" || d.commands[2].numbers {
		t.Errorf("%+v", d.commands[2])
	}
	d.commands[0].got, d.commands[0].changed = []string{"b", "c"}, true
	if got, want := d.render(), strings.Replace(sample, "a 13\n", "b\nc\n", 1); got != want {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{"```console\nx\n```", "```console z\n```", "```console\n$ a"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestSame(t *testing.T) {
	for _, c := range []struct {
		want, got string
		numbers   bool
		same      bool
	}{
		{"a\nb", "a\nb", false, true},
		{"a", "b", false, false},
		{"pid 1234 ns 4026531836", "pid 99 ns 4026532001", false, true},
		{"pid 1", "pid 2", false, false},
		{"uid 1000", "uid 1001", false, false}, // stands in a command
		{"mode 0600", "mode 0644", false, false},
		{"ns 4026531836 4026531836", "ns 4026532001 4026532001", false, true},
		{"ns 4026531836 4026531836", "ns 4026532001 4026532002", false, false},
		{"ns 4026531836 4026531837", "ns 4026532001 4026532001", false, false},
		{"rx 1", "rx 22.5", true, true},
		{"10.1.2.3 up", "10.1.2.4 up", false, false},
		{"10.1.2.3 up", "10.1.2.4 up", true, true},
		{"a\n…\nz", "a\nb\nc\nz", false, true},
		{"a\n…", "a", false, true},
		{"a … z", "a b c z", false, true},
		{"a … z", "a b c", false, false},
		{"up 3 seconds  x", "up Less than a second x", false, true},
		{"12 MB", "1.5 kB", false, true},
		{"64 MB", "65 MB", false, false},
	} {
		r := rules{numbers: c.numbers, exact: map[string]bool{"1000": true, "64": true}, bound: map[string]string{}}
		if got := r.same(strings.Split(c.want, "\n"), strings.Split(c.got, "\n")); got != c.same {
			t.Errorf("%q against %q: %v", c.want, c.got, got)
		}
	}
	id := strings.Repeat("0123456789ab", 6)[:64]
	r := rules{bound: map[string]string{}}
	if !r.same([]string{id}, []string{strings.Repeat("a", 64)}) || r.same([]string{id[:12]}, []string{"bbbbbbbbbbbb"}) {
		t.Error("a short id is not that of the long one")
	}
}

func TestShell(t *testing.T) {
	sh, err := newShell()
	if err != nil {
		t.Fatal(err)
	}
	defer sh.close()
	for _, c := range [][2]string{{"x=3", ""}, {"echo $x; cat; echo err >&2", "3|err"}, {"printf a", "a"}, {"false", ""}, {"echo $?", "1"}} {
		got, err := sh.run(c[0])
		if err != nil || strings.Join(got, "|") != c[1] {
			t.Errorf("%s: %q, %v", c[0], got, err)
		}
	}
}
