package explain

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Namer names the containers of processes that come and go, as a trace shows them.
type Namer struct {
	Containers func() []Container // known ones; asked again when a pid namespace turns up that is not known

	host   uint64
	byNS   map[uint64]string
	byPath map[string]string // by last part of the cgroup's path
	asked  time.Time
}

// How often the state folders are read: an inode that is not known is no reason to look within refreshes, and one that is
// known may be another container's after stale.
const (
	refreshes = 100 * time.Millisecond
	stale     = time.Second
)

// Name is the container's name; "" for a process of the host. group is the last part of its cgroup's path.
func (n *Namer) Name(pid int, pidns uint64, group string) string {
	if time.Since(n.asked) > stale {
		n.refresh()
	}
	if pidns == 0 || pidns == n.host {
		if name := n.byPath[group]; name != "" {
			return name
		}
		return containerOfCgroups([]CgroupLine{{Path: "/" + group}})
	}
	if _, ok := n.byNS[pidns]; !ok && time.Since(n.asked) > refreshes {
		n.refresh()
	}
	if name := n.byNS[pidns]; name != "" {
		return name
	}
	if name := containerOfCgroups([]CgroupLine{{Path: "/" + group}}); name != "" {
		return name
	}
	return fmt.Sprintf("pidns %d", pidns)
}

func (n *Namer) refresh() {
	n.byNS, n.byPath, n.asked = map[uint64]string{}, map[string]string{}, time.Now()
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &st) == nil {
		n.host = st.Ino
	}
	own := groupOf(os.Getpid())
	for _, c := range n.Containers() {
		dir, err := openProc(c.PID)
		if err != nil {
			continue
		}
		if ns := dir.ns("ns/pid"); ns != n.host {
			n.byNS[ns] = c.Name
		}
		dir.close()
		if g := groupOf(c.PID); g != "" && g != own {
			n.byPath[g] = c.Name
		}
	}
}

// groupOf is the last part of the first path that is not the root.
func groupOf(pid int) string {
	dir, err := openProc(pid)
	if err != nil {
		return ""
	}
	defer dir.close()
	for _, g := range parseCgroups(dir.text("cgroup")) {
		if g.Path != "/" {
			return lastPart(g.Path)
		}
	}
	return ""
}

func lastPart(p string) string {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] == '/' {
			return p[i+1:]
		}
	}
	return p
}

// TraceFilter says how to tell the events of a process's container from others: by the inode of its pid namespace, or
// where that is the host's by the container's name.
func TraceFilter(pid int, known []Container) (pidns uint64, name string, err error) {
	m, err := scan(known, false)
	if err != nil {
		return 0, "", err
	}
	p := m.pid[pid]
	switch {
	case p == nil:
		return 0, "", fmt.Errorf("process %d: no such process", pid)
	case p.NS[KindPID] == 0:
		return 0, "", fmt.Errorf("process %d: its pid namespace may not be read", pid)
	case p.NS[KindPID] != m.self.NS[KindPID]:
		return p.NS[KindPID], "", nil
	case p.Container == "":
		return 0, "", fmt.Errorf("process %d is in no container: it has the host's pid namespace and no container's cgroup (--all traces the host)", pid)
	}
	return 0, p.Container, nil
}
