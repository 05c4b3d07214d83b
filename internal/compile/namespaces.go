package compile

import (
	"errors"

	"vitro/internal/plan"
	"vitro/internal/spec"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// namespaces(7): which are new, which are joined, and when.
type namespaces struct {
	fresh, joins int
	late         bool // the user namespace is unshared by the stub: 0 is not in the map (an execve would lose every capability), or others are joined first
	cgroupMade   bool // the stub has unshared it
	inGroup      bool // the clone goes into the container's cgroup, so its cgroup namespace is right
}

type joined struct {
	flag int
	fd   plan.Slot
	path string
	at   int // index in linux.namespaces
}

func (n *namespaces) has(flag int) bool   { return (n.fresh|n.joins)&flag != 0 }
func (n *namespaces) isNew(flag int) bool { return n.fresh&flag != 0 }
func (n *namespaces) user() bool          { return n.has(unix.CLONE_NEWUSER) }
func (n *namespaces) userAtClone() bool   { return n.isNew(unix.CLONE_NEWUSER) && !n.late }
func (n *namespaces) userLate() bool      { return n.isNew(unix.CLONE_NEWUSER) && n.late }

// atClone are the flags of the clone: everything, but cgroup where the cgroup is joined later, time (the child would be inside before
// its offsets are written), and with a user namespace only that and pid: ipc made in the same call belongs to nobody.
func (n *namespaces) atClone() int {
	switch {
	case n.late, n.joins&unix.CLONE_NEWUSER != 0:
		return 0
	case n.userAtClone():
		return n.fresh & (unix.CLONE_NEWUSER | unix.CLONE_NEWPID)
	}
	return n.fresh &^ (unix.CLONE_NEWTIME | n.cgroupLate())
}

// cgroupLate is CLONE_NEWCGROUP where the namespace must be made after the cgroup was joined.
func (n *namespaces) cgroupLate() int {
	if n.inGroup || n.cgroupMade {
		return 0
	}
	return n.fresh & unix.CLONE_NEWCGROUP
}

func (c *c) namespaceKinds() error {
	c.ns.inGroup = c.in.Facts.V2 && c.in.Group != nil
	for k, ns := range c.spec.Linux.Namespaces {
		f, _ := spec.CloneFlag(ns.Type)
		flag := int(f)
		if ns.Path == "" {
			c.ns.fresh |= flag
			continue
		}
		c.ns.joins |= flag
		c.join = append(c.join, joined{flag: flag, path: ns.Path, at: k})
	}
	if c.ns.isNew(unix.CLONE_NEWUSER) {
		if len(c.spec.Linux.UIDMappings) == 0 || len(c.spec.Linux.GIDMappings) == 0 {
			return errors.New("linux.uidMappings: a new user namespace needs uidMappings and gidMappings")
		}
		// Joining needs capabilities in the namespaces' own user namespace: it comes before ours.
		c.ns.late = !maps(c.spec.Linux.UIDMappings, 0) || !maps(c.spec.Linux.GIDMappings, 0) || c.ns.joins != 0 || c.helpersMap()
	}
	if !c.ns.has(unix.CLONE_NEWNS) {
		return c.refuseMounts()
	}
	return nil
}

// rootless: the caller has no capability that the container's user namespace does not give. What needs one is the stub's.
func (c *c) rootless() bool { return c.in.Facts.EUID != 0 && c.ns.user() }

// helpersMap tells whether the maps need newuidmap(1) and newgidmap(1): without privileges a process may map itself, and nobody else.
func (c *c) helpersMap() bool {
	own := func(m []specs.LinuxIDMapping, id int) bool {
		return len(m) == 1 && m[0].Size == 1 && int(m[0].HostID) == id
	}
	f := &c.in.Facts
	return c.rootless() && !(own(c.spec.Linux.UIDMappings, f.EUID) && own(c.spec.Linux.GIDMappings, f.EGID))
}

// refuseMounts: without a mount namespace every mount would be made on the host.
func (c *c) refuseMounts() error {
	for _, f := range []struct {
		name string
		n    int
	}{{"mounts", len(c.spec.Mounts)}, {"linux.maskedPaths", len(c.spec.Linux.MaskedPaths)}, {"linux.readonlyPaths", len(c.spec.Linux.ReadonlyPaths)}} {
		if f.n > 0 {
			return errors.New(f.name + ": without a mount namespace in linux.namespaces these would be made on the host: add one, or leave " + f.name + " empty")
		}
	}
	if c.spec.Root.Readonly {
		return errors.New("root.readonly: needs a mount namespace in linux.namespaces")
	}
	return nil
}

// openNamespaces opens every path before any is joined.
func (c *c) openNamespaces() error {
	for k := range c.join {
		j := &c.join[k]
		j.fd = c.Slot()
		c.Field(fieldAt("linux.namespaces", j.at), j.path)
		c.Sys(plan.Parent, unix.SYS_OPENAT, i(unix.AT_FDCWD), c.Str(j.path), i(unix.O_RDONLY|unix.O_NONBLOCK|cloexec)).To(j.fd) // a FIFO must not block
		c.Keep = append(c.Keep, j.fd)
	}
	return nil
}

// enterNamespaces joins, then unshares what the clone did not make.
func (c *c) enterNamespaces() error {
	if c.ns.joins&(unix.CLONE_NEWPID|unix.CLONE_NEWUSER) != 0 { // who is in there must not look into us
		c.Field("linux.namespaces", "")
		c.stub(unix.SYS_PRCTL, i(unix.PR_SET_DUMPABLE), i(0))
	}
	for _, user := range [...]bool{c.rootless(), !c.rootless()} { // the others first: they may belong to another user namespace; see JoinNamespaces
		for _, j := range c.join {
			if (j.flag == unix.CLONE_NEWUSER) != user {
				continue
			}
			c.Field(fieldAt("linux.namespaces", j.at), j.path)
			c.stub(unix.SYS_SETNS, plan.Val(j.fd), i(j.flag)).As("join")
			if user { // as root at once, or mounts fail (runc #4466)
				c.becomeRoot(0, 0)
			}
		}
	}
	c.Field("linux.namespaces", "")
	if c.ns.userLate() {
		c.lateUser()
	}
	rest := c.ns.fresh &^ (c.ns.atClone() | c.ns.cgroupLate() | unix.CLONE_NEWTIME | unix.CLONE_NEWUSER)
	if rest != 0 {
		c.stub(unix.SYS_UNSHARE, i(rest))
	}
	if c.forks() {
		c.Fork()
	}
	c.timeNamespace()
	if c.ns.isNew(unix.CLONE_NEWNET) {
		c.loUp()
	}
	return nil
}

// lateUser: unshare, let the parent write the maps, and take a mapped id without an execve in between.
func (c *c) lateUser() {
	c.stub(unix.SYS_UNSHARE, i(unix.CLONE_NEWUSER))
	c.Tell(0)
	c.readAck()
	u := c.spec.Process.User
	c.becomeRoot(mapped(c.spec.Linux.UIDMappings, u.UID), mapped(c.spec.Linux.GIDMappings, u.GID))
}

// mapped is an id that m has: 0, or id, or its first.
func mapped(m []specs.LinuxIDMapping, id uint32) int {
	switch {
	case maps(m, 0):
		return 0
	case maps(m, int(id)):
		return int(id)
	}
	return int(m[0].ContainerID)
}

func (c *c) becomeRoot(uid, gid int) {
	c.stub(unix.SYS_SETRESGID, i(gid), i(gid), i(gid))
	c.stub(unix.SYS_SETRESUID, i(uid), i(uid), i(uid))
}

// forks tells whether the pid namespace is made or joined by the stub, which itself stays outside. Who is in a joined one must not see a process
// that still has the host's root: CAP_SYS_PTRACE alone would open /proc/PID/root.
func (c *c) forks() bool {
	return c.ns.joins&unix.CLONE_NEWPID != 0 || c.ns.isNew(unix.CLONE_NEWPID) && c.ns.atClone()&unix.CLONE_NEWPID == 0
}

func (c *c) timeNamespace() {
	if !c.ns.isNew(unix.CLONE_NEWTIME) {
		return
	}
	c.Field("linux.namespaces", "time")
	c.stub(unix.SYS_UNSHARE, i(unix.CLONE_NEWTIME)).As("unshare (EINVAL: this kernel has no time namespaces, CONFIG_TIME_NS)")
	for _, clock := range []string{"boottime", "monotonic"} {
		o, ok := c.spec.Linux.TimeOffsets[clock]
		if !ok {
			continue
		}
		c.Field("linux.timeOffsets."+clock, "")
		c.writeFile(unix.AT_FDCWD, "/proc/self/timens_offsets", clock+" "+itoa(int(o.Secs))+" "+itoa(int(o.Nanosecs)), "")
	}
}

// loUp brings the loopback interface up (netdevice(7)); IFF_LOOPBACK and the like are not changed by it.
func (c *c) loUp() {
	c.Field("linux.namespaces", "lo")
	s := c.Slot()
	ifr := make([]byte, 40)
	copy(ifr, "lo")
	ifr[16] = unix.IFF_UP
	c.stub(unix.SYS_SOCKET, i(unix.AF_INET), i(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), i(0)).To(s)
	c.stub(unix.SYS_IOCTL, plan.Val(s), i(unix.SIOCSIFFLAGS), c.Bytes(ifr)).As("bring lo up")
	c.stub(unix.SYS_CLOSE, plan.Val(s))
}

func maps(m []specs.LinuxIDMapping, id int) bool {
	for _, x := range m {
		if id >= int(x.ContainerID) && id < int(x.ContainerID)+int(x.Size) {
			return true
		}
	}
	return false
}

func idMap(m []specs.LinuxIDMapping) []plan.IDMap {
	out := make([]plan.IDMap, len(m))
	for k, x := range m {
		out[k] = plan.IDMap{Inside: x.ContainerID, Outside: x.HostID, Size: x.Size}
	}
	return out
}
