package compile

import (
	"sort"
	"strings"

	"vitro/internal/plan"

	"golang.org/x/sys/unix"
)

// sysctls writes through a procfs of our own, not through the container's /proc; net.* means the opener's network namespace.
func (c *c) sysctls() error {
	if len(c.spec.Linux.Sysctl) == 0 {
		return nil
	}
	keys := make([]string, 0, len(c.spec.Linux.Sysctl))
	for k := range c.spec.Linux.Sysctl {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	if c.proc == 0 {
		c.Field("linux.sysctl", "private procfs")
		c.proc = c.newFS("proc", "proc", nil, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	}
	for _, k := range keys {
		c.Field("linux.sysctl", k)
		path := "sys/" + strings.ReplaceAll(k, ".", "/")
		if strings.Contains(k, "/") { // the other spelling: dots belong to names (sysctl(8))
			path = "sys/" + k
		}
		v := c.spec.Linux.Sysctl[k]
		fd := c.Slot()
		how := c.Words(unix.O_WRONLY|cloexec, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
		c.stub(unix.SYS_OPENAT2, plan.Val(c.proc), c.Str(path), how, i(24)).Again(unix.EAGAIN, tries).To(fd).As("open")
		c.stub(unix.SYS_WRITE, plan.Val(fd), c.Str(v), i(len(v))).As("write " + v)
		c.close(fd)
	}
	return nil
}
