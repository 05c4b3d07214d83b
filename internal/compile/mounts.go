package compile

import (
	"errors"
	"slices"
	"strings"

	"vitro/internal/plan"
	"vitro/internal/spec"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mount is one entry of mounts, read.
type mount struct {
	*specs.Mount
	*spec.MountOptions
	at   int
	dest string    // relative to the root, clean
	tree plan.Slot // bind: the parent's clone of the source
}

func (m *mount) isBind() bool { return m.Bind || m.Type == "bind" || m.Type == "rbind" }

// sources reads every mount and makes the detached trees of bind sources while the host's paths are in reach.
func (c *c) sources() error {
	c.all = make([]mount, len(c.spec.Mounts))
	for k := range c.spec.Mounts {
		m := &c.all[k]
		m.Mount, m.at = &c.spec.Mounts[k], k
		var err error
		if m.MountOptions, err = spec.ParseMountOptions(m.Options); err != nil {
			return errors.New(fieldAt("mounts", k) + ".options: " + err.Error())
		}
		m.dest = clean(m.Destination)
		if t := c.in.Facts.Targets; t != nil && t[k] != "" {
			m.dest = t[k]
		}
		if m.dest == "." {
			return errors.New(fieldAt("mounts", k) + ".destination: a mount on / would cover root.path")
		}
		if m.Type == "rbind" {
			m.Rec = true
		}
		if !m.isBind() || m.Remount {
			continue
		}
		if err := c.checkBelowProc(m); err != nil {
			return err
		}
		if insideOnly(m.Source) || c.rootless() {
			continue
		}
		m.tree = c.Slot()
		c.Field(fieldAt("mounts", k), m.Destination)
		c.hostTree(c.sourcePath(m), recFlag(m.Rec), m.tree)
	}
	return nil
}

func recFlag(rec bool) int {
	if rec {
		return unix.AT_RECURSIVE
	}
	return 0
}

// sourcePath is the source, relative ones from the bundle.
func (c *c) sourcePath(m *mount) string {
	if strings.HasPrefix(m.Source, "/") {
		return m.Source
	}
	return c.in.Bundle + "/" + m.Source
}

// insideOnly are sources that mean the container's own process.
func insideOnly(source string) bool { return strings.HasPrefix(source, "/proc/self/") }

// checkBelowProc: a bind over /proc would hide or fake what the kernel says (CVE-2019-16884); lxcfs' files are the exception.
func (c *c) checkBelowProc(m *mount) error {
	if m.dest != "proc" && !strings.HasPrefix(m.dest, "proc/") {
		return nil
	}
	switch strings.TrimPrefix(m.dest, "proc/") {
	case "cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo", "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled":
		return nil
	case "proc":
		if strings.Trim(m.Source, "/") == "proc" {
			return nil
		}
	}
	return errors.New(fieldAt("mounts", m.at) + ".destination: " + m.Destination + " cannot be mounted because it is inside /proc")
}

// mounts makes them in their order.
func (c *c) mounts() error {
	for k := range c.all {
		m := &c.all[k]
		c.Field(fieldAt("mounts", k), m.Destination)
		switch {
		case m.Remount:
			c.remount(m)
		case m.isBind():
			c.bind(m)
		case m.isCgroup() && c.canWait(k):
			c.late = append(c.late, m)
		case m.isCgroup():
			if err := c.cgroupMount(m); err != nil {
				return err
			}
		default:
			c.filesystem(m)
		}
	}
	return nil
}

func (m *mount) isCgroup() bool { return m.Type == "cgroup" || m.Type == "cgroup2" }

// canWait tells whether a cgroup v1 mount can be made last, so that the stub does all else while the parent joins the control groups: nothing
// that comes meanwhile is above it, below it, or looks at it (a hook).
func (c *c) canWait(k int) bool {
	if c.in.Facts.V2 || c.hooked() {
		return false
	}
	dest := c.all[k].dest
	for n := range c.all[k+1:] {
		if related(dest, c.all[k+1+n].dest) {
			return false
		}
	}
	for _, list := range [][]string{c.spec.Linux.MaskedPaths, c.spec.Linux.ReadonlyPaths} {
		for _, p := range list {
			if related(dest, clean(p)) {
				return false
			}
		}
	}
	for n := range c.spec.Linux.Devices {
		if related(dest, clean(c.spec.Linux.Devices[n].Path)) {
			return false
		}
	}
	return true
}

// related: one is the other or lies below it.
func related(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return a == "." || a == b || strings.HasPrefix(b, a+"/")
}

// lateMounts are those that could wait.
func (c *c) lateMounts() error {
	for _, m := range c.late {
		if err := c.cgroupMount(m); err != nil {
			return err
		}
	}
	return nil
}

// remount changes the mount at the destination: what mount_setattr(2) has no flag for is its superblock's. fspick(2) takes a mount's root
// only, so that a remount of what is no mount fails as mount(2) has it.
func (c *c) remount(m *mount) {
	t, fs := c.Slot(), c.Slot()
	c.open(m.dest, unix.O_PATH, 0, t)
	c.stub(unix.SYS_FSPICK, plan.Val(t), c.Str(""), i(unix.FSPICK_EMPTY_PATH|unix.FSPICK_CLOEXEC)).To(fs).As("remount " + m.Destination)
	if options := m.superOptions(); len(options) > 0 && !m.isBind() {
		for _, d := range options {
			c.fsOption(fs, "remount "+m.Destination, d)
		}
		c.stub(unix.SYS_FSCONFIG, plan.Val(fs), i(unix.FSCONFIG_CMD_RECONFIGURE), i(0), i(0), i(0)).As("remount " + m.Destination)
	}
	c.close(fs)
	c.setattr(t, m.AttrSet, m.AttrClr, 0, false)
	c.setattr(t, m.RecSet, m.RecClr, 0, true)
	c.propagate(t, m)
	c.close(t)
}

// superOptions are the options of the file system, those that mount(2) has flags for among them. "ro" is not: it is the mount's.
func (m *mount) superOptions() []string {
	var flags []string
	for _, f := range [...]uint64{spec.MsSynchronous, spec.MsMandlock, spec.MsDirsync, spec.MsLazytime} {
		if m.SuperSet&f != 0 {
			flags = append(flags, spec.SuperName(f))
		}
	}
	if m.Remount {
		if m.SuperClr&spec.MsRdonly != 0 {
			flags = append(flags, "rw")
		}
		if m.SuperClr&spec.MsSynchronous != 0 {
			flags = append(flags, "async")
		}
		for _, f := range [...]uint64{spec.MsMandlock, spec.MsLazytime} {
			if m.SuperClr&f != 0 {
				flags = append(flags, "no"+spec.SuperName(f))
			}
		}
	}
	if flags == nil {
		return m.Data
	}
	return append(flags, m.Data...)
}

// bind attaches a clone of the source. In a user namespace the stub clones it itself first: flags of a tree that host root has cloned are not locked, and the
// container could clear nodev. Where its root cannot reach the source (or a locked mount lies below), the parent's clone is used.
func (c *c) bind(m *mount) {
	tree := m.tree
	if c.ns.user() || tree == 0 {
		tree = c.Slot()
		o := c.stub(unix.SYS_OPEN_TREE, i(unix.AT_FDCWD), c.Str(c.sourcePath(m)), i(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|recFlag(m.Rec))).To(tree).
			As("clone the tree of " + m.Source)
		if m.tree != 0 {
			o.Ok(1).Tolerate(unix.EACCES, unix.EPERM)
			if c.mayMount() {
				o.As("clone the tree of " + m.Source + " (where another is mounted below it: rbind?)")
			} else {
				o.Tolerate(unix.EINVAL)
			}
			c.Copy(plan.Stub, plan.Addr(tree), plan.Addr(m.tree), 8)
		}
	}
	c.setattr(tree, m.AttrSet, m.AttrClr, c.defaultPropagation(), false)
	c.setattr(tree, m.RecSet, m.RecClr, c.defaultPropagation(), true)
	t := c.Slot()
	isDir := c.in.Facts.SourceDir == nil || c.in.Facts.SourceDir[m.at]
	c.target(m.dest, isDir, 0, t)
	c.sameKind(t, isDir, "bind "+m.Source)
	c.attach(tree, t).As("bind " + m.Source)
	c.close(t)
	c.propagate(tree, m)
	c.close(tree)
	if m.tree != 0 && m.tree != tree {
		c.stub(unix.SYS_CLOSE, plan.Val(m.tree)).Tolerate(unix.EBADF)
	}
}

// mayMount tells whether the process can have CAP_SYS_ADMIN.
func (c *c) mayMount() bool {
	caps := c.spec.Process.Capabilities
	return caps != nil && (slices.Contains(caps.Bounding, "CAP_SYS_ADMIN") || slices.Contains(caps.Permitted, "CAP_SYS_ADMIN"))
}

// sameKind: the kernel says EINVAL for a file on a folder; callers match mount(2)'s ENOTDIR (moby's hint).
func (c *c) sameKind(target plan.Slot, dir bool, what string) {
	st := c.Scratch(statSize)
	c.stub(unix.SYS_NEWFSTATAT, plan.Val(target), c.Str(""), st, i(unix.AT_EMPTY_PATH))
	o := c.Test(plan.Stub, st.At(statMode), 4, unix.S_IFMT, unix.S_IFDIR, unix.ENOTDIR).As(what)
	if !dir {
		o.Ok(0).On(plan.AnyErrno, 1)
		c.Test(plan.Stub, plan.Addr(plan.SlotChan), 8, 0, 1, unix.ENOTDIR).As(what)
	}
}

// defaultPropagation of a tree cloned on the host: it is still in the host's peer group (crun #2059).
func (c *c) defaultPropagation() uint64 {
	switch c.spec.Linux.RootfsPropagation {
	case "shared", "rshared":
		return 0
	case "private", "rprivate", "unbindable", "runbindable":
		return unix.MS_PRIVATE
	}
	return unix.MS_SLAVE
}

func (c *c) propagate(tree plan.Slot, m *mount) {
	for _, p := range m.Propagation {
		c.setattr(tree, 0, 0, p&^unix.MS_REC, p&unix.MS_REC != 0)
	}
}

// filesystem makes a new superblock and mounts it: fsopen(2), fsconfig(2), fsmount(2), move_mount(2).
func (c *c) filesystem(m *mount) {
	set, keepMode := m.AttrSet, m.Type == "tmpfs" && !hasMode(m.Data)
	if m.dest == "dev" || keepMode || m.TmpCopyUp {
		set &^= unix.MOUNT_ATTR_RDONLY // something is still to be written; /dev's turn is in readonlyRoot
	}
	tree := c.newFS(m.Type, m.Source, m.superOptions(), set)
	resolve := 0
	if m.Type == "proc" || m.Type == "sysfs" {
		resolve = unix.RESOLVE_NO_SYMLINKS // an image whose /proc is a link must not choose where the kernel's files go (CVE-2019-19921)
	}
	t := c.Slot()
	found := c.target(m.dest, true, resolve, t)
	if keepMode {
		c.keepMode(tree, t, found)
	}
	if m.TmpCopyUp {
		c.copyUp(tree, t, m)
	}
	if m.dest != "dev" {
		c.setattr(tree, m.AttrSet&^set, 0, 0, false)
	}
	c.attach(tree, t).As("mount " + m.Type)
	c.close(t)
	c.setattr(tree, m.RecSet, m.RecClr, 0, true)
	c.propagate(tree, m)
	switch {
	case m.dest == "dev":
		c.dev = tree
	case m.dest == "proc" && m.Type == "proc":
		c.proc = tree
	default:
		c.close(tree)
	}
}

func hasMode(data []string) bool {
	for _, d := range data {
		if strings.HasPrefix(d, "mode=") {
			return true
		}
	}
	return false
}

// keepMode gives the root of a new tmpfs the mode of the folder that it will cover (runc #4971). One that we have just made keeps the kernel's 1777.
func (c *c) keepMode(tree, target plan.Slot, found int) {
	c.Skip(plan.Stub, 5)
	c.OkTo(found)
	st, mode, dir := c.Scratch(statSize), c.Slot(), c.Slot()
	c.stub(unix.SYS_NEWFSTATAT, plan.Val(target), c.Str(""), st, i(unix.AT_EMPTY_PATH))
	c.Copy(plan.Stub, plan.Addr(mode), st.At(statMode), 4)
	c.stub(unix.SYS_OPENAT, plan.Val(tree), c.Str("."), i(unix.O_DIRECTORY|cloexec)).To(dir)
	c.stub(unix.SYS_FCHMOD, plan.Val(dir), plan.Val(mode)).As("keep the mode of the folder")
	c.close(dir)
}

// newFS is a new, detached file system.
func (c *c) newFS(fstype, source string, data []string, attrs uint64) plan.Slot {
	fs, tree := c.Slot(), c.Slot()
	c.stub(unix.SYS_FSOPEN, c.Str(fstype), i(unix.FSOPEN_CLOEXEC)).To(fs).As("mount " + fstype)
	if source != "" {
		c.stub(unix.SYS_FSCONFIG, plan.Val(fs), i(unix.FSCONFIG_SET_STRING), c.Str("source"), c.Str(source), i(0)).As("mount " + fstype + ", source " + source)
	}
	for _, d := range data {
		c.fsOption(fs, "mount "+fstype, d)
	}
	c.stub(unix.SYS_FSCONFIG, plan.Val(fs), i(unix.FSCONFIG_CMD_CREATE), i(0), i(0), i(0)).As("mount " + fstype)
	c.stub(unix.SYS_FSMOUNT, plan.Val(fs), i(unix.FSMOUNT_CLOEXEC), plan.Int(attrs)).To(tree).As("mount " + fstype)
	c.close(fs)
	return tree
}

// fsOption gives a file system context one option.
func (c *c) fsOption(fs plan.Slot, what, d string) {
	if key, value, ok := strings.Cut(d, "="); ok {
		c.stub(unix.SYS_FSCONFIG, plan.Val(fs), i(unix.FSCONFIG_SET_STRING), c.Str(key), c.Str(value), i(0)).As(what + ", option " + d + c.unmappedHint(key))
	} else {
		c.stub(unix.SYS_FSCONFIG, plan.Val(fs), i(unix.FSCONFIG_SET_FLAG), c.Str(key), i(0), i(0)).As(what + ", option " + d)
	}
}

// unmappedHint explains EINVAL for the ids that a user namespace does not map.
func (c *c) unmappedHint(key string) string {
	if c.ns.user() && (key == "uid" || key == "gid") {
		return " (is that id in linux." + key + "Mappings?)"
	}
	return ""
}

// copyUp lets the parent copy what the mount will cover: readdir and xattrs are no ops.
func (c *c) copyUp(tree, target plan.Slot, m *mount) {
	c.waitAck()
	rec := c.Slot()
	both := c.Scratch(8)
	c.Copy(plan.Stub, both, plan.Addr(tree), 4)
	c.Copy(plan.Stub, both.At(4), plan.Addr(target), 4)
	c.Copy(plan.Stub, plan.Addr(rec), both, 8)
	c.Tell(rec)
	got := c.Slot()
	c.Call(plan.Sync, "await").To(got)
	c.Call(plan.Sync, "copyup", plan.Val(got))
	c.Call(plan.Sync, "ack")
	c.readAck()
}
