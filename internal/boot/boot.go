package boot

import (
	"runtime"
	"syscall"
	"unsafe"
)

// Set or read by the entry.
var (
	profileRate = &runtime.MemProfileRate
	slack       uintptr // the caller's timer slack in nanoseconds; 0 where the entry did not run
)

const (
	setTimerSlack = 29 // PR_SET_TIMERSLACK
	collapse      = 25 // MADV_COLLAPSE
	hugePage      = 2 << 20
)

func init() {
	if slack == 0 {
		return
	}
	OwnSlack()
	heap := uintptr(unsafe.Pointer(new([64]byte))) &^ (hugePage - 1)
	_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, heap, hugePage, collapse)
}

// OwnSlack gives the calling thread the timer slack that vitrun was started with. It comes before every fork.
func OwnSlack() {
	if slack != 0 {
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, slack, 0)
	}
}

// Environ is the environment that vitrun was given, for a child.
func Environ() []string {
	env := syscall.Environ()
	if n := len(env); slack != 0 && n > 0 && env[n-1] == "GOMAXPROCS=1" {
		return env[:n-1] // the entry's
	}
	return env
}

// GrowStack makes the goroutine's stack 64 KiB large in one step; the compiler would grow it four times, with a copy each.
//
//go:noinline
func GrowStack() byte {
	var b [24 << 10]byte
	return b[slack&1]
}
