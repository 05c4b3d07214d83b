package runtime

import (
	"errors"

	"vitro/internal/stub"
	"vitro/internal/sys"

	"golang.org/x/sys/unix"
)

// copyUp fills a new tmpfs with what it is about to cover (mount option tmpcopyup). both holds two fds of the waiting stub: the detached tmpfs
// and the folder. Nothing is followed: every step is a name on the fd of its folder.
func copyUp(l *stub.Launch, both uint64) error {
	fds := "/proc/" + sys.Itoa(l.PID) + "/fd/"
	to, err := unix.Open(fds+sys.Itoa(int(uint32(both)))+"/.", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrap("open the new tmpfs", err)
	}
	defer unix.Close(to)
	from, err := unix.Open(fds+sys.Itoa(int(both>>32))+"/.", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return wrap("open the folder to copy up", err)
	}
	defer unix.Close(from)
	return copyFolder(from, to)
}

func copyFolder(from, to int) error {
	names, err := namesOf(from)
	if err != nil {
		return wrap("read a folder", err)
	}
	for _, name := range names {
		if err := copyEntry(from, to, name); err != nil {
			return wrap("copy up "+name, err)
		}
	}
	return nil
}

func namesOf(dir int) ([]string, error) {
	var names []string
	buf := make([]byte, 8192)
	for {
		n, err := unix.Getdents(dir, buf)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

func copyEntry(from, to int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return copyBelow(from, to, name, &st)
	case unix.S_IFREG:
		return copyFile(from, to, name, &st)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(from, name, buf)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(string(buf[:n]), to, name); err != nil {
			return err
		}
	case unix.S_IFSOCK:
		return nil
	default:
		if err := unix.Mknodat(to, name, st.Mode, int(st.Rdev)); err != nil {
			return err
		}
	}
	return meta(to, name, &st)
}

func copyBelow(from, to int, name string, st *unix.Stat_t) error {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return err
	}
	src, err := unix.Openat(from, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := unix.Openat(to, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if err := copyFolder(src, dst); err != nil {
		return err
	}
	if err := meta(to, name, st); err != nil {
		return err
	}
	return copyXattrs(src, dst)
}

func copyFile(from, to int, name string, st *unix.Stat_t) error {
	src, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	for {
		n, err := unix.Sendfile(dst, src, nil, 1<<30)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	if err := meta(to, name, st); err != nil {
		return err
	}
	return copyXattrs(src, dst) // after the chown, which drops security.capability
}

// copyXattrs copies what the tmpfs can hold.
func copyXattrs(src, dst int) error {
	list := make([]byte, 64<<10)
	n, err := unix.Flistxattr(src, list)
	if err != nil {
		return nil // a file system without them
	}
	value := make([]byte, 64<<10)
	for start, i := 0, 0; i < n; i++ {
		if list[i] != 0 {
			continue
		}
		name := string(list[start:i])
		start = i + 1
		m, err := unix.Fgetxattr(src, name, value)
		if err != nil {
			return err
		}
		if err := unix.Fsetxattr(dst, name, value[:m], 0); err != nil && err != unix.EOPNOTSUPP && err != unix.EPERM {
			return err
		}
	}
	return nil
}

// meta sets owner, mode and times. An owner that the tmpfs' user namespace does not map stays the namespace's root.
func meta(dir int, name string, st *unix.Stat_t) error {
	err := unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EOVERFLOW) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dir, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}
