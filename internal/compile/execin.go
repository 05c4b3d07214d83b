package compile

import (
	"vitro/internal/cgroup"
	"vitro/internal/plan"
	"vitro/internal/sys"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ExecInput is what a second process of a container depends on.
type ExecInput struct {
	Process   *specs.Process
	PID       int // the container's init
	PIDFD     int // checked by the caller to be that process
	ID        string
	StateDir  string
	NoKeyring bool
	ConsoleFD int
	ExtraFDs  int
	CgroupDir string                // v2: the folder that the clone goes into; "" for none
	Join      func(b *plan.Builder) // v1: Sync ops that move the process into the cgroups; nil for none
	Seccomp   *Facts                // Program and SecFlags
	Facts     ExecFacts
}

// ExecFacts are what GatherExec has seen.
type ExecFacts struct {
	Namespaces int  // CLONE_NEW* flags of the namespaces that are not our own
	Chroot     bool // the container has our mount namespace and another root
	Home       string
	Facts
}

var nsFiles = [...]struct {
	name string
	flag int
}{
	{"mnt", unix.CLONE_NEWNS},
	{"pid", unix.CLONE_NEWPID},
	{"net", unix.CLONE_NEWNET},
	{"ipc", unix.CLONE_NEWIPC},
	{"uts", unix.CLONE_NEWUTS},
	{"user", unix.CLONE_NEWUSER},
	{"cgroup", unix.CLONE_NEWCGROUP},
	{"time", unix.CLONE_NEWTIME},
}

// Differing are the CLONE_NEW* flags of the namespaces of pid that are not our own, by inode: setns(2) into the own user namespace is EINVAL.
func Differing(pid int) (flags int, err error) {
	for _, n := range nsFiles {
		var own, theirs unix.Stat_t
		if err := unix.Stat("/proc/"+itoa(pid)+"/ns/"+n.name, &theirs); err != nil {
			if n.flag == unix.CLONE_NEWTIME { // Linux 5.6, and where it is built in
				continue
			}
			return 0, err
		}
		if err := unix.Stat("/proc/self/ns/"+n.name, &own); err != nil {
			return 0, err
		}
		if own.Ino != theirs.Ino {
			flags |= n.flag
		}
	}
	return flags, nil
}

// GatherExec looks at the container and at our own files.
func GatherExec(in *ExecInput) error {
	f := &in.Facts
	f.EUID = unix.Geteuid()
	var own unix.Stat_t
	f.UserNS = unix.Stat("/proc/self/ns/user", &own) == nil && own.Ino != cgroup.InitUserNS
	proc := "/proc/" + itoa(in.PID)
	var err error
	if f.Namespaces, err = Differing(in.PID); err != nil {
		return err
	}
	f.Chroot = f.Namespaces&unix.CLONE_NEWNS == 0
	gatherStdio(&f.Facts)
	if err := gatherAppArmor(&f.Facts, in.Process); err != nil {
		return err
	}
	f.Raises = raises(in.Process)
	if !hasHome(in.Process.Env) {
		fd, err := unix.Open(proc+"/root", cloexecDir, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		f.Facts.Home = homeAt(fd, in.Process.User.UID)
	}
	return nil
}

// Exec compiles a process that joins a running container: the stub joins everything, and goes on as a child in the pid namespace.
func Exec(in *ExecInput) (*plan.Program, error) {
	if in.Seccomp != nil {
		in.Facts.Program, in.Facts.SecFlags = in.Seccomp.Program, in.Seccomp.SecFlags
	}
	c := &c{Builder: plan.NewBuilder(160), in: &Input{
		ID: in.ID, StateDir: in.StateDir, NoKeyring: in.NoKeyring, ConsoleFD: in.ConsoleFD, ExtraFDs: in.ExtraFDs, Facts: in.Facts.Facts,
	}}
	c.spec = &specs.Spec{Process: in.Process, Linux: &specs.Linux{}, Root: &specs.Root{}}
	c.in.Spec = c.spec
	c.ns.joins = in.Facts.Namespaces
	steps := []func() error{
		func() error { return c.execBefore(in) }, c.session, func() error { return c.execJoin(in) }, c.execRoot, c.execFork,
		c.console, c.stdio, c.identity, c.finish,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c.Program, nil
}

func (c *c) execBefore(in *ExecInput) error {
	proc := "/proc/" + sys.Itoa(in.PID)
	c.KeepFD = append(c.KeepFD, in.PIDFD)
	if in.ConsoleFD >= 0 {
		c.KeepFD = append(c.KeepFD, in.ConsoleFD)
	}
	for n := range in.ExtraFDs {
		c.KeepFD = append(c.KeepFD, 3+n)
	}
	if in.Facts.Chroot {
		c.root = c.Slot()
		c.Field("container", proc+"/root")
		c.Sys(plan.Parent, unix.SYS_OPENAT, i(unix.AT_FDCWD), c.Str(proc+"/root"), i(cloexecDir)).To(c.root)
		c.Keep = append(c.Keep, c.root)
	}
	c.Clone.Comm = "vitrun"
	if in.CgroupDir != "" {
		fd := c.Slot()
		c.Field("cgroup", in.CgroupDir)
		c.Sys(plan.Parent, unix.SYS_OPENAT, i(unix.AT_FDCWD), c.Str(in.CgroupDir), i(cloexecDir)).To(fd)
		c.Clone.CgroupFD = fd
	}
	c.Field("container", in.ID)
	c.CloneOp()
	if in.Join != nil {
		in.Join(c.Builder)
	}
	c.Call(plan.Sync, "state")
	c.Call(plan.Sync, "ack")
	c.acks = 1
	if c.forks() {
		c.Call(plan.Sync, "await", i(1))
	}
	return nil
}

// execJoin: dumpable off first, so that the container cannot look into us.
func (c *c) execJoin(in *ExecInput) error {
	c.Field("container", in.ID)
	c.stub(unix.SYS_PRCTL, i(unix.PR_SET_DUMPABLE), i(0))
	c.waitAck() // in the cgroups before anything of the container is seen
	JoinNamespaces(c.Builder, in.PIDFD, in.Facts.Namespaces, in.Facts.EUID != 0)
	return nil
}

// JoinNamespaces appends stub ops that join namespaces (CLONE_NEW* flags) of a pidfd's process. User is the last, since the others may need
// the host's capabilities; a rootless caller has none but those that the user namespace gives.
func JoinNamespaces(b *plan.Builder, pidfd, flags int, rootless bool) {
	user, rest := flags&unix.CLONE_NEWUSER, flags&^unix.CLONE_NEWUSER
	others := func() {
		if rest != 0 {
			b.Sys(plan.Stub, unix.SYS_SETNS, i(pidfd), i(rest)).As("join the namespaces")
		}
	}
	if !rootless {
		others()
	}
	if user != 0 {
		b.Sys(plan.Stub, unix.SYS_SETNS, i(pidfd), i(user)).As("join the user namespace")
		b.Sys(plan.Stub, unix.SYS_SETRESGID, i(0), i(0), i(0)).Tolerate(unix.EINVAL) // 0 may be unmapped: capabilities are there all the same
		b.Sys(plan.Stub, unix.SYS_SETRESUID, i(0), i(0), i(0)).Tolerate(unix.EINVAL)
	}
	if rootless {
		others()
	}
}

// execRoot: setns(2) into a mount namespace sets the root; a chroot container has ours. The root's fd serves the console.
func (c *c) execRoot() error {
	if c.root != 0 {
		c.stub(unix.SYS_FCHDIR, plan.Val(c.root))
		c.stub(unix.SYS_CHROOT, c.Str("."))
		return nil
	}
	c.root = c.Slot()
	c.stub(unix.SYS_OPENAT, i(unix.AT_FDCWD), c.Str("/"), i(cloexecDir)).To(c.root)
	return nil
}

// execFork comes last: what the container's processes can see, and with CAP_SYS_PTRACE control, has nothing of the host any more.
func (c *c) execFork() error {
	if c.forks() {
		c.Field("container", c.in.ID)
		c.Fork()
	}
	return nil
}
