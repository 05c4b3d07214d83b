package compile

import (
	"errors"
	"strings"

	"vitro/internal/plan"
	"vitro/internal/stub"
	"vitro/internal/sys"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// startOps is room for the default spec's ops: growing copies, and touches the memory twice.
const startOps = 768

// Container compiles create or run.
func Container(in *Input) (*plan.Program, error) {
	c := &c{Builder: plan.NewBuilder(startOps), in: in, spec: in.Spec}
	steps := []func() error{
		c.namespaceKinds, c.before, c.openNamespaces, c.cgroups, c.sources, c.clone, // parent
		c.session, c.enterNamespaces, c.attachRoot, c.mounts, c.devices, c.hooks, c.sysctls, // stub
		c.readonlyPaths, c.maskedPaths, c.lateMounts, c.cgroupNamespace, c.enterRoot, c.console, c.names, c.workdir, c.readonlyRoot,
		c.stdio, c.identity, c.finish,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
		if len(c.Ops) > maxOps {
			return nil, errors.New("mounts, linux.devices, linux.maskedPaths, linux.readonlyPaths: too many: a start is at most " + sys.Itoa(maxOps) + " operations")
		}
	}
	return c.Program, nil
}

// maxOps: the stub's record numbers an op with 16 bits, as a slot.
const maxOps = 1<<16 - 1

// before opens what the stub needs from the host's side.
func (c *c) before() error {
	c.root = c.Slot()
	c.Field("root.path", c.in.Facts.Rootfs)
	switch {
	case c.in.RootFD >= 0:
		c.Sys(plan.Parent, unix.SYS_FCNTL, i(c.in.RootFD), i(unix.F_DUPFD_CLOEXEC), i(3)).To(c.root)
	case c.treeByStub():
	case c.ns.has(unix.CLONE_NEWNS):
		c.rootTree(c.in.Facts.Rootfs)
	default:
		c.Sys(plan.Parent, unix.SYS_OPENAT, i(unix.AT_FDCWD), c.Str(c.in.Facts.Rootfs), i(cloexecDir)).To(c.root)
	}
	if !c.treeByStub() {
		c.Keep = append(c.Keep, c.root)
	}
	if c.in.Create {
		c.openFIFO("exec.fifo", &c.fifo)
		c.openFIFO("error.fifo", &c.errs)
	}
	if c.in.ConsoleFD >= 0 {
		c.KeepFD = append(c.KeepFD, c.in.ConsoleFD)
	}
	for n := range c.in.ExtraFDs {
		c.KeepFD = append(c.KeepFD, 3+n)
	}
	return nil
}

// treeByStub tells whether attachRoot makes the tree: cloning one takes CAP_SYS_ADMIN over the mount namespace.
func (c *c) treeByStub() bool { return c.rootless() && c.in.RootFD < 0 && c.ns.has(unix.CLONE_NEWNS) }

// rootTree makes the detached tree of root.path. An engine may give a detached mount as /proc/self/fd/N, which cannot be cloned before Linux 6.15 (EINVAL): it
// is used itself.
func (c *c) rootTree(path string) {
	o := c.Sys(plan.Parent, unix.SYS_OPEN_TREE, i(unix.AT_FDCWD), c.Str(path), i(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)).To(c.root).As("clone the tree")
	if n, ok := fdPath(path); ok {
		o.Ok(1).Tolerate(unix.EINVAL)
		c.Sys(plan.Parent, unix.SYS_FCNTL, i(n), i(unix.F_DUPFD_CLOEXEC), i(3)).To(c.root).As("take the detached tree itself")
	}
}

// fdPath is N of /proc/self/fd/N.
func fdPath(path string) (n int, ok bool) {
	digits, ok := strings.CutPrefix(path, "/proc/self/fd/")
	if !ok || digits == "" || len(digits) > 6 {
		return 0, false
	}
	for k := range len(digits) {
		if digits[k] < '0' || digits[k] > '9' {
			return 0, false
		}
		n = n*10 + int(digits[k]-'0')
	}
	return n, true
}

// hostTree makes a detached clone of a host path.
func (c *c) hostTree(path string, flags int, to plan.Slot) {
	c.Sys(plan.Parent, unix.SYS_OPEN_TREE, i(unix.AT_FDCWD), c.Str(path), i(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)).To(to).As("clone the tree of " + path)
	c.Keep = append(c.Keep, to)
}

// openFIFO makes a FIFO of the state folder. It is opened for both ways: no open waits, and the stub's end of it lives until its execve.
func (c *c) openFIFO(name string, to *plan.Slot) {
	path := c.in.StateDir + "/" + name
	c.Field("start", path)
	*to = c.Slot()
	c.Sys(plan.Parent, unix.SYS_MKNODAT, i(unix.AT_FDCWD), c.Str(path), i(unix.S_IFIFO|0o600), i(0)).As("make the FIFO")
	c.Sys(plan.Parent, unix.SYS_OPENAT, i(unix.AT_FDCWD), c.Str(path), i(unix.O_RDWR|cloexec)).To(*to)
	c.Keep = append(c.Keep, *to)
}

// cgroups appends the group's folders, limits and, on v2, the fd for the clone. On v1 the process joins after the clone, and the folders can be made
// beside the stub's mounts: a cpuset folder alone takes the kernel up to 2 ms.
func (c *c) cgroups() error {
	if c.in.Group == nil || !c.in.Facts.V2 {
		return nil
	}
	if err := c.in.Group.Plan(c.Builder, c.spec.Linux.Resources, false); err != nil {
		return err
	}
	c.delegate()
	return nil
}

// lateCgroups are the same ops after the clone.
func (c *c) lateCgroups() error {
	if c.in.Facts.V2 {
		return nil
	}
	from := len(c.Ops)
	err := c.in.Group.Plan(c.Builder, c.spec.Linux.Resources, false)
	for k := from; k < len(c.Ops); k++ {
		c.Ops[k].Do = plan.Sync
	}
	return err
}

// clone starts the stub; what follows it on the parent's side runs beside the stub.
func (c *c) clone() error {
	c.Field("linux.namespaces", "")
	c.Clone.Comm = stub.StubComm
	c.Clone.Flags = uintptr(c.ns.atClone())
	if c.in.Group != nil {
		c.Clone.CgroupFD = c.in.Group.FD
	}
	if c.ns.userAtClone() {
		c.Clone.UIDs, c.Clone.GIDs = idMap(c.spec.Linux.UIDMappings), idMap(c.spec.Linux.GIDMappings)
		c.Clone.Setgroups, c.Clone.Root = c.in.Facts.EUID == 0, true
		c.keyring(plan.Parent)
		c.Field("linux.namespaces", "")
	}
	c.CloneOp()
	c.oomByParent()
	if c.ns.userLate() {
		c.Clone.UIDs, c.Clone.GIDs, c.Clone.Late = idMap(c.spec.Linux.UIDMappings), idMap(c.spec.Linux.GIDMappings), true
		c.Clone.Setgroups = c.in.Facts.EUID == 0
		c.Field("linux.uidMappings", "")
		c.Call(plan.Sync, "await")
		if c.helpersMap() {
			c.Call(plan.Sync, "newidmap")
		} else {
			c.Call(plan.Sync, "idmap")
		}
		c.Call(plan.Sync, "ack")
		c.Field("linux.namespaces", "")
	}
	if c.forks() {
		c.Field("linux.namespaces", "pid")
		c.Call(plan.Sync, "await", i(1))
	}
	if c.in.Group != nil {
		if err := c.lateCgroups(); err != nil {
			return err
		}
		c.in.Group.Join(c.Builder)
	}
	c.Field("state", c.in.StateDir)
	c.Call(plan.Sync, "state")
	c.Call(plan.Sync, "ack")
	c.acks = 1
	return nil
}

// waitAck blocks the stub until the parent has done what follows the clone. A read of 0 bytes is the parent's death (runc #4534).
func (c *c) waitAck() {
	if c.acks == 0 {
		return
	}
	c.acks--
	o := c.readAck()
	o.Field, o.Object = "sync", "" // of this op alone: what follows is still the caller's
}

func (c *c) readAck() *plan.Op {
	return c.stub(unix.SYS_READ, plan.Val(plan.SlotChan), c.Scratch(8), i(1)).Want(1).As("wait for vitrun")
}

// session makes the stub a clean process: name, session, umask, signal state as a fresh one (crun #2058), own keyring.
func (c *c) session() error {
	c.Field("process", "")
	c.stub(unix.SYS_PRCTL, i(unix.PR_SET_NAME), c.Str(stub.StubComm))
	c.stub(unix.SYS_SETSID)
	c.stub(unix.SYS_UMASK, i(0))
	c.signals()
	if adj := c.spec.Process.OOMScoreAdj; adj != nil && !c.ns.userAtClone() {
		c.Field("process.oomScoreAdj", itoa(*adj))
		c.writeFile(unix.AT_FDCWD, "/proc/self/oom_score_adj", itoa(*adj), " (lowering it needs CAP_SYS_RESOURCE)")
	}
	if !c.ns.userAtClone() {
		c.keyring(plan.Stub)
	}
	c.appArmor()
	return nil
}

const unconfined = "unconfined" // AppArmor's name for no profile

// appArmor names the profile that the process's execve takes on, apparmor(7). It is written while /proc is still the host's: a container's own
// may be covered (CVE-2019-16884). A forked half inherits it; the stub executes nothing else.
func (c *c) appArmor() {
	if p := c.spec.Process.ApparmorProfile; p != "" && c.in.Facts.AppArmor {
		c.Field("process.apparmorProfile", p)
		c.writeFile(unix.AT_FDCWD, "/proc/self/attr/apparmor/exec", "exec "+p, " (ENOENT: no such profile is loaded, see apparmor_parser(8))")
	}
}

// keyring joins a session keyring of the container's own. Where the clone makes a user namespace the parent's thread does it, for the stub to
// inherit: inside, it would count against the 200 keys of an unprivileged user.
func (c *c) keyring(do plan.Doer) {
	if c.in.NoKeyring {
		return
	}
	c.Field("process", "_ses."+c.in.ID)
	c.Sys(do, unix.SYS_KEYCTL, i(unix.KEYCTL_JOIN_SESSION_KEYRING), c.Str("_ses."+c.in.ID)).On(unix.ENOSYS, 1).
		As("join a session keyring (see --no-new-keyring)")
	perm := 0x3f1b0000 // the kernel's for a new one, and search by its user: who execs here finds it by its name, in place of making one more
	if c.ns.user() {
		perm |= 0x8 // and by others, as runc
	}
	c.Sys(do, unix.SYS_KEYCTL, i(unix.KEYCTL_SETPERM), i(unix.KEY_SPEC_SESSION_KEYRING), i(perm)).Tolerate(unix.EACCES).As("let it be found")
}

// oomByParent: lowering needs CAP_SYS_RESOURCE in the initial user namespace, which the stub has left.
func (c *c) oomByParent() {
	if adj := c.spec.Process.OOMScoreAdj; adj != nil && c.ns.userAtClone() {
		c.Field("process.oomScoreAdj", itoa(*adj))
		c.Call(plan.Sync, "oom", i(*adj)).As("write " + itoa(*adj) + " (lowering it needs CAP_SYS_RESOURCE)")
	}
}

// signals resets what an execve keeps: the mask, and signals that the caller ignores and Go's runtime never touches.
func (c *c) signals() {
	zero := c.Words(0, 0, 0, 0)
	c.stub(unix.SYS_RT_SIGPROCMASK, i(unix.SIG_SETMASK), zero, i(0), i(8))
	for _, s := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGCHLD, unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, 32, 33, 34} {
		c.stub(unix.SYS_RT_SIGACTION, i(int(s)), zero, i(0), i(8))
	}
}

// writeFile is open, write, close of a small file by the stub. dir is AT_FDCWD or path is absolute.
func (c *c) writeFile(dir int, path, text, hint string) {
	fd := c.Slot()
	c.stub(unix.SYS_OPENAT, i(dir), c.Str(path), i(unix.O_WRONLY|cloexec)).To(fd).As("open " + path)
	c.stub(unix.SYS_WRITE, plan.Val(fd), c.Str(text), i(len(text))).As("write " + text + hint)
	c.stub(unix.SYS_CLOSE, plan.Val(fd))
}

// hooks lets the parent move network devices, then run prestart, createRuntime and createContainer hooks, while the stub waits.
func (c *c) hooks() error {
	if !c.hooked() {
		return nil
	}
	h := c.spec.Hooks
	if h == nil {
		h = &specs.Hooks{}
	}
	c.waitAck()
	c.Field("hooks", "")
	c.Tell(0)
	c.Call(plan.Sync, "await")
	if len(c.spec.Linux.NetDevices) > 0 {
		c.Field("linux.netDevices", "")
		c.Call(plan.Sync, "netdevices")
	}
	//lint:ignore SA1019 prestart is deprecated, and used
	for k, n := range []int{len(h.Prestart), len(h.CreateRuntime), len(h.CreateContainer)} {
		if n > 0 {
			c.Field("hooks."+HookKinds[k], "")
			c.Call(plan.Sync, "hooks", i(k))
		}
	}
	c.Field("hooks", "")
	c.Call(plan.Sync, "ack")
	c.readAck()
	return nil
}

// hooked tells whether the parent has work while the stub waits.
func (c *c) hooked() bool {
	h := c.spec.Hooks
	//lint:ignore SA1019 prestart is deprecated, and used
	return h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0 || len(c.spec.Linux.NetDevices) > 0
}

// HookKinds are the operands of a "hooks" call, in order.
var HookKinds = [...]string{"prestart", "createRuntime", "createContainer", "startContainer"}

// names sets host and domain name.
func (c *c) names() error {
	if n := c.spec.Hostname; n != "" {
		c.Field("hostname", n)
		c.stub(unix.SYS_SETHOSTNAME, c.Str(n), i(len(n)))
	}
	if n := c.spec.Domainname; n != "" {
		c.Field("domainname", n)
		c.stub(unix.SYS_SETDOMAINNAME, c.Str(n), i(len(n)))
	}
	return nil
}
