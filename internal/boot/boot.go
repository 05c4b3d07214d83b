package boot

import (
	"runtime"
	"syscall"
)

// Set or read by the entry.
var (
	//lint:ignore U1000 the entry reads it
	profileRate = &runtime.MemProfileRate
	slack       uintptr // the caller's timer slack in nanoseconds; 0 where the entry did not run
)

const setTimerSlack = 29 // PR_SET_TIMERSLACK

func init() { OwnSlack() }

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

// code is where the program's code and tables are.
func code() (from, to uintptr)

// DropCode takes the pages of code and tables out of this process's memory (madvise(2), MADV_DONTNEED); they stay in the page
// cache, and come back one by one where they are used. It is for a process that will wait for long.
func DropCode() {
	const page = 64 << 10 // the largest there is
	from, to := code()
	from, to = (from+page-1)&^(page-1), to&^(page-1)
	_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED)
}
