package explain

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxThreads bounds how many threads are read one by one: 15 µs each.
const maxThreads = 1024

// rights are what a thread has for itself. The C library changes them in all threads of a process, the kernel in one: a first
// thread that has given up its capabilities says nothing of the others (capabilities(7), pthreads(7)).
type rights struct {
	caps       CapSets
	uid        [4]uint32
	noNewPrivs bool
	seccomp    int
	ns         [Kinds]uint64
}

func (p *Process) rights() rights { return rights{p.Caps, p.UID, p.NoNewPrivs, p.Seccomp, p.NS} }

// threads gives one thread for each set of rights that the first of its process does not have; unread is how many threads
// were not looked at. Their PID is the process's, and PIDs their own ids.
func threads(ps []*Process) (out []*Process, unread int) {
	buf, left := make([]byte, 8192), maxThreads
	for _, p := range ps {
		if p.Kernel || p.Threads < 2 {
			continue
		}
		seen := map[rights]bool{p.rights(): true}
		folder := "/proc/" + strconv.Itoa(p.PID) + "/task/"
		tasks, _ := os.ReadDir(folder)
		for i, task := range tasks {
			if left--; left < 0 {
				unread += len(tasks) - i
				break
			}
			tid, err := strconv.Atoi(task.Name())
			if err != nil || tid == p.PID || tid == p.thread {
				continue
			}
			fd, err := unix.Open(folder+task.Name(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				continue // it has ended
			}
			dir := proc{tid, fd}
			t, err := dir.process(&buf, false, 0)
			dir.close()
			if err != nil || t.NS[KindPID] == 0 || seen[t.rights()] {
				continue
			}
			seen[t.rights()] = true
			t.thread, t.PID, t.Command, t.Container = tid, p.PID, p.Command, p.Container
			out = append(out, t)
		}
	}
	return out, unread
}
