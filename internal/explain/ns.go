package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kinds is the number of kinds of namespaces (namespaces(7)).
const Kinds = 8

// Kinds of namespaces, as indexes of Process.NS.
const (
	KindCgroup = iota
	KindIPC
	KindMnt
	KindNet
	KindPID
	KindTime
	KindUser
	KindUTS
)

var kinds = [Kinds]string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}

// nsFiles are the links in /proc/PID.
var nsFiles = [Kinds]string{"ns/cgroup", "ns/ipc", "ns/mnt", "ns/net", "ns/pid", "ns/time", "ns/user", "ns/uts"}

// firstInode is above every pid (4194304 at most) and below every inode of nsfs (PROC_DYNAMIC_FIRST is 0xF0000000).
const firstInode = 0xE0000000

// Namespace is one namespace and who is in it.
type Namespace struct {
	Kind       string
	Inode      uint64
	Owner      uint64   `json:",omitempty"` // inode of the user namespace that owns it; 0: out of our sight
	OwnerUID   *uint32  `json:",omitempty"` // user namespaces: who made it
	Parent     uint64   `json:",omitempty"` // pid and user namespaces
	Host       bool     // it is the host's
	Processes  int      // of the whole machine in it
	Others     int      `json:",omitempty"` // of them neither the explained container's nor another container's
	Containers []string `json:",omitempty"` // other containers in it
	Children   uint64   `json:",omitempty"` // pid and time: children are born in this one (unshare, setns)

	FirstPID int      `json:",omitempty"` // lowest pid in it
	UID      uint32   // of that process
	Command  string   `json:",omitempty"`
	Held     []string `json:",omitempty"` // files that it is mounted on
}

// nsfs(4) requests.
const (
	nsGetUserns   = 0xb701
	nsGetParent   = 0xb702
	nsGetOwnerUID = 0xb704
)

func openat(dir int, name string, flags int) (int, error) {
	return unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
}

// relations asks nsfs about the namespace behind fd. EPERM: the answer is out of our sight, as for the initial ones.
func (n *Namespace) relations(fd int) {
	n.Owner = ioctlInode(fd, nsGetUserns)
	switch n.Kind {
	case "user":
		n.Owner = 0
		if uid, err := ioctlUID(fd); err == nil {
			n.OwnerUID = &uid
		}
		n.Parent = ioctlInode(fd, nsGetParent)
	case "pid":
		n.Parent = ioctlInode(fd, nsGetParent)
	}
}

// ioctlInode is the inode of the namespace that a request opens; 0 if there is none for us.
func ioctlInode(fd int, req uint) uint64 {
	got, err := unix.IoctlRetInt(fd, req)
	if err != nil {
		return 0
	}
	defer unix.Close(got)
	var st unix.Stat_t
	if unix.Fstat(got, &st) != nil {
		return 0
	}
	return st.Ino
}

func ioctlUID(fd int) (uint32, error) { return unix.IoctlGetUint32(fd, nsGetOwnerUID) }

// namespaces explains the eight namespaces of p.
func (m *machine) namespaces(t *target) (out []Namespace) {
	for i, kind := range kinds {
		n := Namespace{Kind: kind, Inode: t.p.NS[i], Host: t.p.NS[i] == m.host[i]}
		if n.Inode == 0 {
			continue // a kernel without time or cgroup namespaces, or no permission
		}
		if fd, err := openat(t.dir.fd, "ns/"+kind, unix.O_RDONLY); err == nil {
			n.relations(fd)
			unix.Close(fd)
		}
		if kind == "pid" || kind == "time" {
			if c := t.dir.ns("ns/" + kind + "_for_children"); c != n.Inode {
				n.Children = c
			}
		}
		seen := map[string]bool{}
		for _, p := range m.all {
			if p.NS[i] != n.Inode {
				continue
			}
			n.note(p)
			switch {
			case t.has[p.PID]:
			case p.Container != "" && p.Container != t.p.Container:
				seen[p.Container] = true
			default:
				n.Others++
			}
		}
		for c := range seen {
			n.Containers = append(n.Containers, c)
		}
		slices.Sort(n.Containers)
		out = append(out, n)
	}
	return out
}

// note counts a process that is in n; they come by pid.
func (n *Namespace) note(p *Process) {
	if n.Processes++; n.FirstPID == 0 {
		n.FirstPID, n.UID, n.Command = p.PID, p.UID[1], p.Command
	}
}

// List is what `vitro ns` shows.
type List struct {
	Namespaces []Namespace
	Processes  []*Process `json:",omitempty"` // of the one namespace asked for
}

// NamespaceQuery says which namespaces to list: all of the machine, those of a process, or one by inode.
type NamespaceQuery struct {
	ID         uint64 // 0, a pid or an inode: no pid is as large as an inode of nsfs
	Containers []Container
}

// Namespaces lists namespaces: of processes, kept by a mount, or known as owner or parent of another.
func Namespaces(q NamespaceQuery) (*List, error) {
	m, err := scan(q.Containers, true)
	if err != nil {
		return nil, err
	}
	c := collector{m: m, byInode: map[uint64]*Namespace{}}
	for _, p := range m.all {
		c.process(p)
	}
	c.mounted()
	l := &List{}
	target := m.pid[int(q.ID)]
	switch {
	case q.ID == 0:
	case q.ID < firstInode && target == nil:
		return nil, fmt.Errorf("process %d: no such process", q.ID)
	case q.ID >= firstInode && c.byInode[q.ID] == nil:
		return nil, fmt.Errorf("namespace %d: no process and no mount on this machine has it", q.ID)
	}
	var shown []*Process
	for _, n := range c.byInode {
		i := slices.Index(kinds[:], n.Kind)
		if q.ID == 0 || q.ID == n.Inode || target != nil && target.NS[i] == n.Inode {
			if p := m.pid[n.FirstPID]; p != nil {
				shown = append(shown, p)
			}
			l.Namespaces = append(l.Namespaces, *n)
		}
	}
	if q.ID >= firstInode {
		for _, p := range m.all {
			if slices.Contains(p.NS[:], q.ID) {
				l.Processes = append(l.Processes, p)
			}
		}
	}
	readCommands(append(shown, l.Processes...))
	for i := range l.Namespaces {
		if p := m.pid[l.Namespaces[i].FirstPID]; p != nil {
			l.Namespaces[i].Command = p.Command
		}
	}
	slices.SortFunc(l.Namespaces, func(a, b Namespace) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), cmp.Compare(a.Inode, b.Inode))
	})
	return l, nil
}

type collector struct {
	m       *machine
	byInode map[uint64]*Namespace
}

// process opens each namespace once, through the first process that has it.
func (c *collector) process(p *Process) {
	for i, kind := range kinds {
		if p.NS[i] == 0 {
			continue
		}
		n := c.byInode[p.NS[i]]
		if n == nil || n.FirstPID == 0 {
			first := n == nil
			n = c.get(kind, p.NS[i])
			if first {
				c.open(p, n)
			}
		}
		n.note(p)
		if p.Container != "" && !slices.Contains(n.Containers, p.Container) {
			n.Containers = append(n.Containers, p.Container)
		}
	}
}

func (c *collector) get(kind string, inode uint64) *Namespace {
	n := c.byInode[inode]
	if n == nil {
		i := slices.Index(kinds[:], kind)
		n = &Namespace{Kind: kind, Inode: inode, Host: inode == c.m.host[i]}
		c.byInode[inode] = n
	}
	return n
}

func (c *collector) open(p *Process, n *Namespace) {
	dir, err := openProc(p.PID)
	if err != nil {
		return
	}
	defer dir.close()
	fd, err := openat(dir.fd, "ns/"+n.Kind, unix.O_RDONLY)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if st := (unix.Stat_t{}); unix.Fstat(fd, &st) == nil && st.Ino == n.Inode {
		n.relations(fd)
		c.ancestors(fd, n.Kind)
	}
}

// ancestors adds owners and parents; some of them have no process of their own.
func (c *collector) ancestors(fd int, kind string) {
	follow := func(req uint, kind string) {
		up, err := unix.IoctlRetInt(fd, req)
		if err != nil {
			return
		}
		defer unix.Close(up)
		var st unix.Stat_t
		if unix.Fstat(up, &st) != nil || c.byInode[st.Ino] != nil {
			return
		}
		c.get(kind, st.Ino).relations(up)
		c.ancestors(up, kind)
	}
	if kind == "user" || kind == "pid" {
		follow(nsGetParent, kind)
	}
	if kind != "user" {
		follow(nsGetUserns, "user")
	}
}

// mounted adds what is kept by a bind mount of its nsfs file, as `ip netns` does. mountinfo's root is "net:[4026532456]".
func (c *collector) mounted() {
	self, err := openProc(c.m.self.PID)
	if err != nil {
		return
	}
	defer self.close()
	for _, mt := range parseMounts(self.text("mountinfo")) {
		kind, rest, ok := strings.Cut(strings.TrimSuffix(mt.Root, "]"), ":[")
		if mt.Type != "nsfs" || !ok || !slices.Contains(kinds[:], kind) {
			continue
		}
		var inode uint64
		if _, err := fmt.Sscan(rest, &inode); err != nil {
			continue
		}
		old := c.byInode[inode] != nil
		n := c.get(kind, inode)
		n.Held = append(n.Held, mt.Point)
		if fd, err := unix.Openat2(unix.AT_FDCWD, mt.Point, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_NO_SYMLINKS}); err == nil {
			var st unix.Stat_t
			if !old && unix.Fstat(fd, &st) == nil && st.Ino == inode {
				n.relations(fd)
				c.ancestors(fd, kind)
			}
			unix.Close(fd)
		}
	}
}
