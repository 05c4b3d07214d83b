package explain

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Namer names the containers of processes that come and go, as a trace shows them.
type Namer struct {
	Containers func() []Container     // known ones; asked again when a pid namespace turns up that is not known
	ByID       func(id string) string // the name of a container of vitro's, "" for none; nil: nobody knows

	host   uint64
	byNS   map[uint64]Container
	byPath map[string]string // by last part of the cgroup's path
	byID   map[string]string // of other engines, by an id that is all of the last part (v1 of Docker: /docker/ID)
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
		return n.ofGroup(pid, group)
	}
	// The cgroup's name is the container's id, an inode may be another container's soon.
	if name := n.ofGroup(pid, group); name != "" {
		return name
	}
	c, ok := n.byNS[pidns]
	if ok && namespaceOf(c.PID) != pidns {
		delete(n.byNS, pidns)
		ok = false
	}
	if !ok && time.Since(n.asked) > refreshes {
		n.refresh()
		c, ok = n.byNS[pidns]
	}
	if ok {
		return c.Name
	}
	return fmt.Sprintf("pidns %d", pidns)
}

// namespaceOf is the inode of a process's pid namespace, 0 if it is gone.
func namespaceOf(pid int) uint64 {
	dir, err := openProc(pid)
	if err != nil {
		return 0
	}
	defer dir.close()
	return dir.ns("ns/pid")
}

// ofGroup goes by the cgroup's name alone: of a container that has just been made, or has gone, nothing else is known.
func (n *Namer) ofGroup(pid int, group string) string {
	if id, ok := strings.CutPrefix(group, "vitro-"); ok && n.ByID != nil {
		if name := n.ByID(id); name != "" {
			return name
		}
	}
	name := containerOfCgroups([]CgroupLine{{Path: "/" + group}})
	if !strings.HasPrefix(name, "container ") {
		return name
	}
	// Which engine's it is stands further up the path, which only a process that lives still tells.
	if n.byID[group] == "" {
		n.Learn(pid)
	}
	if known := n.byID[group]; known != "" {
		return known
	}
	return name
}

// Learn keeps what the container of a process of another engine is called: a later process of it may be gone when it is named.
func (n *Namer) Learn(pid int) {
	dir, err := openProc(pid)
	if err != nil {
		return
	}
	defer dir.close()
	lines := parseCgroups(dir.text("cgroup"))
	name := containerOfCgroups(lines)
	for _, l := range lines {
		if id := lastPart(l.Path); len(id) == 64 && name != "" && strings.HasSuffix(name, " "+id[:12]) {
			if n.byID == nil || len(n.byID) > 4096 {
				n.byID = map[string]string{}
			}
			n.byID[id] = name
		}
	}
}

func (n *Namer) refresh() {
	n.byNS, n.byPath, n.asked = map[uint64]Container{}, map[string]string{}, time.Now()
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &st) == nil {
		n.host = st.Ino
	}
	own := groupOf(os.Getpid())
	for _, c := range n.Containers() {
		ns := namespaceOf(c.PID)
		if ns == 0 {
			continue
		}
		if ns != n.host {
			n.byNS[ns] = c
		}
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
