package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

// leaks are what TestLeaker does in a process of its own, and what that process's Main must say.
var leaks = map[string]struct {
	leak func(t *testing.T)
	want string
}{
	"nothing": {func(*testing.T) {}, ""},
	"mount": {func(t *testing.T) {
		target := filepath.Join(runDir, "mount")
		if err := os.Mkdir(target, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("none", target, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}, "mount /"},
	"child": {func(t *testing.T) {
		if err := exec.Command("sleep", "60").Start(); err != nil {
			t.Fatal(err)
		}
	}, "process "},
	"orphan": {func(t *testing.T) {
		if err := exec.Command("sh", "-c", "cd /; exec 0</dev/null >/dev/null 2>&1; sleep 60 &").Run(); err != nil {
			t.Fatal(err)
		}
	}, "process "},
	"file": {func(t *testing.T) {
		if _, err := syscall.Open("/etc/passwd", syscall.O_RDONLY, 0); err != nil {
			t.Fatal(err)
		}
	}, "open file "},
	"folder": {func(t *testing.T) {
		if err := os.MkdirAll("/run/vitrun/"+ID(t), 0o700); err != nil {
			t.Fatal(err)
		}
	}, "folder /run/vitrun/TestLeaker-vt"},
}

func TestLeaker(t *testing.T) {
	if l, ok := leaks[os.Getenv("TESTENV_LEAK")]; ok {
		l.leak(t)
	}
}

func TestLeaks(t *testing.T) {
	Need(t, Root, MountNS)
	for name, l := range leaks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestLeaker$")
			cmd.Env = append(os.Environ(), "TESTENV_LEAK="+name)
			// The mounts of a leaking run go away with its namespace; its processes and its folder are ended below.
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			b, err := cmd.CombinedOutput()
			out := string(b)
			for line := range strings.Lines(out) {
				f := strings.Fields(line)
				switch {
				case len(f) == 4 && f[0] == "process" && f[2] == "sleep":
					if pid, err := strconv.Atoi(f[1]); err == nil {
						syscall.Kill(pid, syscall.SIGKILL)
					}
				case len(f) == 2 && f[0] == "folder":
					os.Remove(f[1])
					os.Remove("/run/vitrun") // only if it is empty
				}
			}
			if l.want == "" {
				if err != nil {
					t.Errorf("a clean run fails: %v\n%s", err, out)
				}
				return
			}
			if err == nil || !strings.Contains(out, "the tests left behind:\n\t"+l.want) {
				t.Errorf("%v, output:\n%s\nwant a line %q", err, out, l.want)
			}
		})
	}
}

func TestSkip(t *testing.T) {
	missing := Feature{Name: "a thing", Probe: func() error { return os.ErrNotExist }}
	optional, future := missing, missing
	optional.Optional = true
	future.Kernel = [2]int{99, 0}
	for _, tt := range []struct {
		mustWork string
		f        Feature
		want     string
	}{
		{"", missing, "skip"},
		{"1", missing, "fail"},
		{"1", optional, "skip"},
		{"1", future, "skip"},
		{"1", Feature{Probe: func() error { return nil }}, "run"},
	} {
		t.Setenv("MUST_WORK", tt.mustWork)
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			Need(r, tt.f)
			r.got = "run"
		}()
		<-done
		if r.got != tt.want {
			t.Errorf("MUST_WORK=%q, %+v: %s, want %s", tt.mustWork, tt.f, r.got, tt.want)
		}
	}
}

func TestRootfs(t *testing.T) {
	root := Rootfs(t)
	if l, err := os.Readlink(root + "/bin/true"); err != nil || l != "busybox" {
		t.Errorf("bin/true: %q %v", l, err)
	}
	Need(t, Root)
	cmd := exec.Command("/bin/id", "-u", "user")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "1000\n" {
		t.Errorf("id in the root filesystem: %q %v", out, err)
	}
}

func TestHelloPath(t *testing.T) {
	out, err := exec.Command(HelloPath(t), "echo", "hi").Output()
	if err != nil || string(out) != "hi\n" {
		t.Errorf("%q %v", out, err)
	}
}

// A recorder notes how Need ends instead of ending the test.
type recorder struct {
	testing.TB
	got string
}

func (r *recorder) Helper() {}

func (r *recorder) Skip(...any) { r.end("skip") }

func (r *recorder) Fatalf(string, ...any) { r.end("fail") }

func (r *recorder) end(how string) {
	r.got = how
	runtime.Goexit()
}
