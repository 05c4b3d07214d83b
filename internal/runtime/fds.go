package runtime

import (
	"os"
	"strconv"

	"vitro/internal/sys"

	"golang.org/x/sys/unix"
)

const firstExtra = 3

// listenFDs is the number of sockets that a service manager gave to this very process (sd_listen_fds(3)).
func listenFDs() int {
	if pid, err := strconv.Atoi(os.Getenv("LISTEN_PID")); err != nil || pid != os.Getpid() {
		return 0
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// extraFDs is the number of files from 3 on that a process inherits: the sockets, then --preserve-fds. Everything else that
// this process was given is closed at an execve.
func extraFDs(listen, preserve int) (int, error) {
	for i := range listen { // a wrong count would hand out files of our own
		var st unix.Stat_t
		if err := unix.Fstat(firstExtra+i, &st); err != nil {
			return 0, wrap("LISTEN_FDS="+sys.Itoa(listen)+": unable to stat fd "+sys.Itoa(firstExtra+i), err)
		}
	}
	for i := range preserve {
		var st unix.Stat_t
		if err := unix.Fstat(firstExtra+listen+i, &st); err != nil {
			return 0, wrap("unable to stat preserved-fd "+sys.Itoa(i)+" (of "+sys.Itoa(preserve)+")", err)
		}
	}
	// Old kernels and old seccomp filters lack it; all own files are close-on-exec anyway.
	_ = unix.CloseRange(firstExtra, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC)
	return listen + preserve, nil
}

// inheritFDs is extraFDs for create and run, where LISTEN_FDS goes into the environment.
func (m *making) inheritFDs() (int, error) {
	listen := listenFDs()
	if listen > 0 {
		p := m.spec.Process
		p.Env = append(p.Env[:len(p.Env):len(p.Env)], "LISTEN_FDS="+sys.Itoa(listen), "LISTEN_PID=1")
	}
	return extraFDs(listen, m.o.PreserveFDs)
}
