package plan

import (
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

type flag struct {
	v    uint64
	name string
}

var (
	cloneFlags = []flag{
		{unix.CLONE_NEWUSER, "NEWUSER"},
		{unix.CLONE_NEWPID, "NEWPID"},
		{unix.CLONE_NEWNS, "NEWNS"},
		{unix.CLONE_NEWIPC, "NEWIPC"},
		{unix.CLONE_NEWUTS, "NEWUTS"},
		{unix.CLONE_NEWNET, "NEWNET"},
		{unix.CLONE_NEWCGROUP, "NEWCGROUP"},
		{unix.CLONE_NEWTIME, "NEWTIME"},
		{unix.CLONE_PARENT, "PARENT"},
	}
	openFlags = []flag{
		{unix.O_PATH, "PATH"}, {unix.O_DIRECTORY, "DIRECTORY"}, {unix.O_NOFOLLOW, "NOFOLLOW"}, {unix.O_NOCTTY, "NOCTTY"}, {unix.O_RDWR, "RDWR"}, {unix.O_WRONLY, "WRONLY"}, {unix.O_CREAT, "CREAT"}, {unix.O_EXCL, "EXCL"}, {unix.O_CLOEXEC, ""},
	}
	resolveFlags = []flag{
		{unix.RESOLVE_IN_ROOT, "IN_ROOT"}, {unix.RESOLVE_BENEATH, "BENEATH"}, {unix.RESOLVE_NO_SYMLINKS, "NO_SYMLINKS"}, {unix.RESOLVE_NO_MAGICLINKS, ""}, {unix.RESOLVE_NO_XDEV, "NO_XDEV"},
	}
	attrFlags = []flag{
		{unix.MOUNT_ATTR_RDONLY, "ro"},
		{unix.MOUNT_ATTR_NOSUID, "nosuid"},
		{unix.MOUNT_ATTR_NODEV, "nodev"},
		{unix.MOUNT_ATTR_NOEXEC, "noexec"},
		{unix.MOUNT_ATTR_NOATIME, "noatime"},
		{unix.MOUNT_ATTR_STRICTATIME, "strictatime"},
		{unix.MOUNT_ATTR_NODIRATIME, "nodiratime"},
		{unix.MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"},
	}
	propagationFlags = []flag{
		{unix.MS_REC, "REC"}, {unix.MS_PRIVATE, "PRIVATE"}, {unix.MS_SLAVE, "SLAVE"}, {unix.MS_SHARED, "SHARED"}, {unix.MS_UNBINDABLE, "UNBINDABLE"},
	}
	treeFlags = []flag{
		{unix.OPEN_TREE_CLONE, "CLONE"}, {unix.AT_RECURSIVE, "RECURSIVE"}, {unix.AT_EMPTY_PATH, ""}, {unix.OPEN_TREE_CLOEXEC, ""},
	}
	typeFlags = []flag{{unix.S_IFCHR, "c"}, {unix.S_IFBLK, "b"}, {unix.S_IFIFO, "p"}, {unix.S_IFREG, "f"}}
)

func flagNames(v uint64, table []flag) string {
	var out []string
	for _, f := range table {
		if f.v != 0 && v&f.v == f.v {
			v &^= f.v
			if f.name != "" {
				out = append(out, f.name)
			}
		}
	}
	if v != 0 {
		out = append(out, "0x"+strconv.FormatUint(v, 16))
	}
	return strings.Join(out, "|")
}

// immediate names the constants of the calls that a start is made of. Operands that say nothing (empty flags, lengths) are left out.
func immediate(o *Op, i int, v uint64) string {
	if o.Kind == Call {
		return u(v)
	}
	if i == 0 && int32(v) == unix.AT_FDCWD {
		return ""
	}
	switch o.Nr {
	case unix.SYS_OPENAT, unix.SYS_OPENAT2:
		if i == 2 {
			return flagNames(v, openFlags)
		}
		return ""
	case unix.SYS_OPEN_TREE:
		return flagNames(v, treeFlags)
	case unix.SYS_SETNS, unix.SYS_UNSHARE:
		return flagNames(v, cloneFlags)
	case unix.SYS_CLONE:
		if i == 0 {
			return flagNames(v&^0xff, cloneFlags) + "|SIGCHLD"
		}
		return ""
	case unix.SYS_FSMOUNT:
		if i == 2 {
			return flagNames(v, attrFlags)
		}
		return ""
	case unix.SYS_FSCONFIG:
		return fsconfigOperand(i, v)
	case unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_MOUNT_SETATTR:
		if o.Nr == unix.SYS_MOUNT_SETATTR && i == 2 && v&unix.AT_RECURSIVE != 0 {
			return "RECURSIVE"
		}
		return ""
	case unix.SYS_MOUNT:
		return flagNames(v, propagationFlags)
	case unix.SYS_MKNODAT:
		if i == 2 {
			return flagNames(v&unix.S_IFMT, typeFlags) + " 0" + strconv.FormatUint(v&0o7777, 8)
		}
		if v == 0 {
			return ""
		}
		return u(uint64(unix.Major(v))) + ":" + u(uint64(unix.Minor(v)))
	case unix.SYS_MKDIRAT, unix.SYS_UMASK:
		return "0" + strconv.FormatUint(v, 8)
	case unix.SYS_UMOUNT2:
		return "DETACH"
	case unix.SYS_WRITE:
		if i == 2 {
			return ""
		}
	}
	return signed(v)
}

func fsconfigOperand(i int, v uint64) string {
	if i == 1 {
		return [...]string{"flag", "string", "binary", "path", "path_empty", "fd", "create", "reconfigure"}[v&7]
	}
	return ""
}

func signed(v uint64) string {
	if int64(v) < 0 || v > 1<<31 && int32(v) < 0 && v < 1<<32 {
		return strconv.Itoa(int(int32(v)))
	}
	return hex(v)
}

// special prints the structs that are worth reading.
func (p *Program) special(o *Op, i int, a Arg) string {
	raw := p.Data[a.V : a.V+uint64(a.Len)]
	word := func(n int) uint64 { return binary.LittleEndian.Uint64(raw[8*n:]) }
	switch {
	case o.Nr == unix.SYS_OPENAT2 && i == 2 && len(raw) == 24:
		return flagNames(word(0), openFlags) + " " + flagNames(word(2), resolveFlags)
	case o.Nr == unix.SYS_MOUNT_SETATTR && len(raw) == 32:
		s := flagNames(word(2), propagationFlags)
		if word(0) != 0 {
			s += " +" + flagNames(word(0), attrFlags)
		}
		if word(1) != 0 {
			s += " -" + flagNames(word(1), attrFlags)
		}
		return strings.TrimSpace(s)
	case o.Kind == Syscall && len(raw) == 1 && raw[0] == 0:
		if o.Nr == unix.SYS_OPENAT2 || o.Nr == unix.SYS_OPEN_TREE || o.Nr == unix.SYS_MOVE_MOUNT || o.Nr == unix.SYS_MOUNT_SETATTR || o.Nr == unix.SYS_NEWFSTATAT {
			return "→"
		}
	case o.Nr == unix.SYS_SECCOMP:
		return "[filter]"
	}
	return ""
}
