package probe

import (
	"vitro/internal/sys"

	"golang.org/x/sys/unix"
)

// Feature is one thing that a start needs.
type Feature struct {
	Name   string
	Kernel string // the first Linux that has it
	probe  func() unix.Errno
}

// Answer says whether the feature is there.
type Answer uint8

const (
	Present Answer = iota
	Absent         // the kernel does not have it
	Refused        // something in between refuses it: a seccomp filter, an LSM
)

// features are probed with operands that are wrong on purpose: any errno but ENOSYS and EPERM says that the call is there.
func features() []Feature {
	call := func(nr uintptr, a ...uintptr) func() unix.Errno {
		return func() unix.Errno {
			var args [6]uintptr
			copy(args[:], a)
			_, e := sys.Call(nr, args)
			return e
		}
	}
	const bad = ^uintptr(0)
	return []Feature{
		{"open_tree", "5.2", call(unix.SYS_OPEN_TREE, bad, 0, 0)},
		{"move_mount", "5.2", call(unix.SYS_MOVE_MOUNT, bad, 0, bad, 0, 0)},
		{"fsopen", "5.2", call(unix.SYS_FSOPEN, 0, 0)},
		{"pidfd_open", "5.3", call(unix.SYS_PIDFD_OPEN, 0, bad)},
		{"openat2", "5.6", call(unix.SYS_OPENAT2, bad, 0, 0, 0)},
		{"faccessat2", "5.8", call(unix.SYS_FACCESSAT2, bad, 0, 0, 0)},
		{"close_range with CLOEXEC", "5.11", call(unix.SYS_CLOSE_RANGE, bad>>33, bad>>33, unix.CLOSE_RANGE_CLOEXEC)},
		{"mount_setattr", "5.12", call(unix.SYS_MOUNT_SETATTR, bad, 0, 0, 0, 0)},
		{"memfd_create", "3.17", call(unix.SYS_MEMFD_CREATE, 0, 0)},
		{"seccomp", "3.17", call(unix.SYS_SECCOMP, bad, 0, 0)},
	}
}

// AppArmor tells whether the kernel has it and it is on (apparmor(7)).
func AppArmor() bool {
	b, err := sys.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && len(b) > 0 && b[0] == 'Y'
}

// Probe asks the kernel.
func (f *Feature) Probe() Answer {
	switch e := f.probe(); {
	case e == unix.ENOSYS:
		return Absent
	case e == unix.EINVAL && f.Kernel == "5.11": // close_range is older than its flag
		return Absent
	case e == unix.EPERM:
		return Refused
	}
	return Present
}

// Missing is a line on what the kernel lacks for a start, "" where it has everything.
func Missing() string {
	for _, f := range features() {
		switch f.Probe() {
		case Absent:
			return "this kernel has no " + f.Name + ": Linux " + f.Kernel + " or newer is needed"
		case Refused:
			return f.Name + " is refused here: an outer container's seccomp profile or an LSM may do that"
		}
	}
	return ""
}
