package compile

import (
	"vitro/internal/plan"

	"golang.org/x/sys/unix"
)

// attachRoot cuts propagation to the host and moves the detached tree of the rootfs onto "/", from where the pivot takes it.
func (c *c) attachRoot() error {
	if !c.ns.has(unix.CLONE_NEWNS) {
		return nil
	}
	c.Field("linux.rootfsPropagation", "/")
	host := uint64(unix.MS_SLAVE)
	if p := c.defaultPropagation(); p == unix.MS_PRIVATE {
		host = p
	}
	if c.spec.Linux.RootfsPropagation == "shared" || c.spec.Linux.RootfsPropagation == "rshared" {
		host = 0
	}
	if host != 0 {
		c.stub(unix.SYS_MOUNT, i(0), c.Str("/"), i(0), plan.Int(host|unix.MS_REC), i(0)).As("cut propagation of the old root")
	}
	c.Field("root.path", c.in.Facts.Rootfs)
	if c.treeByStub() {
		c.stub(unix.SYS_OPEN_TREE, i(unix.AT_FDCWD), c.Str(c.in.Facts.Rootfs), i(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)).To(c.root).As("clone the tree")
	}
	c.setattr(c.root, 0, 0, c.defaultPropagation(), true)
	c.stub(unix.SYS_MOVE_MOUNT, plan.Val(c.root), c.Str(""), i(unix.AT_FDCWD), c.Str("/"), i(unix.MOVE_MOUNT_F_EMPTY_PATH)).As("attach the rootfs")
	return nil
}

// enterRoot makes the rootfs "/": pivot_root(2), or chroot(2) on --no-pivot and without a mount namespace.
func (c *c) enterRoot() error {
	c.Field("root.path", c.in.Facts.Rootfs)
	c.stub(unix.SYS_FCHDIR, plan.Val(c.root))
	dot := c.Str(".")
	if c.in.NoPivot || !c.ns.has(unix.CLONE_NEWNS) {
		c.stub(unix.SYS_CHROOT, dot)
	} else {
		c.stub(unix.SYS_PIVOT_ROOT, dot, dot)
		c.stub(unix.SYS_UMOUNT2, dot, i(unix.MNT_DETACH)).As("detach the old root")
	}
	c.stub(unix.SYS_CHDIR, c.Str("/"))
	var p uint64
	switch c.spec.Linux.RootfsPropagation {
	case "shared", "rshared":
		p = unix.MS_SHARED
	case "unbindable", "runbindable":
		p = unix.MS_UNBINDABLE
	default:
		return nil
	}
	c.Field("linux.rootfsPropagation", c.spec.Linux.RootfsPropagation)
	c.stub(unix.SYS_MOUNT, i(0), c.Str("/"), i(0), plan.Int(p|unix.MS_REC), i(0))
	return nil
}

// readonlyRoot comes after everything that makes a file.
func (c *c) readonlyRoot() error {
	for k := range c.all {
		if m := &c.all[k]; m.dest == "dev" && m.AttrSet&unix.MOUNT_ATTR_RDONLY != 0 && !m.isBind() {
			c.Field(fieldAt("mounts", k), m.Destination)
			c.setattr(c.dev, unix.MOUNT_ATTR_RDONLY, 0, 0, false)
		}
	}
	if c.spec.Root.Readonly {
		c.Field("root.readonly", "/")
		c.setattr(c.root, unix.MOUNT_ATTR_RDONLY, 0, 0, false)
	}
	return nil
}

// readonlyPaths: a clone of the path, made read-only, on the path. Its other flags stay.
func (c *c) readonlyPaths() error {
	for k, p := range c.spec.Linux.ReadonlyPaths {
		c.Field(fieldAt("linux.readonlyPaths", k), p)
		at, tree := c.Slot(), c.Slot()
		c.open(clean(p), unix.O_PATH, 0, at).On(unix.ENOENT, 5)
		c.stub(unix.SYS_OPEN_TREE, plan.Val(at), c.Str(""), i(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)).To(tree)
		c.setattr(tree, unix.MOUNT_ATTR_RDONLY, 0, 0, true)
		c.attach(tree, at)
		c.close(tree)
		c.close(at)
	}
	return nil
}

// maskedPaths covers files with the host's null device (never the container's own /dev/null, CVE-2025-31133) and folders with an empty tmpfs.
// This is before the pivot: the host's paths are in reach, in a mount namespace of our own.
func (c *c) maskedPaths() error {
	if len(c.spec.Linux.MaskedPaths) == 0 {
		return nil
	}
	c.Field("linux.maskedPaths", "/dev/null")
	null := c.Str("/dev/null")
	st := c.Scratch(statSize)
	c.stub(unix.SYS_NEWFSTATAT, i(unix.AT_FDCWD), null, st, i(0))
	c.Test(plan.Stub, st.At(statRdev), 8, ^uint64(0), unix.Mkdev(1, 3), unix.ENODEV).Err("host: /dev/null is not the null device")
	dirs := c.emptyFolder()
	for k, p := range c.spec.Linux.MaskedPaths {
		c.Field(fieldAt("linux.maskedPaths", k), p)
		at, tree := c.Slot(), c.Slot()
		c.open(clean(p), unix.O_PATH, 0, at)
		first := len(c.Ops) - 1
		c.stub(unix.SYS_NEWFSTATAT, plan.Val(at), c.Str(""), st, i(unix.AT_EMPTY_PATH))
		c.Test(plan.Stub, st.At(statMode), 4, unix.S_IFMT, unix.S_IFDIR, 0).Ok(2).Tolerate(plan.AnyErrno)
		c.stub(unix.SYS_OPEN_TREE, i(unix.AT_FDCWD), null, i(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).To(tree).As("clone /dev/null")
		c.Skip(plan.Stub, 1)
		c.stub(unix.SYS_OPEN_TREE, plan.Val(dirs), c.Str(""), i(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)).To(tree).As("clone the empty folder")
		c.attach(tree, at).As("mask")
		c.close(tree)
		c.close(at)
		c.OnTo(first, unix.ENOENT)
		c.OnTo(first, unix.EACCES)
	}
	return nil
}

// emptyFolder is one read-only tmpfs for all masked folders (a superblock per mask is dear, runc #5275). It is attached to the old root's /proc, which is about to
// go: a tree can be cloned by fd only while it is attached (before Linux 6.15). In a joined mount namespace it stays detached.
func (c *c) emptyFolder() plan.Slot {
	dirs := c.newFS("tmpfs", "tmpfs", []string{"nr_blocks=1", "nr_inodes=2"}, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if c.ns.isNew(unix.CLONE_NEWNS) {
		c.stub(unix.SYS_MOVE_MOUNT, plan.Val(dirs), c.Str(""), i(unix.AT_FDCWD), c.Str("/proc"), i(unix.MOVE_MOUNT_F_EMPTY_PATH)).As("attach the empty folder to the old root")
	}
	return dirs
}
