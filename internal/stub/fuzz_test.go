package stub

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"vitro/internal/plan"

	"golang.org/x/sys/unix"
)

// random appends n ops by do: calls that change nothing outside, tests, copies, skips and retries. Each op's tail marks it as reached in log.
func random(r *rand.Rand, b *plan.Builder, do plan.Doer, n int) (log plan.Arg) {
	log = b.Scratch(8 * n)
	slots := []plan.Slot{b.Slot(), b.Slot(), b.Slot()}
	buf := b.Scratch(32)
	pick := func() plan.Slot { return slots[r.IntN(len(slots))] }
	widths := []int{1, 2, 4, 8}
	errs := []syscall.Errno{unix.ENOENT, unix.EBADF, unix.EINVAL, unix.EBADMSG, plan.AnyErrno}
	for k := range n {
		var o *plan.Op
		w := widths[r.IntN(4)]
		switch r.IntN(8) {
		case 0:
			o = b.Sys(do, unix.SYS_CHDIR, b.Str([]string{".", "/no/such"}[r.IntN(2)]))
		case 1:
			o = b.Sys(do, unix.SYS_FCNTL, plan.Int(r.IntN(2)*9999), plan.Int(unix.F_GETFL)) // fd 0 or none
		case 2:
			o = b.Sys(do, unix.SYS_LSEEK, plan.Int(9999), plan.Val(pick()), plan.Int(0)).To(pick())
		case 3:
			o = b.Test(do, plan.Addr(pick()), w, r.Uint64()&0xff, uint64(r.IntN(3)), unix.EBADMSG)
		case 4:
			o = b.Copy(do, plan.Addr(pick()), b.Words(r.Uint64()&0x0303030303030303), w)
		case 5:
			o = b.Copy(do, buf.At(r.IntN(3)*8), plan.Addr(pick()), w)
		case 6:
			o = b.Test(do, buf.At(r.IntN(4)*8), w, r.Uint64(), 0, unix.EINVAL)
		default:
			o = b.Sys(do, unix.SYS_GETEUID, plan.Val(pick())).Want(uint64(r.IntN(2)))
			o.On(unix.EIO, 0)
			o.On(unix.EPIPE, 0)
		}
		if r.IntN(3) == 0 {
			o.Ok(r.IntN(3) * 2)
		}
		for range r.IntN(4) {
			e := errs[r.IntN(len(errs))]
			if r.IntN(4) == 0 {
				o.Again(e, r.IntN(3))
			} else {
				o.On(e, r.IntN(3)*2)
			}
		}
		b.Copy(do, log.At(8*k), b.Words(uint64(k+1)), 8)
	}
	for range 8 { // what the last ones may skip
		b.Skip(do, 0)
	}
	return log
}

// outcome is how far a random list came and what its log, slots included, says.
type outcome struct {
	errno syscall.Errno
	index int
	log   string
}

// The parent's machine and the stub's assembly are one interpreter: same failure at the same op, same memory.
func TestMachinesAgree(t *testing.T) {
	failed, ended := 0, 0
	for seed := range uint64(150) {
		n := 4 + int(seed%20)
		goes, runs := byParent(t, seed, n), byStub(t, seed, n)
		if goes != runs {
			t.Fatalf("seed %d: the parent says %+v\nthe stub %+v", seed, goes, runs)
		}
		if goes.errno != 0 {
			failed++
		} else {
			ended++
		}
	}
	if failed < 10 || ended < 10 {
		t.Errorf("%d lists failed, %d ended: too much of one", failed, ended)
	}
}

func byParent(t *testing.T, seed uint64, n int) outcome {
	t.Helper()
	b := plan.NewBuilder(64)
	log := random(rand.New(rand.NewPCG(seed, 1)), b, plan.Parent, n)
	m, skip := newMachine(b.Program), 0
	for k := range b.Ops {
		if skip > 0 {
			skip--
			continue
		}
		var err error
		if skip, err = m.step(k); err != nil {
			var e *OpError
			if !errors.As(err, &e) {
				t.Fatal(err)
			}
			return outcome{e.Errno, e.Index, ""}
		}
	}
	return outcome{log: string(m.buf[log.V : log.V+uint64(8*n+32)])}
}

// byStub runs the same list in a stub, which writes its memory to a pipe at the end.
func byStub(t *testing.T, seed uint64, n int) outcome {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	b := plan.NewBuilder(64)
	log := random(rand.New(rand.NewPCG(seed, 1)), b, plan.Stub, n)
	last := len(b.Ops)
	b.Sys(plan.Stub, unix.SYS_WRITE, plan.Int(fds[1]), log, plan.Int(8*n+32))
	b.Sys(plan.Stub, unix.SYS_EXIT_GROUP, plan.Int(7))
	b.KeepFD = append(b.KeepFD, fds[1])
	b.Ops = append([]plan.Op{{Kind: plan.Clone, Do: plan.Parent}, {Kind: plan.Syscall, Do: plan.Stub, Nr: unix.SYS_PRCTL, NArgs: 2, Args: [6]plan.Arg{plan.Int(unix.PR_SET_NAME), b.Str(StubComm)}}}, b.Ops...)
	_, err := Run(b.Program, true, Options{})
	unix.Close(fds[1])
	var e *OpError
	var d *DiedError
	switch {
	case errors.As(err, &e):
		return outcome{e.Errno, e.Index - 2, ""}
	case !errors.As(err, &d) || d.Status.ExitStatus() != 7:
		t.Fatalf("seed %d, %d ops: %v", seed, last, err)
	}
	buf := make([]byte, 8*n+32)
	if _, err := unix.Read(fds[0], buf); err != nil {
		t.Fatal(err)
	}
	return outcome{log: string(buf)}
}
