package compile

import (
	"errors"
	"path"
	"strings"

	"vitro/internal/plan"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultDevices are the ones that every container has (runtime-spec, config-linux.md, "Default Devices").
var defaultDevices = [...]struct {
	name         string
	major, minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

var devLinks = [...]struct{ target, name string }{
	{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
}

// devices fills /dev, unless the config binds one over it.
func (c *c) devices() error {
	for k := range c.all {
		if c.all[k].dest == "dev" && c.all[k].isBind() {
			return nil
		}
	}
	c.Field("linux.devices", "/dev")
	if c.dev == 0 {
		c.dev = c.Slot()
		c.target("/dev", true, 0, c.dev)
	}
	for _, d := range defaultDevices {
		if !c.listed("/dev/" + d.name) {
			c.Field("linux.devices", "/dev/"+d.name)
			c.node(c.dev, d.name, unix.S_IFCHR, 0o666, d.major, d.minor, 0, 0)
		}
	}
	for k := range c.spec.Linux.Devices {
		if err := c.device(k, &c.spec.Linux.Devices[k]); err != nil {
			return err
		}
	}
	for _, l := range devLinks {
		c.Field("linux.devices", "/dev/"+l.name)
		c.stub(unix.SYS_SYMLINKAT, c.Str(l.target), plan.Val(c.dev), c.Str(l.name)).Tolerate(unix.EEXIST)
	}
	c.Field("linux.devices", "/dev/ptmx")
	c.stub(unix.SYS_UNLINKAT, plan.Val(c.dev), c.Str("ptmx"), i(0)).Tolerate(unix.ENOENT)
	c.stub(unix.SYS_SYMLINKAT, c.Str("pts/ptmx"), plan.Val(c.dev), c.Str("ptmx"))
	c.ownNull()
	return nil
}

// ownNull replaces a stdio that is the host's null device by the container's: root inside could change the mode and the owner of the host's node through it.
func (c *c) ownNull() {
	null := &c.in.Facts.StdioNull
	if c.spec.Process.Terminal || !(null[0] || null[1] || null[2]) {
		return
	}
	for k := range c.spec.Linux.Devices {
		if d := &c.spec.Linux.Devices[k]; path.Clean(d.Path) == "/dev/null" && (d.Type != "c" || d.Major != 1 || d.Minor != 3) {
			return
		}
	}
	c.Field("stdio", "/dev/null")
	fd := c.Slot()
	c.stub(unix.SYS_OPENAT, plan.Val(c.dev), c.Str("null"), i(unix.O_RDWR|unix.O_NOFOLLOW|cloexec)).To(fd)
	open := len(c.Ops) - 1
	for n := range null {
		if null[n] {
			c.stub(unix.SYS_DUP3, plan.Val(fd), i(n), i(0))
		}
	}
	c.close(fd)
	c.OnTo(open, unix.EACCES) // /dev is mounted nodev: its null device can serve nobody
}

func (c *c) listed(p string) bool {
	for k := range c.spec.Linux.Devices {
		if path.Clean(c.spec.Linux.Devices[k].Path) == p {
			return true
		}
	}
	return false
}

// device makes one of linux.devices; its folder is made where it is missing.
func (c *c) device(k int, d *specs.LinuxDevice) error {
	field := fieldAt("linux.devices", k)
	kind, ok := map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}[d.Type]
	if !ok {
		return errors.New(field + `.type: unknown device type "` + d.Type + `"`)
	}
	mode, uid, gid := uint32(0o666), uint32(0), uint32(0)
	if d.FileMode != nil {
		mode = uint32(d.FileMode.Perm())
	}
	if d.UID != nil {
		uid = *d.UID
	}
	if d.GID != nil {
		gid = *d.GID
	}
	c.Field(field, d.Path)
	dir, name := path.Split("/" + clean(d.Path))
	at := c.dev
	if dir != "/dev/" {
		at = c.Slot()
		c.target(dir, true, 0, at)
	}
	c.node(at, name, kind, mode, uint32(d.Major), uint32(d.Minor), uid, gid)
	if at != c.dev {
		c.close(at)
	}
	return nil
}

// node makes a device by the fd of its folder. One that is there already must be that device and no link (an image's own /dev is hostile).
// In a user namespace mknod is refused: the host's node of that name is bound.
func (c *c) node(at plan.Slot, name string, kind, mode, major, minor, uid, gid uint32) {
	if (c.ns.user() || c.in.Facts.UserNS) && kind != unix.S_IFIFO {
		c.bindNode(at, name)
		return
	}
	rdev := unix.Mkdev(major, minor)
	n := c.Str(name)
	c.stub(unix.SYS_MKNODAT, plan.Val(at), n, plan.Int(kind|mode), plan.Int(rdev)).As("make the device node")
	made := len(c.Ops) - 1
	c.Ops[made].Tolerate(unix.EEXIST)
	st := c.Scratch(statSize)
	c.stub(unix.SYS_NEWFSTATAT, plan.Val(at), n, st, i(unix.AT_SYMLINK_NOFOLLOW))
	c.Test(plan.Stub, st.At(statMode), 4, unix.S_IFMT, uint64(kind), unix.EEXIST).As("check the type of the node that is there")
	c.Test(plan.Stub, st.At(statRdev), 8, ^uint64(0), rdev, unix.EEXIST).As("check the number of the node that is there")
	c.OkTo(made)
	if uid|gid != 0 {
		c.stub(unix.SYS_FCHOWNAT, plan.Val(at), n, plan.Int(uid), plan.Int(gid), i(unix.AT_SYMLINK_NOFOLLOW))
	}
}

func (c *c) bindNode(at plan.Slot, name string) {
	tree, t, n := c.Slot(), c.Slot(), c.Str(name)
	c.stub(unix.SYS_OPEN_TREE, i(unix.AT_FDCWD), c.Str("/dev/"+name), i(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).To(tree).As("clone the host's /dev/" + name)
	c.stub(unix.SYS_MKNODAT, plan.Val(at), n, i(unix.S_IFREG|0o666), i(0)).Tolerate(unix.EEXIST).As("make the file for the device")
	c.stub(unix.SYS_OPENAT, plan.Val(at), n, i(unix.O_PATH|unix.O_NOFOLLOW|cloexec)).To(t)
	c.attach(tree, t).As("bind the host's device")
	c.close(t)
	c.close(tree)
}

// console gives the process a pty of the container's own devpts and sends its master to ConsoleFD.
func (c *c) console() error {
	if !c.spec.Process.Terminal {
		return nil
	}
	c.Field("process.terminal", "/dev/console")
	master, peer := c.Slot(), c.Slot()
	st := c.Scratch(statSize)
	c.open("dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, unix.RESOLVE_NO_SYMLINKS, master)
	c.stub(unix.SYS_FSTAT, plan.Val(master), st)
	c.Test(plan.Stub, st.At(statRdev), 8, ^uint64(0), unix.Mkdev(5, 2), unix.ENODEV).As("check that ptmx is the pty multiplexer")
	fs := c.Scratch(128)
	c.stub(unix.SYS_FSTATFS, plan.Val(master), fs)
	c.Test(plan.Stub, fs, 8, ^uint64(0), unix.DEVPTS_SUPER_MAGIC, unix.ENODEV).As("check that /dev/pts is devpts")
	c.stub(unix.SYS_IOCTL, plan.Val(master), i(unix.TIOCSPTLCK), c.U32s(0)).As("unlock the pty")
	c.stub(unix.SYS_IOCTL, plan.Val(master), i(unix.TIOCGPTPEER), i(unix.O_RDWR|unix.O_NOCTTY|cloexec)).To(peer).As("open the pty's peer")
	if s := c.spec.Process.ConsoleSize; s != nil {
		c.Field("process.consoleSize", "")
		size := uint32(s.Height)&0xffff | uint32(s.Width)<<16
		c.stub(unix.SYS_IOCTL, plan.Val(peer), i(unix.TIOCSWINSZ), c.U32s(size, 0))
		c.Field("process.terminal", "/dev/console")
	}
	if c.dev != 0 {
		c.bindConsole(peer)
	}
	for fd := range 3 {
		c.stub(unix.SYS_DUP3, plan.Val(peer), i(fd), i(0))
	}
	c.stub(unix.SYS_IOCTL, i(0), i(unix.TIOCSCTTY), i(0)).As("take the controlling terminal")
	c.sendFD(master, "/dev/pts/ptmx")
	c.close(master)
	c.close(peer)
	return nil
}

// bindConsole puts the peer itself, not a path, on /dev/console (CVE-2025-52565).
func (c *c) bindConsole(peer plan.Slot) {
	tree, t, n := c.Slot(), c.Slot(), c.Str("console")
	c.stub(unix.SYS_MKNODAT, plan.Val(c.dev), n, i(unix.S_IFREG|0o600), i(0)).Tolerate(unix.EEXIST, unix.EROFS)
	c.stub(unix.SYS_OPENAT, plan.Val(c.dev), n, i(unix.O_PATH|unix.O_NOFOLLOW|cloexec)).To(t)
	c.stub(unix.SYS_OPEN_TREE, plan.Val(peer), c.Str(""), i(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)).To(tree)
	c.attach(tree, t).As("bind the pty on /dev/console")
	c.close(tree)
	c.close(t)
}

// sendFD passes one fd over the console socket (unix(7), SCM_RIGHTS), with name as the payload.
func (c *c) sendFD(fd plan.Slot, name string) {
	payload := c.Str(strings.Clone(name))
	iov := c.Words(0, uint64(len(name)))
	c.Ptr(iov, 0, payload)
	ctl := c.Scratch(24)
	c.Copy(plan.Stub, ctl, c.Words(20), 8)                                    // cmsg_len = CMSG_LEN(4)
	c.Copy(plan.Stub, ctl.At(8), c.U32s(unix.SOL_SOCKET, unix.SCM_RIGHTS), 8) // level, type
	c.Copy(plan.Stub, ctl.At(16), plan.Addr(fd), 4)                           // the fd
	hdr := c.Words(0, 0, 0, 1, 0, 24, 0)                                      // struct msghdr
	c.Ptr(hdr, 16, iov)
	c.Ptr(hdr, 32, ctl)
	c.stub(unix.SYS_SENDMSG, i(c.in.ConsoleFD), hdr, i(unix.MSG_NOSIGNAL)).As("send the pty master to the console socket")
}
