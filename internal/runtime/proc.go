package runtime

import (
	"strconv"
	"strings"
	"syscall"

	"vitro/internal/sys"

	"golang.org/x/sys/unix"
)

// process is one process, told from a later one with the same pid by its start time.
type process struct {
	pid   int
	start uint64
}

// stat is the process's stat; ok is false when it is gone, a zombie, or another's pid by now.
func (p process) stat() (sys.ProcStat, bool) { return sys.Lives(p.pid, p.start) }

// open makes a pidfd of the process, which then cannot become another's; -1 and ESRCH when it is gone.
func (p process) open() (int, error) {
	fd, _, err := p.openStat()
	return fd, err
}

func (p process) openStat() (fd int, st sys.ProcStat, err error) {
	if p.pid <= 0 {
		return -1, st, unix.ESRCH
	}
	if fd, err = unix.PidfdOpen(p.pid, 0); err != nil {
		return -1, st, err
	}
	st, ok := p.stat()
	if !ok {
		unix.Close(fd)
		return -1, st, unix.ESRCH
	}
	return fd, st, nil
}

// signal sends sig to the process and to none that came after it.
func (p process) signal(sig int) error {
	fd, err := p.open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.PidfdSendSignal(fd, syscall.Signal(sig), nil, 0)
}

// waitDead waits for the end of a pidfd's process, at most ms milliseconds; -1 is for ever.
func waitDead(pidfd, ms int) bool {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, ms)
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// insidePID is the pid of a process in its own pid namespace: the last of NSpid in /proc/PID/status.
func insidePID(pid int) int {
	b, err := sys.ReadFile("/proc/" + sys.Itoa(pid) + "/status")
	if err != nil {
		return pid
	}
	_, rest, ok := strings.Cut(string(b), "\nNSpid:")
	if !ok {
		return pid
	}
	line, _, _ := strings.Cut(rest, "\n")
	f := strings.Fields(line)
	if len(f) == 0 {
		return pid
	}
	n, err := strconv.Atoi(f[len(f)-1])
	if err != nil {
		return pid
	}
	return n
}
