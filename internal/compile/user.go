package compile

import (
	"errors"
	"strings"

	"vitro/internal/plan"
	"vitro/internal/spec"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// stdio gives fds 0-2 to the process's user, as runc does: /proc/self/fd/1 can then be opened. The group stays.
func (c *c) stdio() error {
	u := &c.spec.Process.User
	if u.UID == 0 && !c.ns.user() && !c.spec.Process.Terminal {
		return nil
	}
	c.Field("process.user.uid", "stdio")
	for fd := range 3 {
		if !c.spec.Process.Terminal && (c.in.Facts.StdioNull[fd] || !c.in.Facts.StdioOpen[fd]) {
			continue
		}
		c.stub(unix.SYS_FCHOWN, i(fd), plan.Int(u.UID), i(-1)).Tolerate(unix.EPERM, unix.EROFS, unix.EINVAL, unix.EBADF)
	}
	return nil
}

// limitsByParent: in a user namespace raising a hard limit takes the parent, whose CAP_SYS_RESOURCE is the initial one's. Not earlier: a low RLIMIT_NOFILE
// would fail the stub's own opens.
func (c *c) limitsByParent() {
	if !c.ns.user() || !c.in.Facts.Raises {
		return
	}
	c.Field("process.rlimits", "")
	c.Tell(0)
	c.Call(plan.Sync, "await")
	c.rlimits(plan.Sync, plan.Val(plan.SlotPID))
	c.Field("process.rlimits", "")
	c.Call(plan.Sync, "ack")
	c.readAck()
}

// rlimits by prlimit(2).
func (c *c) rlimits(do plan.Doer, pid plan.Arg) {
	for k, r := range c.spec.Process.Rlimits {
		n, ok := spec.RlimitNumber(r.Type)
		if !ok {
			continue // Validate has refused it
		}
		c.Field(fieldAt("process.rlimits", k), r.Type)
		c.Sys(do, unix.SYS_PRLIMIT64, pid, plan.Int(n), c.Words(r.Soft, r.Hard), i(0)).As("set " + itoa64(r.Soft) + ":" + itoa64(r.Hard) + " (raising a hard limit needs CAP_SYS_RESOURCE)")
	}
}

// workdir makes the working directory before the root is read-only. Folders that are made have the container's umask 022.
func (c *c) workdir() error {
	cwd := c.spec.Process.Cwd
	c.Field("process.cwd", cwd)
	path := clean(cwd)
	if path == "." {
		return nil
	}
	c.stub(unix.SYS_CHDIR, c.Str("/"+path)).Tolerate(unix.EACCES)
	first := len(c.Ops) - 1
	c.Ops[first].On(unix.ENOENT, 0)
	parts := strings.Split(path, "/")
	for k := range parts {
		c.stub(unix.SYS_MKDIRAT, i(unix.AT_FDCWD), c.Str("/"+strings.Join(parts[:k+1], "/")), i(0o755)).Tolerate(unix.EEXIST).As("make the folder")
	}
	c.OkTo(first)
	for k := range c.Ops[first].Cases[:1] { // EACCES: leave it, the user may still get in
		c.Ops[first].Cases[k].Skip = c.Ops[first].OnOK
	}
	return nil
}

// identity: working directory, bounding set, groups, ids. Capabilities stay permitted over setuid until the last capset.
func (c *c) identity() error {
	p := c.spec.Process
	if !c.ns.user() || !c.in.Facts.Raises {
		c.rlimits(plan.Stub, i(0))
	}
	if err := c.parseCaps(p.Capabilities); err != nil {
		return err
	}
	c.chdir(true)
	c.Field("process.capabilities.bounding", "")
	for n := range lastCap + 1 {
		if c.caps.bounding&(1<<n) == 0 {
			c.stub(unix.SYS_PRCTL, i(unix.PR_CAPBSET_DROP), i(n)).Tolerate(unix.EINVAL).As("drop " + capName(n))
		}
	}
	c.Field("process.user", "")
	c.stub(unix.SYS_PRCTL, i(unix.PR_SET_KEEPCAPS), i(1))
	u := &p.User
	if c.mayTakeGroups() {
		c.Field("process.user.additionalGids", "")
		gids := c.U32s(append([]uint32{}, u.AdditionalGids...)...)
		o := c.stub(unix.SYS_SETGROUPS, i(len(u.AdditionalGids)), gids)
		if len(u.AdditionalGids) == 0 && (c.ns.joins&unix.CLONE_NEWUSER != 0 || c.in.Facts.UserNS) {
			o.Tolerate(unix.EPERM) // its /proc/PID/setgroups may say "deny", and then there is nothing to drop with
		}
	} else if len(u.AdditionalGids) > 0 {
		return errors.New("process.user.additionalGids: cannot set any additional groups in a rootless container")
	}
	c.Field("process.user.gid", itoa(int(u.GID)))
	gid := c.stub(unix.SYS_SETRESGID, plan.Int(u.GID), plan.Int(u.GID), plan.Int(u.GID))
	c.Field("process.user.uid", itoa(int(u.UID)))
	uid := c.stub(unix.SYS_SETRESUID, plan.Int(u.UID), plan.Int(u.UID), plan.Int(u.UID))
	if c.ns.user() {
		gid.As("setresgid (is it mapped in the user namespace?)")
		uid.As("setresuid (is it mapped in the user namespace?)")
	}
	c.chdir(false)
	c.Field("process.user.umask", "")
	umask := uint32(0o022)
	if u.Umask != nil {
		umask = *u.Umask
	}
	c.stub(unix.SYS_UMASK, plan.Int(umask))
	return nil
}

func (c *c) mayTakeGroups() bool { return c.in.Facts.EUID == 0 || !c.ns.user() }

// chdir is done as root (early) and, where root was refused (NFS), again as the user; then the place must be inside the root (CVE-2024-21626).
func (c *c) chdir(early bool) {
	c.Field("process.cwd", c.spec.Process.Cwd)
	path := c.Str("/" + strings.TrimPrefix(c.spec.Process.Cwd, "/"))
	if early {
		c.stub(unix.SYS_CHDIR, path).Tolerate(unix.EACCES)
		return
	}
	c.stub(unix.SYS_CHDIR, path).As("change to it")
	buf := c.Scratch(4096)
	c.stub(unix.SYS_GETCWD, buf, i(4096))
	c.Test(plan.Stub, buf, 1, 0xff, '/', unix.EXDEV).Err("process.cwd (" + c.spec.Process.Cwd + "): current working directory is outside of container mount namespace root -- possible container breakout detected")
}

// capabilities(7) as 64-bit sets.
type capSets struct{ bounding, effective, permitted, ambient uint64 }

const lastCap = 45 // above the newest known one: dropping an unknown capability is EINVAL, tolerated

func (c *c) parseCaps(l *specs.LinuxCapabilities) error {
	if l == nil {
		return nil
	}
	for _, s := range []struct {
		name  string
		names []string
		to    *uint64
	}{
		{"bounding", l.Bounding, &c.caps.bounding},
		{"effective", l.Effective, &c.caps.effective},
		{"permitted", l.Permitted, &c.caps.permitted},
		{"ambient", l.Ambient, &c.caps.ambient},
		{"inheritable", l.Inheritable, &c.inheritable},
	} {
		for k, n := range s.names {
			bit, ok := spec.CapNumber(n)
			if !ok {
				return errors.New("process.capabilities." + fieldAt(s.name, k) + `: unknown capability "` + n + `"`)
			}
			*s.to |= 1 << bit
		}
	}
	return nil
}

// capset sets the three sets of the thread.
func (c *c) capset(eff, perm, inh uint64) *plan.Op {
	c.Field("process.capabilities", "")
	return c.stub(unix.SYS_CAPSET, c.U32s(unix.LINUX_CAPABILITY_VERSION_3, 0),
		c.U32s(uint32(eff), uint32(perm), uint32(inh), uint32(eff>>32), uint32(perm>>32), uint32(inh>>32)))
}

// raiseCaps makes effective what is permitted (setresuid has cleared it), and sets inheritable. Which those are only the kernel knows: the caller may lack some.
func (c *c) raiseCaps() {
	c.Field("process.capabilities", "")
	hdr, sets := c.U32s(unix.LINUX_CAPABILITY_VERSION_3, 0), c.Scratch(24)
	c.stub(unix.SYS_CAPGET, hdr, sets)
	for _, word := range []int{0, 12} {
		c.Copy(plan.Stub, sets.At(word), sets.At(word+4), 4)
	}
	inh := c.U32s(uint32(c.inheritable), uint32(c.inheritable>>32))
	c.Copy(plan.Stub, sets.At(8), inh, 4)
	c.Copy(plan.Stub, sets.At(20), inh.At(4), 4)
	c.stub(unix.SYS_CAPSET, hdr, sets).As("raise what is permitted")
}

// finalCaps is the last capset and the ambient set.
func (c *c) finalCaps() {
	c.capset(c.caps.effective, c.caps.permitted, c.inheritable).As("set effective, permitted and inheritable")
	c.ambient()
}

// ambient needs its capabilities in permitted and inheritable. A refusal only loses what the caller was never going to have.
func (c *c) ambient() {
	c.stub(unix.SYS_PRCTL, i(unix.PR_CAP_AMBIENT), i(unix.PR_CAP_AMBIENT_CLEAR_ALL), i(0), i(0), i(0)).Tolerate(unix.EINVAL)
	c.Field("process.capabilities.ambient", "")
	for n := range lastCap + 1 {
		if c.caps.ambient&(1<<n) != 0 {
			c.stub(unix.SYS_PRCTL, i(unix.PR_CAP_AMBIENT), i(unix.PR_CAP_AMBIENT_RAISE), i(n), i(0), i(0)).Tolerate(unix.EPERM).As("raise " + spec.CapName(n))
		}
	}
}

func capName(n int) string {
	if s := spec.CapName(n); s != "" {
		return s
	}
	return "capability " + itoa(n)
}

func itoa64(n uint64) string {
	if n == ^uint64(0) {
		return "unlimited"
	}
	return itoa(int(n))
}
