package runtime

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"vitro/internal/compile"
	"vitro/internal/plan"
	"vitro/internal/spec"
	"vitro/internal/stub"
	"vitro/internal/sys"
)

// runInside runs a createContainer or startContainer hook in the container's namespaces: a stub program of its own, so
// that init's has no fork, wait or timer for it. The path is looked up in the runtime's mount tree as seen inside for
// createContainer, and in the container's for startContainer, which also runs as the container's user.
func (c *container) runInside(hook *specs.Hook, kind int, s *specs.Spec, status specs.ContainerState) error {
	h, err := newHookIO(c.ociState(status, insidePID(c.init.pid)))
	if err != nil {
		return err
	}
	defer h.close()
	pidfd, err := c.init.open()
	if err != nil {
		return ErrNotRunning
	}
	defer unix.Close(pidfd)
	flags, err := compile.Differing(c.init.pid)
	if err != nil { // never a hook of the container in the host's namespaces because init is gone
		return ErrNotRunning
	}
	var filter *compile.Facts
	if kind == startContainer { // the image's program, which is to have no more than the container's own
		if filter, err = loadFilter(c.dir); err != nil {
			return err
		}
	}
	p := c.hookProgram(hook, kind, s, h, pidfd, flags, filter)
	l, err := stub.Run(p, true, stub.Options{Fallback: c.dir, Warn: c.r.warn})
	if err != nil {
		return err
	}
	return h.wait(hook, l.PID, l.PIDFD)
}

func (c *container) hookProgram(hook *specs.Hook, kind int, s *specs.Spec, h *hookIO, pidfd, flags int, filter *compile.Facts) *plan.Program {
	b := plan.NewBuilder(64)
	b.Field("hooks", hook.Path)
	root := b.Slot()
	proc := "/proc/" + sys.Itoa(c.init.pid)
	// Init's own root: setns would land on whatever is mounted over "/", which before the pivot is the container's.
	b.Sys(plan.Parent, unix.SYS_OPENAT, plan.Int(unix.AT_FDCWD), b.Str(proc+"/root"), plan.Int(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)).To(root)
	b.Keep = append(b.Keep, root)
	b.KeepFD = append(b.KeepFD, pidfd, h.in[0], h.out[1], h.err[1])
	b.Clone.Comm = "vitrun:[hook]"
	b.CloneOp()
	if len(c.cgroups) > 0 {
		c.group().Join(b)
	}
	b.Call(plan.Sync, "ack")
	late := flags&unix.CLONE_NEWPID != 0
	if late {
		b.Call(plan.Sync, "await", plan.Int(1))
	}
	b.Sys(plan.Stub, unix.SYS_PRCTL, plan.Int(unix.PR_SET_NAME), b.Str(stub.StubComm))
	b.Sys(plan.Stub, unix.SYS_PRCTL, plan.Int(unix.PR_SET_DUMPABLE), plan.Int(0))
	b.Sys(plan.Stub, unix.SYS_READ, plan.Val(plan.SlotChan), b.Scratch(8), plan.Int(1)).Want(1).As("wait for vitrun")
	compile.JoinNamespaces(b, pidfd, flags, unix.Geteuid() != 0)
	b.Sys(plan.Stub, unix.SYS_FCHDIR, plan.Val(root))
	b.Sys(plan.Stub, unix.SYS_CHROOT, b.Str(".")).Tolerate(unix.EPERM)
	if late { // last, as in an exec: what processes in the pid namespace can see has nothing of the host any more
		b.Fork()
	}
	for i, fd := range []int{h.in[0], h.out[1], h.err[1]} {
		b.Sys(plan.Stub, unix.SYS_DUP3, plan.Int(fd), plan.Int(i), plan.Int(0))
	}
	b.Sys(plan.Stub, unix.SYS_CLOSE_RANGE, plan.Int(firstExtra), plan.Int(uint32(1<<32-1)), plan.Int(unix.CLOSE_RANGE_CLOEXEC))
	env := hook.Env
	if env == nil && s.Process != nil {
		env = s.Process.Env
	}
	if kind == startContainer {
		b.Sys(plan.Stub, unix.SYS_CHDIR, b.Str(s.Process.Cwd)).As("change to process.cwd").Tolerate(unix.EACCES, unix.ENOENT)
		identityOps(b, s.Process, filter)
	} else {
		b.Sys(plan.Stub, unix.SYS_CHDIR, b.Str(c.bundle)).Tolerate(unix.EACCES, unix.ENOENT)
	}
	b.Sys(plan.Stub, unix.SYS_EXECVE, b.Str(hook.Path), b.Vec(hookArgs(hook)), b.Vec(env)).Err("fork/exec " + hook.Path + ": %e")
	return b.Program
}

// identityOps becomes the container's user, with its capabilities and its seccomp filter (CASES §1, identity).
func identityOps(b *plan.Builder, p *specs.Process, filter *compile.Facts) {
	b.Field("process.user", "")
	var sets [5]uint64 // effective, permitted, inheritable (stays empty), bounding, ambient
	if c := p.Capabilities; c != nil {
		sets[0], sets[1], sets[3] = capMask(c.Effective), capMask(c.Permitted), capMask(c.Bounding)
	}
	for n := range 41 {
		if sets[3]&(1<<n) == 0 {
			b.Sys(plan.Stub, unix.SYS_PRCTL, plan.Int(unix.PR_CAPBSET_DROP), plan.Int(n)).Tolerate(unix.EINVAL)
		}
	}
	b.Sys(plan.Stub, unix.SYS_PRCTL, plan.Int(unix.PR_SET_KEEPCAPS), plan.Int(1))
	u := &p.User
	b.Sys(plan.Stub, unix.SYS_SETGROUPS, plan.Int(len(u.AdditionalGids)), b.U32s(append(u.AdditionalGids[:len(u.AdditionalGids):len(u.AdditionalGids)], 0)...)).Tolerate(unix.EPERM)
	b.Sys(plan.Stub, unix.SYS_SETRESGID, plan.Int(u.GID), plan.Int(u.GID), plan.Int(u.GID))
	b.Sys(plan.Stub, unix.SYS_SETRESUID, plan.Int(u.UID), plan.Int(u.UID), plan.Int(u.UID))
	b.Field("process.capabilities", "")
	head := b.U32s(unix.LINUX_CAPABILITY_VERSION_3, 0)
	if filter != nil && !p.NoNewPrivileges { // loading takes CAP_SYS_ADMIN: what is permitted is made effective again
		now := b.Scratch(24)
		b.Sys(plan.Stub, unix.SYS_CAPGET, head, now)
		b.Copy(plan.Stub, now, now.At(4), 4)
		b.Copy(plan.Stub, now.At(12), now.At(16), 4)
		b.Sys(plan.Stub, unix.SYS_CAPSET, head, now)
		filterOp(b, filter)
	}
	e, pm := sets[0], sets[1]
	b.Sys(plan.Stub, unix.SYS_CAPSET, head, b.U32s(uint32(e), uint32(pm), 0, uint32(e>>32), uint32(pm>>32), 0))
	if p.NoNewPrivileges {
		b.Sys(plan.Stub, unix.SYS_PRCTL, plan.Int(unix.PR_SET_NO_NEW_PRIVS), plan.Int(1), plan.Int(0), plan.Int(0), plan.Int(0))
		if filter != nil {
			filterOp(b, filter)
		}
	}
	b.Field("hooks", "")
}

// filterOp is seccomp(2).
func filterOp(b *plan.Builder, f *compile.Facts) {
	b.Field("linux.seccomp", "")
	prog := b.Words(uint64(len(f.Program)/8), 0)
	b.Ptr(prog, 8, b.Bytes(f.Program))
	b.Sys(plan.Stub, unix.SYS_SECCOMP, plan.Int(unix.SECCOMP_SET_MODE_FILTER), plan.Int(f.SecFlags), prog).As("load the filter")
	b.Field("process.capabilities", "")
}

func capMask(names []string) (m uint64) {
	for _, n := range names {
		if i, ok := spec.CapNumber(strings.ToUpper(n)); ok {
			m |= 1 << i
		}
	}
	return m
}

func (r *Runtime) warn(msg string) { r.log("warning", msg) }
