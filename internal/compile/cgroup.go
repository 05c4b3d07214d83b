package compile

import (
	"slices"
	"strings"

	"vitro/internal/cgroup"
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
		c.hierarchy(tmp, &h, m.AttrSet)
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

// hierarchy mounts one hierarchy below the tmpfs.
func (c *c) hierarchy(tmp plan.Slot, h *cgroup.V1Mount, attrs uint64) {
	tree, t := c.cgroupTree(h, nil, attrs), c.Slot()
	c.stub(unix.SYS_OPENAT, plan.Val(tmp), c.Str(h.Name), i(unix.O_NOFOLLOW|cloexecDir)).To(t)
	c.attach(tree, t).As("mount cgroup " + h.Name)
	c.close(t)
	c.close(tree)
}

// cgroupTree is a hierarchy as the container may see it: mounted in its own cgroup namespace, or without one a bind of its own folder, since a mount would show
// the host's whole tree. The superblock exists: read-only is the mount's own flag, never the superblock's.
func (c *c) cgroupTree(h *cgroup.V1Mount, data []string, attrs uint64) plan.Slot {
	if c.ns.has(unix.CLONE_NEWCGROUP) || h.HostPath == "" {
		if h.Controllers == "" {
			return c.newFS("cgroup2", "cgroup", data, attrs)
		}
		return c.newFS("cgroup", "cgroup", mountOptions(h.Controllers), attrs)
	}
	tree := c.Slot()
	c.stub(unix.SYS_OPEN_TREE, i(unix.AT_FDCWD), c.Str(h.HostPath), i(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).To(tree).As("clone the tree of " + h.HostPath)
	c.setattr(tree, attrs, 0, c.defaultPropagation(), false)
	return tree
}

func (c *c) cgroup2(m *mount) {
	h := &cgroup.V1Mount{}
	if g := c.in.Group; g != nil && len(g.Mounts()) > 0 {
		h = &g.Mounts()[0]
	}
	tree, t := c.cgroupTree(h, m.Data, m.AttrSet), c.Slot()
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
	c.ns.cgroupMade = true
}

// delegated are the files of a cgroup2 folder whose owner may make groups below it (/sys/kernel/cgroup/delegate, cgroups(7)).
var delegated = [...]string{".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "memory.oom.group", "memory.reclaim"}

// delegate gives the container's cgroup to the root of its user namespace (runtime-spec config-linux.md, "Cgroup ownership"): where the container has its own
// cgroup namespace, and the cgroup mount that the config asks for can be written to.
func (c *c) delegate() {
	paths := c.in.Group.Paths()
	if !c.ns.isNew(unix.CLONE_NEWUSER) || !c.ns.isNew(unix.CLONE_NEWCGROUP) || len(paths) == 0 {
		return
	}
	owner := -1
	for _, m := range c.spec.Linux.UIDMappings {
		if m.ContainerID == 0 {
			owner = int(m.HostID)
		}
	}
	for k := range c.spec.Mounts {
		m := &c.spec.Mounts[k]
		if m.Type != "cgroup" && m.Type != "cgroup2" || slices.Contains(m.Options, "ro") || owner < 0 {
			continue
		}
		c.Field("linux.cgroupsPath", paths[0].Path)
		for _, file := range delegated {
			c.Sys(plan.Parent, unix.SYS_FCHOWNAT, plan.Val(c.in.Group.FD), c.Str(file), i(owner), i(-1), i(0)).Tolerate(unix.ENOENT).As("give it to the container's root")
		}
		return
	}
}
