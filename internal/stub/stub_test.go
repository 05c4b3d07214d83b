package stub

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vitro/internal/plan"

	"golang.org/x/sys/unix"
)

// run executes a program whose stub ops are made by body, ending in exit_group(code).
func run(t *testing.T, code int, body func(b *plan.Builder)) (*Launch, error) {
	t.Helper()
	b := plan.NewBuilder(16)
	b.Field("test", "")
	b.CloneOp()
	b.Sys(plan.Stub, unix.SYS_PRCTL, plan.Int(unix.PR_SET_NAME), b.Str(StubComm))
	body(b)
	b.Sys(plan.Stub, unix.SYS_EXIT_GROUP, plan.Int(code))
	before := slices.Clone(b.Ops)
	l, err := Run(b.Program, true, Options{})
	if !slices.EqualFunc(before, b.Ops, func(x, y plan.Op) bool { return x.Nr == y.Nr && x.Kind == y.Kind && x.Field == y.Field }) {
		t.Error("the op list changed while it ran")
	}
	return l, err
}

// status is the exit status of a stub that left by exit_group: reported as a death before execve.
func status(t *testing.T, err error) int {
	t.Helper()
	var d *DiedError
	if !errors.As(err, &d) {
		t.Fatalf("got %v, want the stub's exit", err)
	}
	return d.Status.ExitStatus()
}

func TestExitAndSlots(t *testing.T) {
	_, err := run(t, 9, func(b *plan.Builder) {
		s := b.Slot()
		b.Sys(plan.Stub, unix.SYS_DUP, plan.Int(2)).To(s)
		b.Sys(plan.Stub, unix.SYS_FCNTL, plan.Val(s), plan.Int(unix.F_GETFD))
		b.Sys(plan.Stub, unix.SYS_CLOSE, plan.Val(s))
		b.Sys(plan.Stub, unix.SYS_FCNTL, plan.Val(s), plan.Int(unix.F_GETFD)).On(unix.EBADF, 1)
		b.Sys(plan.Stub, unix.SYS_EXIT_GROUP, plan.Int(1))
	})
	if got := status(t, err); got != 9 {
		t.Errorf("status %d", got)
	}
}

func TestFailureNamesOp(t *testing.T) {
	_, err := run(t, 0, func(b *plan.Builder) {
		b.Field("mounts[3]", "/dev/pts")
		b.Sys(plan.Stub, unix.SYS_CHDIR, b.Str("/no/such/folder")).As("mount devpts")
	})
	if err == nil || err.Error() != "mounts[3] (/dev/pts): mount devpts: no such file or directory" {
		t.Errorf("got %v", err)
	}
	if !errors.Is(err, syscall.ENOENT) {
		t.Error("not ENOENT")
	}
}

func TestTolerateSkipRetryExpect(t *testing.T) {
	cases := map[string]struct {
		body func(b *plan.Builder)
		want int
		err  string
	}{
		"tolerated": {func(b *plan.Builder) {
			b.Sys(plan.Stub, unix.SYS_CHDIR, b.Str("/nope")).Tolerate(unix.EPERM, unix.ENOENT)
		}, 5, ""},
		"skip on success": {func(b *plan.Builder) {
			b.Sys(plan.Stub, unix.SYS_CHDIR, b.Str("/")).Ok(2)
			b.Sys(plan.Stub, unix.SYS_EXIT_GROUP, plan.Int(1))
			b.Sys(plan.Stub, unix.SYS_EXIT_GROUP, plan.Int(2))
		}, 5, ""},
		"any errno": {func(b *plan.Builder) {
			b.Sys(plan.Stub, unix.SYS_CHDIR, b.Str("/nope")).On(plan.AnyErrno, 1)
			b.Sys(plan.Stub, unix.SYS_EXIT_GROUP, plan.Int(1))
		}, 5, ""},
		"retries end": {func(b *plan.Builder) {
			b.Sys(plan.Stub, unix.SYS_CHDIR, b.Str("/nope")).Again(unix.ENOENT, 1000)
		}, 0, "test: chdir: no such file or directory"},
		"expect": {func(b *plan.Builder) {
			b.Sys(plan.Stub, unix.SYS_GETPID).Want(1)
		}, 0, "test: getpid: input/output error"},
		"test and copy": {func(b *plan.Builder) {
			buf := b.Scratch(16)
			b.Copy(plan.Stub, buf, b.U32s(0x11223344), 4)
			b.Test(plan.Stub, buf, 4, 0xffff0000, 0x11220000, unix.EBADMSG).Ok(1)
			b.Sys(plan.Stub, unix.SYS_EXIT_GROUP, plan.Int(1))
			b.Test(plan.Stub, buf, 2, 0xffff, 1, unix.EBADMSG).On(unix.EBADMSG, 1)
			b.Sys(plan.Stub, unix.SYS_EXIT_GROUP, plan.Int(2))
			b.Skip(plan.Stub, 1)
			b.Sys(plan.Stub, unix.SYS_EXIT_GROUP, plan.Int(3))
		}, 5, ""},
		"test fails": {func(b *plan.Builder) {
			b.Test(plan.Stub, b.U32s(7), 4, 7, 6, unix.EBADMSG).Err("dev/null is no device: %e")
		}, 0, "dev/null is no device: bad message"},
		"slot address": {func(b *plan.Builder) {
			s := b.Slot()
			b.Copy(plan.Stub, plan.Addr(s), b.Words(42), 8)
			b.Test(plan.Stub, plan.Addr(s), 8, ^uint64(0), 42, unix.EBADMSG)
			b.Sys(plan.Stub, unix.SYS_EXIT_GROUP, plan.Val(s))
		}, 42, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := run(t, 5, c.body)
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			}
			if got := status(t, err); got != c.want {
				t.Errorf("status %d, want %d", got, c.want)
			}
		})
	}
}

func TestExecSyncAndInheritedFD(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b := plan.NewBuilder(16)
	fd := b.Slot()
	b.Sys(plan.Parent, unix.SYS_FCNTL, plan.Int(int(w.Fd())), plan.Int(unix.F_DUPFD_CLOEXEC), plan.Int(10)).To(fd)
	b.Keep = append(b.Keep, fd)
	b.CloneOp()
	read := b.Scratch(1)
	b.Call(plan.Sync, "ack")
	b.Sys(plan.Stub, unix.SYS_READ, plan.Val(plan.SlotChan), read, plan.Int(1)).Want(1)
	b.Sys(plan.Stub, unix.SYS_DUP3, plan.Val(fd), plan.Int(1), plan.Int(0))
	b.Sys(plan.Stub, unix.SYS_FCNTL, plan.Val(plan.SlotChan), plan.Int(unix.F_SETFD), plan.Int(1))
	b.Sys(plan.Stub, unix.SYS_EXECVE, b.Str("/bin/echo"), b.Vec([]string{"echo", "from", "the stub"}), b.Vec(nil))
	l, err := Run(b.Program, true, Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	var st syscall.WaitStatus
	syscall.Wait4(l.PID, &st, 0, nil)
	unix.Close(l.PIDFD)
	var out bytes.Buffer
	out.ReadFrom(r)
	if !l.Exec || st.ExitStatus() != 0 || out.String() != "from the stub\n" {
		t.Errorf("exec %v status %v output %q", l.Exec, st, out.String())
	}
}

// A parent that dies at a sync must end the stub: read returns 0, not success (runc #4534).
func TestParentsDeathEndsStub(t *testing.T) {
	b := plan.NewBuilder(8)
	b.CloneOp()
	b.Sys(plan.Stub, unix.SYS_READ, plan.Val(plan.SlotChan), b.Scratch(1), plan.Int(1)).Want(1)
	b.Sys(plan.Stub, unix.SYS_EXIT_GROUP, plan.Int(0))
	l, err := Run(b.Program, false, Options{}) // closes the channel on return, as a death would
	if err != nil {
		t.Fatal(err)
	}
	var st syscall.WaitStatus
	syscall.Wait4(l.PID, &st, 0, nil)
	unix.Close(l.PIDFD)
	if st.ExitStatus() != 1 {
		t.Errorf("status %v, want the failure's 1", st)
	}
}

// The arm64 interpreter cannot be started by ForkExec under qemu-user (no CLONE_VFORK|CLONE_PIDFD there), so the arm64 test binary
// only writes the ELF file, and qemu runs that.
func TestARM64(t *testing.T) {
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		t.Skip("needs qemu-aarch64-static (Debian: qemu-user-static)")
	}
	dir := t.TempDir()
	bin, out := dir+"/stub.test", dir+"/stub.elf"
	build := exec.Command("go", "test", "-c", "-o", bin, ".")
	build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if msg, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, msg)
	}
	write := exec.Command(qemu, bin, "-test.run", "^TestWriteELF$")
	write.Env = append(os.Environ(), "STUB_ELF="+out)
	if msg, err := write.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, msg)
	}
	got, err := exec.Command(qemu, out).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%v: %s", err, got)
	}
	want := append([]byte("hello\n"), 9, 0, 0, 0, byte(unix.ENOENT), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	if !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestWriteELF is TestARM64's other half: slots, tests, copies, skips and retries, "hello", then a failing op 9 whose record goes to fd 1.
func TestWriteELF(t *testing.T) {
	out := os.Getenv("STUB_ELF")
	if out == "" {
		t.Skip("only for TestARM64")
	}
	b := plan.NewBuilder(8)
	s, buf := b.Slot(), b.Scratch(8)
	b.Sys(plan.Stub, unix.SYS_DUP, plan.Int(1)).To(s)
	b.Sys(plan.Stub, unix.SYS_CHDIR, b.Str("/nope")).On(unix.ENOENT, 1)
	b.Sys(plan.Stub, unix.SYS_EXIT_GROUP, plan.Int(3))
	b.Copy(plan.Stub, buf, b.U32s(0x11223344), 4)
	b.Test(plan.Stub, buf, 2, 0xffff, 0x3344, unix.EBADMSG).Ok(1)
	b.Sys(plan.Stub, unix.SYS_EXIT_GROUP, plan.Int(4))
	b.Test(plan.Stub, buf, 8, 0xff, 1, unix.EBADMSG).Tolerate(unix.EBADMSG)
	b.Sys(plan.Stub, unix.SYS_WRITE, plan.Val(s), b.Str("hello\n"), plan.Int(6)).Want(6)
	b.Skip(plan.Stub, 0)
	b.Sys(plan.Stub, unix.SYS_CHDIR, b.Str("/nope")).Again(unix.ENOENT, 3)
	if err := os.WriteFile(out, Encode(b.Program, make([]uint64, b.NSlots), 1), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestELF(t *testing.T) {
	b := plan.NewBuilder(4)
	b.Sys(plan.Stub, unix.SYS_EXECVE, b.Str("/bin/true"), b.Vec([]string{"true"}), b.Vec(nil))
	raw := Encode(b.Program, make([]uint64, b.NSlots), 3)
	f, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_EXEC || len(f.Progs) != 3 || f.Entry != codeBase+codeOff {
		t.Errorf("%v %d %#x", f.Type, len(f.Progs), f.Entry)
	}
	for _, p := range f.Progs {
		if p.Flags&(elf.PF_W|elf.PF_X) == elf.PF_W|elf.PF_X {
			t.Error("a segment is writable and executable")
		}
	}
	if n := len(interpreter()); n < 200 || n > 700 {
		t.Errorf("the interpreter is %d bytes", n)
	}
	if !strings.Contains(string(raw), "/bin/true\x00") {
		t.Error("operand missing")
	}
}
