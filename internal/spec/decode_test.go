package spec

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDecodeErrors(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{``, `unexpected end of the text, want a value (offset 0)`},
		{` [`, `want an object, got an array (offset 1)`},
		{`7`, `want an object, got a number (offset 0)`},
		{`{`, `unexpected end of the text, want a value or '}' (offset 1)`},
		{`{"ociVersion":"1.0.0",}`, `ociVersion: unexpected '}', want a key (offset 22)`},
		{`{"ociVersion" "1.0.0"}`, `unexpected '"', want ':' (offset 14)`},
		{`{"ociVersion":"1.0.0" "a"`, `ociVersion: unexpected '"', want ',' or '}' (offset 22)`},
		{`{} {}`, `unexpected data after the JSON value (offset 3)`},
		{"\ufeff{}", `unexpected '\ufeff', want a value (offset 0)`},
		{`{"ociVersion":1}`, `ociVersion: want a string, got a number (offset 14)`},
		{`{"ociVersion":"a`, `ociVersion: unexpected end of the text, want '"' (offset 16)`},
		{`{"ociVersion":"\x"}`, `ociVersion: invalid escape in a string (offset 15)`},
		{"{\"ociVersion\":\"\n\"}", `ociVersion: control character in a string (offset 15)`},
		{`{"process":[]}`, `process: want an object, got an array (offset 11)`},
		{`{"process":{"terminal":"yes"}}`, `process.terminal: want a boolean, got a string (offset 23)`},
		{`{"process":{"terminal":tru}}`, `process.terminal: unexpected 't', want a value (offset 23)`},
		{`{"process":{"user":{"uid":"0"}}}`, `process.user.uid: want a number, got a string (offset 26)`},
		{`{"process":{"user":{"uid":-1}}}`, `process.user.uid: -1 is out of range (0 to 4294967295) (offset 26)`},
		{`{"process":{"user":{"uid":4294967296}}}`, `process.user.uid: 4294967296 is out of range (0 to 4294967295) (offset 26)`},
		{`{"process":{"user":{"uid":1.5}}}`, `process.user.uid: want a whole number, got 1.5 (offset 26)`},
		{`{"process":{"user":{"uid":01}}}`, `process.user.uid: unexpected '1', want ',' or '}' (offset 27)`},
		{`{"process":{"user":{"additionalGids":[1,true]}}}`, `process.user.additionalGids[1]: want a number, got a boolean (offset 40)`},
		{`{"process":{"args":"sh"}}`, `process.args: want an array, got a string (offset 19)`},
		{`{"process":{"args":["a",{}]}}`, `process.args[1]: want a string, got an object (offset 24)`},
		{`{"process":{"rlimits":[{"hard":18446744073709551616}]}}`, `process.rlimits[0].hard: 18446744073709551616 is out of range (0 to 18446744073709551615) (offset 31)`},
		{`{"process":{"capabilities":{"bounding":{}}}}`, `process.capabilities.bounding: want an array, got an object (offset 39)`},
		{`{"mounts":[{},{"options":[3]}]}`, `mounts[1].options[0]: want a string, got a number (offset 26)`},
		{`{"hooks":{"prestart":[{"timeout":9223372036854775808}]}}`, `hooks.prestart[0].timeout: 9223372036854775808 is out of range (-9223372036854775808 to 9223372036854775807) (offset 33)`},
		{`{"linux":{"sysctl":{"net.ipv4.ip_forward":1}}}`, `linux.sysctl["net.ipv4.ip_forward"]: want a string, got a number (offset 42)`},
		{`{"linux":{"timeOffsets":{"boottime":{"secs":"1"}}}}`, `linux.timeOffsets.boottime.secs: want a number, got a string (offset 44)`},
		{`{"linux":{"namespaces":[{"type":"pid"},{"type":2}]}}`, `linux.namespaces[1].type: want a string, got a number (offset 47)`},
		{`{"linux":{"resources":{"memory":{"limit":1e9}}}}`, `linux.resources.memory.limit: want a whole number, got 1e9 (offset 41)`},
		{`{"linux":{"seccomp":{"syscalls":[{"names":null,"args":[{"index":{}}]}]}}}`, `linux.seccomp.syscalls[0].args[0].index: want a number, got an object (offset 64)`},
		{`{"x":[1,}`, `x[1]: unexpected '}', want a value (offset 8)`},
		{`{"x":` + strings.Repeat("[", 10001), "x" + strings.Repeat("[0]", 200)[:119] + "..." + strings.Repeat("[0]", 200)[600-80:] + ": nested too deeply (offset 10004)"},
	} {
		_, _, err := Decode([]byte(tc.text))
		if err == nil {
			t.Errorf("%.60s: no error, want %s", tc.text, tc.want)
		} else if have := err.Error(); have != tc.want {
			t.Errorf("%.60s:\nhave %.300s\nwant %.300s", tc.text, have, tc.want)
		}
	}
}

func TestDecodeWarnings(t *testing.T) {
	text := `{"Hostname":"a","hostname":"b","x-y":{"z":[1,{"a":null}]},"process":{"args":["\ud800","` + "\xff" + `"]},"linux":{"sysctl":{"a.b":"1","a.b":"2"}}}`
	s, warnings, err := Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, w := range warnings {
		have = append(have, w.String())
	}
	want := []string{
		`Hostname: read as "hostname" (offset 12)`,
		`hostname: repeated field, the last one counts (offset 27)`,
		`x-y: unknown field, ignored (offset 37)`,
		`process.args[1]: not valid UTF-8, replaced by U+FFFD (offset 86)`,
		`linux.sysctl["a.b"]: repeated field, the last one counts (offset 127)`,
	}
	if strings.Join(have, "\n") != strings.Join(want, "\n") {
		t.Errorf("have\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
	if s.Hostname != "b" || s.Linux.Sysctl["a.b"] != "2" || s.Process.Args[0] != "\ufffd" {
		t.Errorf("%+v", s)
	}
}

func TestRepeatedFieldReplaces(t *testing.T) {
	s, _, err := Decode([]byte(`{"process":{"user":{"uid":7},"user":{"gid":8},"args":["a","b"],"args":["c"]},"linux":{"mountLabel":"x"},"linux":null}`))
	if err != nil {
		t.Fatal(err)
	}
	if s.Process.User.UID != 0 || s.Process.User.GID != 8 || len(s.Process.Args) != 1 || s.Linux != nil {
		t.Errorf("%+v", s.Process)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	_, _, err := Load(dir)
	if want := "JSON specification file " + dir + "/config.json not found"; err == nil || err.Error() != want || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("have %v, want %s", err, want)
	}
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, []byte(`{"process":{"user":{"uid":"x"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = Load(dir)
	if want := `config.json: process.user.uid: want a number, got a string (offset 26)`; err == nil || err.Error() != want {
		t.Errorf("have %v, want %s", err, want)
	}
	if err := os.WriteFile(file, dockerLike(t), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, w, err := Load(dir); err != nil || len(w) > 0 || len(s.Linux.Seccomp.Syscalls) == 0 {
		t.Error(w, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	_, _, err = Load(dir)
	if want := "read " + file + ": is a directory"; err == nil || err.Error() != want {
		t.Errorf("have %v, want %s", err, want)
	}
}

func FuzzDecode(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.json")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{
		`null`, `{"linux":null}`, `{"process":{"args":[null,"\u00e9\ud83d\ude00\ud83d"]}}`, `{"vm":{"a":1},"Vm":null}`,
		`{"process":{"oomScoreAdj":-0,"user":{"uid":-0}}}`, `{"hoſtname":"long s"}`, `{"linux":{"sysctl":{"":"\/"}}}`, "{\"a\":\"\x80\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) { alike(t, b) })
}
