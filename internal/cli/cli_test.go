package cli

import (
	"bytes"
	"testing"
)

func TestDetachKeys(t *testing.T) {
	for in, want := range map[string]string{"": "", "ctrl-p,ctrl-q": "\x10\x11", "a,ctrl-@": "a\x00", "ctrl-pp": "!", "xy": "!"} {
		keys, err := parseDetachKeys(in)
		if got := string(keys); err == nil && got != want || err != nil && want != "!" {
			t.Errorf("%q: %q %v", in, got, err)
		}
	}
}

// Input goes through as it is, but for the keys, also when they come in two reads.
func TestDetacher(t *testing.T) {
	for _, c := range []struct {
		in    []string
		out   string
		leave bool
	}{
		{[]string{"abc"}, "abc", false},
		{[]string{"a\x10\x11b"}, "a", true},
		{[]string{"a\x10", "\x11"}, "a", true},
		{[]string{"a\x10", "b\x10\x10\x11"}, "a\x10b\x10", true},
	} {
		d, out, leave := detacher{keys: []byte{0x10, 0x11}}, []byte(nil), false
		for _, in := range c.in {
			var o []byte
			o, leave = d.filter([]byte(in))
			out = append(out, o...)
		}
		if string(out) != c.out || leave != c.leave {
			t.Errorf("%q: %q %v", c.in, out, leave)
		}
	}
}

func TestTable(t *testing.T) {
	rows := []psRow{{ID: "0123456789ab", Image: "bb", Command: `"sh"`, RunningFor: "2 minutes ago", Status: "Up 2 minutes", Names: "x", State: "running"}}
	for _, c := range []struct {
		quiet        bool
		format, want string
	}{
		{false, "table", "CONTAINER ID   IMAGE   COMMAND   CREATED         STATUS         PORTS   NAMES\n0123456789ab   bb      \"sh\"      2 minutes ago   Up 2 minutes           x\n"},
		{true, "table", "0123456789ab\n"},
		{false, `{{.Names}}\t{{upper .State}}`, "x\tRUNNING\n"},
		{false, `{{json .Names}}`, "\"x\"\n"},
	} {
		var b bytes.Buffer
		if err := printPS(&b, rows, c.quiet, false, c.format); err != nil || b.String() != c.want {
			t.Errorf("%s: %v\n%s", c.format, err, b.String())
		}
	}
	if err := printPS(&bytes.Buffer{}, rows, false, false, "{{.Nope}}"); err == nil {
		t.Error("an unknown field was printed")
	}
	if _, err := parseFilters(nil, []string{"colour=red"}); err == nil || err.Error() != "invalid filter 'colour=red'" && err.Error() != "invalid filter 'colour'" {
		t.Error(err)
	}
}
