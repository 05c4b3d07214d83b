package monitor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func fixedLog(t *testing.T) *Log {
	l := OpenLog(filepath.Join(t.TempDir(), "json.log"))
	l.now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC) }
	t.Cleanup(func() { l.Close() })
	return l
}

func readAll(t *testing.T, path string, tail int) (out []string) {
	t.Helper()
	err := ReadLog(path, ReadOptions{Tail: tail}, func(e Entry) error {
		out = append(out, e.Stream+":"+e.Log)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLogFormat(t *testing.T) {
	l := fixedLog(t)
	out, errs := l.Stream("stdout"), l.Stream("stderr")
	for _, p := range []string{"one\ntw", "o\n"} {
		if n, err := out.Write([]byte(p)); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	_, _ = errs.Write([]byte("a \"b\" \\ \t\r\x01<é>\xff\u2028"))
	if err := errs.Flush(); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(l.path)
	const at = `,"time":"2026-01-02T03:04:05.000006Z"}` + "\n"
	want := `{"log":"one\n","stream":"stdout"` + at + `{"log":"two\n","stream":"stdout"` + at +
		`{"log":"a \"b\" \\ \t\r\u0001\u003cé\u003e\ufffd\u2028","stream":"stderr"` + at
	if string(b) != want {
		t.Errorf("%s\nwant\n%s", b, want)
	}
}

// A line that is too long comes in parts, of which only the last has a newline.
func TestLogParts(t *testing.T) {
	l := fixedLog(t)
	s := l.Stream("stdout")
	long := strings.Repeat("x", 2*partSize+5) + "\nshort\n"
	_, _ = s.Write([]byte(long))
	got := readAll(t, l.path, -1)
	if len(got) != 4 || strings.ReplaceAll(strings.Join(got, ""), "stdout:", "") != long {
		t.Errorf("%d parts", len(got))
	}
}

func TestLogRotation(t *testing.T) {
	l := fixedLog(t)
	l.max = 400
	s := l.Stream("stdout")
	for i := range 100 {
		_, _ = s.Write([]byte(strings.Repeat("y", i) + "\n"))
	}
	files, _ := filepath.Glob(l.path + "*")
	if len(files) != LogMaxFiles {
		t.Errorf("files: %v", files)
	}
	got := readAll(t, l.path, -1)
	if last := got[len(got)-1]; last != "stdout:"+strings.Repeat("y", 99)+"\n" {
		t.Errorf("last entry %q", last)
	}
	if !slices.IsSortedFunc(got, func(a, b string) int { return len(a) - len(b) }) {
		t.Error("not in order")
	}
	if two := readAll(t, l.path, 2); !slices.Equal(two, got[len(got)-2:]) {
		t.Errorf("tail: %q", two)
	}
	if none := readAll(t, l.path, 0); none != nil {
		t.Errorf("tail 0: %q", none)
	}
}

// Follow reads on over a rotation, skips a line that a crash cut off, and stops when told that no more comes.
func TestLogFollow(t *testing.T) {
	l := fixedLog(t)
	l.max = 300
	s := l.Stream("stdout")
	_, _ = s.Write([]byte("first\n"))
	f, _ := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0)
	_, _ = f.WriteString(`{"log":"cut` + "\n")
	f.Close()
	round := 0
	var got []string
	err := ReadLog(l.path, ReadOptions{Tail: -1, Follow: func() bool {
		round++
		if round < 8 {
			_, _ = s.Write([]byte(strings.Repeat("z", 50) + "\n"))
		}
		return round < 8
	}}, func(e Entry) error { got = append(got, e.Log); return nil })
	if err != nil || len(got) != 8 || got[0] != "first\n" {
		t.Errorf("%v %q", err, got)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte("plain\n"))
	f.Add([]byte{0, 0xff, '"', '\\', 0xe2, 0x80, 0xa8})
	f.Fuzz(func(t *testing.T, line []byte) {
		var e Entry
		if err := json.Unmarshal(appendEntry(nil, line, "stdout", time.Now()), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if want := strings.ToValidUTF8(string(line), "\ufffd"); strings.ReplaceAll(e.Log, "\ufffd", "") != strings.ReplaceAll(want, "\ufffd", "") {
			t.Errorf("%q became %q", line, e.Log)
		}
	})
}
