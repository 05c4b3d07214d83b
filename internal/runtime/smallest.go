package runtime

import (
	goruntime "runtime"
	"strings"
	"time"
	"unsafe"

	"vitro/internal/stub"
	"vitro/internal/sys"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A start that fails for want of memory, and before it starts a container with a limit below a MiB, is measured: the same container, with no hooks and no terminal, is brought behind its execve
// under one limit after the other, and killed there, by ptrace(2), before its program makes a system call that could be seen.
// What a limit has to hold depends on the kernel (its page tables and kernel memory, how it batches charges), the number of
// mounts, the filter and the program, so a table of numbers would not do.

// memoryStep is how exact the answer is, bytes.
const memoryStep = 16 << 10

// memoryMargin is what a start may need above the trial's limit, bytes: the trial ends at its program's first system call, and its stops give the
// kernel time to take back the pages of a CPU's stock. Of starts under limits that were named without it a third was killed; with 16 KiB some, with 32 none.
const memoryMargin = 3 * memoryStep

// memoryTrials is how often a limit has to do, one time after the other, before it is named, or to fail before it is refused.
const memoryTrials = 5

// memoryMost ends the search: what needs more fails for another reason.
const memoryMost = 256 << 20

// memorySmall is the limit below which a start is measured first. A program of a few KiB more than its execve needs would begin, and be
// killed at once without a word.
const memorySmall = 1 << 20

// memoryLimit is linux.resources.memory.limit, 0 for none.
func memoryLimit(s *specs.Spec) int64 {
	if s == nil || s.Linux.Resources == nil || s.Linux.Resources.Memory == nil || s.Linux.Resources.Memory.Limit == nil {
		return 0
	}
	return max(*s.Linux.Resources.Memory.Limit, 0)
}

// checkMemory refuses a small limit under which the container would not start.
func (r *Runtime) checkMemory(s *specs.Spec, o *CreateOpts) error {
	limit := memoryLimit(s)
	if limit == 0 || limit >= memorySmall || o.trial {
		return nil
	}
	if need := r.smallest(s, o, limit); need != 0 {
		return &memoryError{inInit(errOOM), limit, need}
	}
	return nil
}

// tooSmall adds to the error of a start which memory limit would have done, if it failed for want of memory.
func (r *Runtime) tooSmall(err error, s *specs.Spec, o *CreateOpts) error {
	limit := memoryLimit(s)
	if limit == 0 || !noMemory(err) {
		return err
	}
	if need := r.smallest(s, o, limit); need != 0 {
		return &memoryError{err, limit, need}
	}
	return err
}

type memoryError struct {
	err         error
	limit, need int64
}

func (e *memoryError) Error() string {
	return e.err.Error() + ": linux.resources.memory.limit: " + sys.Itoa(int(e.limit)) + " is too small, the smallest that starts it here is " + sys.Itoa(int(e.need))
}
func (e *memoryError) Unwrap() error { return e.err }

// noMemory: the kernel has killed the init, or refused it memory.
func noMemory(err error) bool {
	for err != nil {
		switch e := err.(type) {
		case *stub.DiedError:
			return e.Status.Signal() == unix.SIGKILL
		case *memoryError: // it says so
			return false
		case unix.Errno:
			return e == unix.ENOMEM
		case interface{ Unwrap() error }:
			err = e.Unwrap()
			continue
		}
		return err == errOOM
	}
	return false
}

// smallest looks for the smallest limit above low, which is too small; 0 where it cannot be found.
func (r *Runtime) smallest(s *specs.Spec, o *CreateOpts, low int64) int64 {
	if sc := s.Linux.Seccomp; sc != nil && sc.ListenerPath != "" {
		return 0 // an agent would be asked
	}
	try := func(limit int64) bool { return r.try(s, o, max(limit-memoryMargin, int64(unix.Getpagesize()))) }
	for range memoryTrials {
		if try(low) {
			return 0
		}
	}
	if !r.try(s, o, -1) { // it was not the limit
		return 0
	}
	low -= low % memoryStep
	high := max(2*low, memoryStep)
	for ; !try(high); high *= 2 {
		if low = high; high > memoryMost {
			return 0
		}
	}
	for high-low > memoryStep {
		if mid := (low + high) / 2 / memoryStep * memoryStep; try(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	for again := 0; again < memoryTrials; again++ { // where the pages of a CPU's stock count, two starts are not the same
		if !try(high) {
			high, again = high+memoryStep, -1
		}
	}
	return high
}

// try tells whether the container of s gets as far as its program with a memory limit, or none (-1). It runs beside the container
// that failed, under a name that cannot be one's.
func (r *Runtime) try(s *specs.Spec, o *CreateOpts, limit int64) bool {
	t := &Runtime{Root: r.Root + "/~try" + pidString()}
	defer unix.Rmdir(t.Root)
	c := trial(s, limit)
	if o.Again != nil {
		path, done, err := o.Again()
		if err != nil {
			return false
		}
		defer done()
		c.Root = &specs.Root{Path: path, Readonly: s.Root.Readonly}
	}
	m, err := t.makeOnce(&CreateOpts{ID: "try", Bundle: o.Bundle, Spec: c, NoPivot: o.NoPivot, NoNewKeyring: o.NoNewKeyring, trial: true}, true)
	if err != nil {
		return false
	}
	ok := m.executes()
	_ = m.fail(nil)
	return ok
}

// trial is s with a limit, without what acts outside of the container or needs somebody outside.
func trial(s *specs.Spec, limit int64) *specs.Spec {
	c, process, linux, resources, memory := *s, *s.Process, *s.Linux, *s.Linux.Resources, *s.Linux.Resources.Memory
	c.Process, c.Linux, linux.Resources, resources.Memory = &process, &linux, &resources, &memory
	c.Hooks, process.Terminal, linux.NetDevices = &specs.Hooks{}, false, nil
	if memory.Swap != nil && *memory.Swap > 0 {
		swap := max(*memory.Swap-*memory.Limit, 0) + limit
		memory.Swap = &swap
	}
	if memory.Limit = &limit; limit < 0 {
		memory.Swap = nil
	}
	name := "vitrun-try" + pidString()
	if i := strings.LastIndexByte(linux.CgroupsPath, '/'); i >= 0 {
		name = linux.CgroupsPath[:i+1] + name
	}
	linux.CgroupsPath = name
	return &c
}

func pidString() string { return sys.Itoa(unix.Getpid()) }

// executes lets the init of a created container go on to its execve, and its program to the first system call that could be seen
// outside of it, and stops it there. The container is killed with it.
func (m *making) executes() bool {
	goruntime.LockOSThread() // a tracer is a thread
	defer goruntime.UnlockOSThread()
	pid := m.launch.PID
	if ptrace(unix.PTRACE_SEIZE, pid, 0, unix.PTRACE_O_TRACEEXEC|unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_EXITKILL) != 0 {
		return false
	}
	if writeGo(m.dir+execFIFO) != nil {
		return false
	}
	resume := uintptr(unix.PTRACE_CONT) // PTRACE_SYSCALL behind the execve
	for end := time.Now().Add(trialTime); ; {
		var st unix.WaitStatus
		got, err := unix.Wait4(pid, &st, unix.WALL|unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return false
		case got == 0:
			if time.Now().After(end) { // it computes
				return resume == unix.PTRACE_SYSCALL
			}
			time.Sleep(200 * time.Microsecond)
			continue
		case st.Exited() || st.Signaled():
			unix.Close(m.launch.PIDFD)
			m.launch.PID = 0 // reaped
			return resume == unix.PTRACE_SYSCALL && st.Signal() != unix.SIGKILL
		}
		sig := uintptr(0)
		switch uint32(st) >> 8 {
		case uint32(unix.SIGTRAP) | unix.PTRACE_EVENT_EXEC<<8:
			resume = unix.PTRACE_SYSCALL
		case uint32(unix.SIGTRAP) | 0x80:
			if !private(pid) {
				return true
			}
		default:
			sig = uintptr(st.StopSignal())
		}
		ptrace(resume, pid, 0, sig) // ESRCH: killed meanwhile, which the next wait tells
	}
}

// trialTime is how long a trial's program may compute without a system call.
const trialTime = 2 * time.Second

// private tells whether the system call at which pid stops touches nothing but pid: what a C library does before main.
func private(pid int) bool {
	var info struct { // struct ptrace_syscall_info (5.3)
		op         uint8
		_          [3]uint8
		arch       uint32
		ip, sp, nr uint64
		args       [6]uint64
		_          [2]uint64
	}
	const entry = 1
	n, _, e := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(pid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if e != 0 || n == 0 {
		return false
	}
	if info.op != entry {
		return true
	}
	if goruntime.GOARCH == "amd64" && (info.nr == 158 || info.nr == 89) { // arch_prctl, readlink: no other has them
		return true
	}
	switch info.nr {
	case unix.SYS_BRK, unix.SYS_MUNMAP, unix.SYS_MPROTECT, unix.SYS_MADVISE, unix.SYS_SET_TID_ADDRESS, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ,
		unix.SYS_GETRANDOM, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_SIGALTSTACK, unix.SYS_GETUID, unix.SYS_GETEUID,
		unix.SYS_GETGID, unix.SYS_GETEGID, unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_UNAME, unix.SYS_SCHED_GETAFFINITY,
		unix.SYS_READLINKAT, unix.SYS_FSTAT:
		return true
	case unix.SYS_MMAP:
		return info.args[3]&unix.MAP_ANONYMOUS != 0
	case unix.SYS_PRCTL:
		return info.args[0] == unix.PR_GET_NAME
	case unix.SYS_PRLIMIT64:
		return info.args[2] == 0
	}
	return false
}

func ptrace(request uintptr, pid int, addr, data uintptr) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, request, uintptr(pid), addr, data, 0, 0)
	return e
}
