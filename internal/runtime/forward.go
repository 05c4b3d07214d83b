package runtime

import (
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Signals are forwarded by a handler of a dozen instructions (forward_*.s), not by os/signal: that needs two threads and, for
// every signal to be watched, two hand-overs between them, which is more time than the rest of a start. The handler sends the
// signal on by pidfd_send_signal(2). Before there is a pidfd it leaves a bit in fwdPending. Process-wide by nature, as
// dispositions are; nothing here is in use before forward is called.
var (
	fwdTarget  int64  // pidfd; -1 for none yet
	fwdPending uint64 // bit n-1: signal n came before the target did
)

// fwdHandler and fwdReturn are the addresses of the handler and of its sigreturn.
func fwdHandler() uintptr
func fwdReturn() uintptr

// forwarded tells whether a signal is passed on. Not those that the Go runtime uses or that tell of a fault in this process,
// nor SIGCHLD, nor what belongs to this process's own terminal and pipes (CASES §4).
func forwarded(s syscall.Signal) bool {
	switch s {
	case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE, unix.SIGTSTP, unix.SIGWINCH,
		unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGPROF, 32, 33:
		return false
	}
	return s >= 1 && s <= 64
}

// ksigaction is the kernel's struct sigaction.
type ksigaction struct{ handler, flags, restorer, mask uint64 }

// forwarder holds the old dispositions.
type forwarder struct {
	old [65]ksigaction
}

const saRestorer, saOnStack, saRestart = 0x04000000, 0x08000000, 0x10000000

// forward starts to catch signals. To be called before the spawn.
func forward() *forwarder {
	f := new(forwarder)
	atomic.StoreInt64(&fwdTarget, -1)
	atomic.StoreUint64(&fwdPending, 0)
	sa := ksigaction{
		handler:  uint64(fwdHandler()),
		flags:    saOnStack | saRestart | saRestorer,
		restorer: uint64(fwdReturn()),
		mask:     ^uint64(0),
	}
	for n := range f.old {
		if forwarded(syscall.Signal(n)) {
			sigaction(n, &sa, &f.old[n])
		}
	}
	return f
}

// to names the process that gets the signals, and sends it those that came already. The handler takes a bit back before it
// sends, so each signal is sent once.
func (f *forwarder) to(pidfd int) {
	atomic.StoreInt64(&fwdTarget, int64(pidfd))
	for bits, n := atomic.SwapUint64(&fwdPending, 0), 1; bits != 0; bits, n = bits>>1, n+1 {
		if bits&1 != 0 {
			_ = unix.PidfdSendSignal(pidfd, unix.Signal(n), nil, 0)
		}
	}
}

// stop gives every signal its old disposition back.
func (f *forwarder) stop() {
	for n := range f.old {
		if forwarded(syscall.Signal(n)) {
			sigaction(n, &f.old[n], nil)
		}
	}
	atomic.StoreInt64(&fwdTarget, -1)
}

func sigaction(n int, set, old *ksigaction) {
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(n), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
}
