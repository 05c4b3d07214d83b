package compile

import (
	"strings"

	"vitro/internal/plan"

	"golang.org/x/sys/unix"
)

// cgroupMount shows the container its own cgroups, rooted at its own place by a cgroup namespace.
func (c *c) cgroupMount(m *mount) error {
	c.waitAck() // v1: the namespace is rooted where the process is now
	c.unshareCgroup()
	c.Field(fieldAt("mounts", m.at), m.Destination)
	if c.in.Facts.V2 || c.in.Group == nil {
		c.cgroup2(m)
		return nil
	}
	tmp := c.newFS("tmpfs", "tmpfs", []string{"mode=755"}, m.AttrSet&^unix.MOUNT_ATTR_RDONLY)
	t := c.Slot()
	c.target(m.dest, true, 0, t)
	c.attach(tmp, t).As("mount tmpfs for cgroup v1")
	c.close(t)
	for _, h := range c.in.Group.Mounts() {
		c.stub(unix.SYS_MKDIRAT, plan.Val(tmp), c.Str(h.Name), i(0o755))
		c.hierarchy(tmp, h.Name, mountOptions(h.Controllers), h.Controllers == "", m.AttrSet)
		for _, link := range h.Symlinks {
			c.stub(unix.SYS_SYMLINKAT, c.Str(h.Name), plan.Val(tmp), c.Str(link)).Tolerate(unix.EEXIST)
		}
	}
	c.setattr(tmp, m.AttrSet&unix.MOUNT_ATTR_RDONLY, 0, 0, false)
	c.propagate(tmp, m)
	c.close(tmp)
	return nil
}

// mountOptions are those of a hierarchy; one that has only a name says so.
func mountOptions(controllers string) []string {
	switch {
	case controllers == "":
		return nil
	case strings.HasPrefix(controllers, "name="):
		return []string{"none", controllers}
	}
	return strings.Split(controllers, ",")
}

// hierarchy mounts one hierarchy below the tmpfs. Its superblock exists: read-only is the mount's own flag, never the superblock's.
func (c *c) hierarchy(tmp plan.Slot, name string, options []string, v2 bool, attrs uint64) {
	fstype := "cgroup"
	if v2 {
		fstype = "cgroup2"
	}
	tree, t := c.newFS(fstype, "cgroup", options, attrs), c.Slot()
	c.stub(unix.SYS_OPENAT, plan.Val(tmp), c.Str(name), i(unix.O_NOFOLLOW|cloexecDir)).To(t)
	c.attach(tree, t).As("mount " + fstype + " " + name)
	c.close(t)
	c.close(tree)
}

func (c *c) cgroup2(m *mount) {
	tree, t := c.newFS("cgroup2", "cgroup", m.Data, m.AttrSet), c.Slot()
	c.target(m.dest, true, 0, t)
	c.attach(tree, t).As("mount cgroup2")
	c.close(t)
	c.propagate(tree, m)
	c.close(tree)
}

// cgroupNamespace makes it where no cgroup mount has: control groups are namespaced also for who mounts them later.
func (c *c) cgroupNamespace() error {
	if c.ns.cgroupLate() != 0 {
		c.waitAck()
		c.unshareCgroup()
	}
	return nil
}

// unshareCgroup makes the cgroup namespace once the cgroups are joined.
func (c *c) unshareCgroup() {
	if c.ns.cgroupLate() == 0 {
		return
	}
	c.Field("linux.namespaces", "cgroup")
	c.stub(unix.SYS_UNSHARE, i(unix.CLONE_NEWCGROUP))
	c.ns.fresh &^= unix.CLONE_NEWCGROUP
}
