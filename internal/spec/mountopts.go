package spec

import "strconv"

// Attributes of one mount, see mount_setattr(2).
const (
	AttrRdonly      = 0x1
	AttrNosuid      = 0x2
	AttrNodev       = 0x4
	AttrNoexec      = 0x8
	AttrRelatime    = 0 // the kernel's default
	AttrNoatime     = 0x10
	AttrStrictatime = 0x20
	AttrAtime       = 0x70 // the mask of the three above
	AttrNodiratime  = 0x80
	AttrNosymfollow = 0x200000
)

// Flags of a superblock and of propagation, see mount(2).
const (
	MsRdonly      = 0x1
	MsSynchronous = 0x10
	MsMandlock    = 0x40
	MsDirsync     = 0x80
	MsRec         = 0x4000
	MsSilent      = 0x8000
	MsUnbindable  = 0x20000
	MsPrivate     = 0x40000
	MsSlave       = 0x80000
	MsShared      = 0x100000
	MsIVersion    = 0x800000
	MsLazytime    = 0x2000000
)

// MountOptions is what mounts[].options ask for, as operands of system calls.
// A later option wins over an earlier one. Set and clear never share a bit, but for
// AttrAtime: whenever a value of that group is asked for, the whole mask is in
// the clear set, as mount_setattr(2) demands, and the value in the other.
type MountOptions struct {
	AttrSet, AttrClr uint64 // this mount
	RecSet, RecClr   uint64 // this mount and those below it: the r… options

	SuperSet, SuperClr uint64   // Ms… flags of the superblock; always 0 for a bind
	Propagation        []uint64 // Ms… flags, each one mount_setattr or mount(2), in order

	Bind, Rec, Remount, TmpCopyUp bool

	Data []string // options of the file system, such as mode=755
}

// SuperName is the name of one flag of SuperSet for fsconfig(2)'s FSCONFIG_SET_FLAG;
// "" for those that are not known there (silent, iversion: mount(2) only).
func SuperName(flag uint64) string {
	switch flag {
	case MsRdonly:
		return "ro"
	case MsSynchronous:
		return "sync"
	case MsMandlock:
		return "mand"
	case MsDirsync:
		return "dirsync"
	case MsLazytime:
		return "lazytime"
	}
	return ""
}

// ParseMountOptions sorts the options of a mount. What is in no table is the file system's.
func ParseMountOptions(opts []string) (*MountOptions, error) {
	o := new(MountOptions)
	for i, opt := range opts {
		if msg := o.parse(opt); msg != "" {
			return nil, &invalid{"options[" + strconv.Itoa(i) + "]", msg}
		}
	}
	if o.Bind {
		if len(o.Data) > 0 {
			return nil, &invalid{"options", "a bind mount takes no option of a file system, got " + strconv.Quote(o.Data[0])}
		}
		// The superblock is the source's: mount(2) ignores these for a bind as well.
		o.SuperSet, o.SuperClr = 0, 0
		return o, nil
	}
	o.SuperSet |= o.AttrSet & AttrRdonly
	o.SuperClr |= o.AttrClr & AttrRdonly
	return o, nil
}

func (o *MountOptions) parse(opt string) (msg string) {
	switch opt {
	case "":
		return "must not be empty"
	case "defaults":
	case "bind":
		o.Bind = true
	case "rbind":
		o.Bind, o.Rec = true, true
	case "remount":
		o.Remount = true
	case "tmpcopyup":
		o.TmpCopyUp = true
	case "idmap", "ridmap", "copy-symlink":
		return opt + " is not supported yet"
	default:
		if flags := propagation(opt); flags != 0 {
			o.Propagation = append(o.Propagation, flags)
			return ""
		}
		if flag, set := superFlag(opt); flag != 0 {
			put(&o.SuperSet, &o.SuperClr, flag, set)
			return ""
		}
		if attr, set, ok := mountAttr(opt); ok {
			putAttr(&o.AttrSet, &o.AttrClr, attr, set)
			return ""
		}
		if opt[0] == 'r' {
			if attr, set, ok := mountAttr(opt[1:]); ok {
				putAttr(&o.RecSet, &o.RecClr, attr, set)
				return ""
			}
		}
		if hasNUL(opt) {
			return "must not hold a NUL byte"
		}
		o.Data = append(o.Data, opt)
	}
	return ""
}

// put moves a flag into set or clr.
func put(set, clr *uint64, flag uint64, on bool) {
	if on {
		*set |= flag
		*clr &^= flag
		return
	}
	*set &^= flag
	*clr |= flag
}

// putAttr is put, but for the access time group: there, setting a value takes
// the place of the last one; clearing one goes back to relatime, and does
// nothing when another value was asked for.
func putAttr(set, clr *uint64, attr uint64, on bool) {
	now := *set & AttrAtime
	switch {
	case attr != AttrRelatime && attr&AttrAtime == 0:
		put(set, clr, attr, on)
	case on:
		*set = *set&^AttrAtime | attr
		*clr |= AttrAtime
	case attr == AttrRelatime: // takes back a relatime; there is no bit to clear
		if now == 0 {
			*clr &^= AttrAtime
		}
	case now == attr || now == 0:
		*set &^= AttrAtime
		*clr |= AttrAtime
	}
}

func propagation(opt string) uint64 {
	rec := uint64(0)
	if len(opt) > 1 && opt[0] == 'r' {
		rec, opt = MsRec, opt[1:]
	}
	switch opt {
	case "shared":
		return MsShared | rec
	case "slave":
		return MsSlave | rec
	case "private":
		return MsPrivate | rec
	case "unbindable":
		return MsUnbindable | rec
	}
	return 0
}

// PropagationFlags are the flags of linux.rootfsPropagation; false when it is not a known mode.
func PropagationFlags(mode string) (uint64, bool) {
	flags := propagation(mode)
	return flags, flags != 0
}

func superFlag(opt string) (flag uint64, set bool) {
	switch opt {
	case "sync":
		return MsSynchronous, true
	case "async":
		return MsSynchronous, false
	case "dirsync":
		return MsDirsync, true
	case "mand":
		return MsMandlock, true
	case "nomand":
		return MsMandlock, false
	case "lazytime":
		return MsLazytime, true
	case "nolazytime":
		return MsLazytime, false
	case "iversion":
		return MsIVersion, true
	case "noiversion":
		return MsIVersion, false
	case "silent":
		return MsSilent, true
	case "loud":
		return MsSilent, false
	}
	return 0, false
}

func mountAttr(opt string) (attr uint64, set, ok bool) {
	switch opt {
	case "ro":
		return AttrRdonly, true, true
	case "rw":
		return AttrRdonly, false, true
	case "nosuid":
		return AttrNosuid, true, true
	case "suid":
		return AttrNosuid, false, true
	case "nodev":
		return AttrNodev, true, true
	case "dev":
		return AttrNodev, false, true
	case "noexec":
		return AttrNoexec, true, true
	case "exec":
		return AttrNoexec, false, true
	case "noatime":
		return AttrNoatime, true, true
	case "atime":
		return AttrNoatime, false, true
	case "strictatime":
		return AttrStrictatime, true, true
	case "nostrictatime":
		return AttrStrictatime, false, true
	case "relatime":
		return AttrRelatime, true, true
	case "norelatime":
		return AttrRelatime, false, true
	case "nodiratime":
		return AttrNodiratime, true, true
	case "diratime":
		return AttrNodiratime, false, true
	case "nosymfollow":
		return AttrNosymfollow, true, true
	case "symfollow":
		return AttrNosymfollow, false, true
	}
	return 0, false, false
}
