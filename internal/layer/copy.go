package layer

import (
	"bytes"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// CopyFile copies one file of any kind but a folder, by name from one open
// folder to another, with its owner, mode, times, xattrs and holes. The new
// name must be free. After an error a part of it may be there.
func CopyFile(srcDir int, src string, dstDir int, dst string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(srcDir, src, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return unix.EISDIR
	case unix.S_IFREG:
		return copyRegular(srcDir, src, dstDir, dst)
	case unix.S_IFLNK:
		var target string
		if target, err = readlink(srcDir, src); err == nil {
			err = unix.Symlinkat(target, dstDir, dst)
		}
	default:
		err = unix.Mknodat(dstDir, dst, st.Mode&unix.S_IFMT|0o600, int(st.Rdev))
	}
	if err != nil {
		return err
	}
	if err := unix.Fchownat(dstDir, dst, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(dstDir, dst, st.Mode&0o7777, 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	if err := copyXattrs(procPath(srcDir, src), procPath(dstDir, dst)); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dstDir, dst, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func copyRegular(srcDir int, src string, dstDir int, dst string) error {
	in, err := unix.Openat(srcDir, src, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := unix.Openat(dstDir, dst, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	if err := copyData(in, out); err != nil {
		return fmt.Errorf("copy data: %w", err)
	}
	st, err := copyAttributes(in, out, procPath(srcDir, src), procPath(dstDir, dst))
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(dstDir, dst, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// copyData shares the blocks where the file system can (reflink), and else
// copies the data between the holes.
func copyData(in, out int) error {
	if unix.IoctlFileClone(out, in) == nil {
		return nil
	}
	size, err := unix.Seek(in, 0, io.SeekEnd)
	if err != nil {
		return err
	}
	for off := int64(0); off < size; {
		data, err := unix.Seek(in, off, unix.SEEK_DATA)
		if err == unix.ENXIO { // only a hole is left
			break
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(in, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := copyRange(in, out, data, hole); err != nil {
			return err
		}
		off = hole
	}
	return unix.Ftruncate(out, size)
}

func copyRange(in, out int, from, to int64) error {
	src, dst := from, from
	for src < to {
		n, err := unix.CopyFileRange(in, &src, out, &dst, int(min(to-src, 1<<30)), 0)
		switch {
		case err == unix.EXDEV || err == unix.EINVAL || err == unix.EOPNOTSUPP || err == unix.ENOSYS:
			return pump(in, out, src, to)
		case err != nil && err != unix.EINTR:
			return err
		case err == nil && n == 0:
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// pump copies by read and write, where copy_file_range can't.
func pump(in, out int, from, to int64) error {
	buf := make([]byte, 256<<10)
	for from < to {
		n, err := unix.Pread(in, buf[:min(to-from, int64(len(buf)))], from)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		for b := buf[:n]; len(b) > 0; {
			m, err := unix.Pwrite(out, b, from)
			if err != nil {
				return err
			}
			b, from = b[m:], from+int64(m)
		}
	}
	return nil
}

// CopyFolder gives an open folder the owner, mode and xattrs of another, and
// returns the other's access and modification time, to be set once the
// children are there.
func CopyFolder(src, dst int) ([]unix.Timespec, error) {
	st, err := copyAttributes(src, dst, procPath(src, "."), procPath(dst, "."))
	return []unix.Timespec{st.Atim, st.Mtim}, err
}

// copyAttributes copies owner, mode and xattrs between open files or folders;
// the paths are theirs, for the xattrs.
func copyAttributes(src, dst int, srcPath, dstPath string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return st, err
	}
	if err := unix.Fchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return st, fmt.Errorf("chown: %w", err)
	}
	if err := unix.Fchmod(dst, st.Mode&0o7777); err != nil {
		return st, fmt.Errorf("chmod: %w", err)
	}
	return st, copyXattrs(srcPath, dstPath)
}

// copyXattrs copies all xattrs but overlayfs' own.
func copyXattrs(src, dst string) error {
	list, err := xattr(func(b []byte) (int, error) { return unix.Llistxattr(src, b) })
	if err != nil && err != unix.ENOTSUP {
		return fmt.Errorf("list xattrs: %w", err)
	}
	if len(list) == 0 {
		return nil
	}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(list, []byte{0}), []byte{0}) {
		attr := string(name)
		if dropXattr(attr) {
			continue
		}
		v, err := xattr(func(b []byte) (int, error) { return unix.Lgetxattr(src, attr, b) })
		if err == nil {
			err = unix.Lsetxattr(dst, attr, v, 0)
		}
		if err != nil {
			return fmt.Errorf("copy xattr %q: %w", attr, err)
		}
	}
	return nil
}

// xattr reads into a buffer of the right size.
func xattr(read func([]byte) (int, error)) ([]byte, error) {
	n, err := read(nil)
	if err != nil || n == 0 {
		return nil, err
	}
	b := make([]byte, n)
	n, err = read(b)
	return b[:max(n, 0)], err
}
