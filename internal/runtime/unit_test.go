package runtime

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"vitro/internal/cgroup"
	"vitro/internal/compile"
	"vitro/internal/plan"
	"vitro/internal/sys"

	"github.com/opencontainers/runtime-spec/specs-go"

	"golang.org/x/sys/unix"
)

func TestCheckID(t *testing.T) {
	for _, id := range []string{"a", "c1", "A_b-c.d+e,f", "..a", strings.Repeat("x", 255)} {
		if err := checkID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for id, want := range map[string]string{
		"":                       "container id cannot be empty",
		".":                      "invalid container ID format: .",
		"..":                     "invalid container ID format: ..",
		"a/b":                    "invalid container ID format: a/b",
		"a b":                    "invalid container ID format: a b",
		"é":                      "invalid container ID format: é",
		strings.Repeat("x", 256): "invalid container ID format: " + strings.Repeat("x", 61) + "...",
	} {
		if err := checkID(id); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", id, err, want)
		}
	}
}

func TestRecordRoundTrip(t *testing.T) {
	c := &record{
		id: "c1", version: "1.3.0", init: process{12, 345}, created: "2026-01-02T03:04:05Z", bundle: "/b", rootfs: "/b/r",
		annotations: map[string]string{"k": "v\"\n"}, cgroups: []cgroup.Path{{Controller: "memory", Path: "/m/c1"}, {Controller: "", Path: "/u/c1"}},
		stub: "/memfd:vitrun (deleted)", privatePID: true, noKeyring: true, ready: true, texts: []failureText{{7, "x: %e"}},
	}
	got, err := decodeRecord(c.encode())
	if err != nil || !reflect.DeepEqual(c, got) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestStartError(t *testing.T) {
	b := plan.NewBuilder(4)
	b.Field("start", "")
	b.Sys(plan.Stub, unix.SYS_READ).As(waitStart)
	b.Field("process.args[0]", "x")
	b.Sys(plan.Stub, unix.SYS_EXECVE).Err(`exec "x": %e`)
	b.Sys(plan.Stub, unix.SYS_CAPSET)
	c := record{texts: failureTexts(b.Program)}
	for op, want := range map[byte]string{
		0: "start: wait for start: exec format error",
		1: `exec "x": exec format error`,
		2: "process.args[0] (x): capset: exec format error",
		9: "op 9: exec format error",
	} {
		rec := make([]byte, plan.RecordLen)
		rec[0], rec[4] = op, byte(unix.ENOEXEC)
		if err := c.startError(rec); err == nil || err.Error() != want {
			t.Errorf("op %d: got %v, want %s", op, err, want)
		}
	}
}

func TestProcessIdentity(t *testing.T) {
	st, ok := sys.ReadProcStat(os.Getpid())
	if !ok || st.Start == 0 {
		t.Fatal("no stat of this process")
	}
	p := process{os.Getpid(), st.Start}
	if err := p.signal(0); err != nil {
		t.Errorf("signal 0 to this process: %v", err)
	}
	p.start++ // a later process with the same pid
	if err := p.signal(0); err != unix.ESRCH {
		t.Errorf("another's pid: got %v", err)
	}
}

func TestForward(t *testing.T) {
	for n := 1; n <= 64; n++ {
		want := true
		switch syscall.Signal(n) {
		case 4, 5, 7, 8, 9, 11, 13, 17, 19, 20, 23, 27, 28, 32, 33:
			want = false
		}
		if forwarded(syscall.Signal(n)) != want {
			t.Errorf("signal %d: forwarded is %v", n, !want)
		}
	}
	f := forward()
	defer f.stop()
	kill := func(s syscall.Signal) { // to this process; it arrives before kill(2) returns or soon after
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	for _, early := range []bool{true, false} {
		pidfd := -1
		pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "60"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{PidFD: &pidfd}})
		if err != nil {
			t.Fatal(err)
		}
		if early {
			kill(syscall.SIGUSR1)
			time.Sleep(20 * time.Millisecond)
			f.to(pidfd)
		} else {
			f.to(pidfd)
			kill(syscall.SIGUSR1)
		}
		code, err := wait(pid, false)
		if err != nil || code != 128+int(syscall.SIGUSR1) {
			t.Errorf("early %v: status %d, %v", early, code, err)
		}
		unix.Close(pidfd)
		f.to(-1)
	}
}

func TestCheckTerminal(t *testing.T) {
	for _, c := range []struct {
		terminal, detach bool
		socket, want     string
	}{
		{false, false, "", ""},
		{true, false, "", ""},
		{true, true, "/s", ""},
		{false, true, "", ""},
		{true, true, "", "cannot allocate tty if vitrun will detach without setting console socket"},
		{false, true, "/s", "cannot use console socket if vitrun will not detach or allocate tty"},
		{true, false, "/s", "cannot use console socket if vitrun will not detach or allocate tty"},
	} {
		err := checkTerminal(c.terminal, c.detach, c.socket)
		if got := ""; err != nil && err.Error() != c.want || err == nil && c.want != got {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

func TestHalfMade(t *testing.T) {
	r := Runtime{Root: t.TempDir()}
	if err := os.Mkdir(filepath.Join(r.Root, "x"), 0o700); err != nil { // its creator died before the first record
		t.Fatal(err)
	}
	s, err := r.State("x")
	if err != nil || s.Status != "stopped" || s.Created == "" {
		t.Errorf("state %+v, %v", s, err)
	}
	if err := r.Delete("x", false); err != nil {
		t.Error(err)
	}
	if err := r.Delete("x", false); err != error(ErrNotExist) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := r.Delete("x", true); err != nil {
		t.Error(err)
	}
}

// TestHookOrder: who is in the container's pid namespace must not see a process that still holds something of the host (CAP_SYS_PTRACE
// alone would open /proc/PID/root), and the hook gets no file of ours.
func TestHookOrder(t *testing.T) {
	c := &container{record: record{init: process{pid: 100}, bundle: "/b"}}
	s := &specs.Spec{Process: &specs.Process{Cwd: "/", User: specs.User{UID: 1000}}}
	for kind, chain := range map[int][]string{
		startContainer:  {"clone3", "await 1", "SET_DUMPABLE 0", "wait for vitrun", "setns 0x9 NEWPID|NEWNS", "setns 0x9 NEWUSER", "fchdir", "chroot", "stub clone", "dup3", "close_range", "chdir /", "setresuid 0x3e8", "capset", "load the filter", "capset", "execve /h"},
		createContainer: {"clone3", "await 1", "SET_DUMPABLE 0", "wait for vitrun", "setns 0x9 NEWPID|NEWNS", "setns 0x9 NEWUSER", "fchdir", "chroot", "stub clone", "dup3", "close_range", "chdir /b", "execve /h"},
	} {
		p := c.hookProgram(&specs.Hook{Path: "/h"}, kind, s, &hookIO{}, 9, unix.CLONE_NEWPID|unix.CLONE_NEWNS|unix.CLONE_NEWUSER, &compile.Facts{Program: make([]byte, 8)})
		var b strings.Builder
		if err := p.Render(&b); err != nil {
			t.Fatal(err)
		}
		var words []string
		for line := range strings.Lines(b.String()) {
			words = append(words, strings.Join(strings.Fields(line), " "))
		}
		all := strings.ReplaceAll(strings.Join(words, "\n"), "prctl 4 0", "prctl SET_DUMPABLE 0")
		rest := all
		for _, want := range chain {
			_, after, ok := strings.Cut(rest, want)
			if !ok {
				t.Fatalf("kind %d: no %q behind what comes before it in:\n%s", kind, want, all)
			}
			rest = after
		}
	}
}
