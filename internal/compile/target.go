package compile

import (
	"strings"

	"vitro/internal/plan"

	"golang.org/x/sys/unix"
)

func itoa(n int) string {
	if n < 0 {
		return "-" + itoa(-n)
	}
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

// clean makes a container path relative to its root, with "." and ".." resolved by their letters: the kernel must not meet ".." (EAGAIN under renames).
func clean(path string) string {
	var out []string
	for _, p := range strings.Split(path, "/") {
		switch p {
		case "", ".":
		case "..":
			out = out[:max(0, len(out)-1)]
		default:
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return "."
	}
	return strings.Join(out, "/")
}

// open is openat2 below the root: links are followed as the container would see them and never leave it.
func (c *c) open(path string, flags, resolve int, to plan.Slot) *plan.Op {
	how := c.Words(uint64(flags|cloexec), 0, uint64(inRoot|resolve))
	return c.stub(unix.SYS_OPENAT2, plan.Val(c.root), c.Str(path), how, i(24)).Again(unix.EAGAIN, tries).To(to).As("open /" + path)
}

// target opens a mount point, making what is missing: folders of mode 0755, and a last component that is a folder or an empty file.
// It gives back the index of the op that goes on where the mount point was there.
func (c *c) target(path string, dir bool, resolve int, to plan.Slot) (found int) {
	path = clean(path)
	c.open(path, unix.O_PATH, resolve, to)
	found = len(c.Ops) - 1
	c.Ops[found].On(unix.ENOENT, 0)
	if path != "." {
		c.create(path, dir, resolve, to)
	}
	c.OkTo(found)
	return found
}

// create makes each component on the fd of the one before. mkdirat and mknodat do not follow a link in the last place, and a dangling link
// shows as ENOENT at the open that follows.
func (c *c) create(path string, dir bool, resolve int, to plan.Slot) {
	at, parts := c.root, strings.Split(path, "/")
	for k, name := range parts {
		last := k == len(parts)-1
		if last && !dir {
			c.stub(unix.SYS_MKNODAT, plan.Val(at), c.Str(name), i(unix.S_IFREG|0o644), i(0)).Tolerate(unix.EEXIST).As("make the file /" + path)
		} else {
			c.stub(unix.SYS_MKDIRAT, plan.Val(at), c.Str(name), i(0o755)).Tolerate(unix.EEXIST).As("make the folder /" + strings.Join(parts[:k+1], "/"))
		}
		next := to
		if !last {
			next = c.Slot()
		}
		made := strings.Join(parts[:k+1], "/")
		c.open(made, unix.O_PATH, resolve, next).As("open /" + made + " (if a link is there, it leads nowhere)")
		if at != c.root {
			c.stub(unix.SYS_CLOSE, plan.Val(at))
		}
		at = next
	}
}

// attach moves a detached tree onto an open target and forgets the target.
func (c *c) attach(tree, target plan.Slot) *plan.Op {
	return c.stub(unix.SYS_MOVE_MOUNT, plan.Val(tree), c.Str(""), plan.Val(target), c.Str(""), i(byFD))
}

// setattr is mount_setattr on an fd. Nothing is emitted where nothing is asked.
func (c *c) setattr(fd plan.Slot, set, clr, propagation uint64, recursive bool) {
	if set|clr|propagation == 0 {
		return
	}
	flags := unix.AT_EMPTY_PATH
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	c.stub(unix.SYS_MOUNT_SETATTR, plan.Val(fd), c.Str(""), i(flags), c.Words(set, clr, propagation, 0), i(32)).As("set mount attributes")
}

func (c *c) close(fd plan.Slot) { c.stub(unix.SYS_CLOSE, plan.Val(fd)) }
