package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// PackOptions are the options of Pack and WriteDiff.
type PackOptions struct {
	// Epoch bounds the times of all entries, as SOURCE_DATE_EPOCH asks for: a later one becomes Epoch. Zero is no bound.
	Epoch time.Time
	// SkipKernel writes folders of proc, sysfs, cgroup and the like as empty: what is in them are no files.
	SkipKernel bool
}

// Pack writes what base in the open folder dir is, with all below it, as a tar stream in which it is called name: sorted
// by name ("./" stands for no prefix), with owners, modes, times of full precision, xattrs, devices and hard links. Sockets are left out, no symlink
// is followed. The end of the archive is written, too.
func Pack(ctx context.Context, w io.Writer, dir int, base, name string, o PackOptions) error {
	p := newPacker(ctx, w, o)
	if err := p.tree(dir, base, name); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	return p.tw.Close()
}

// inode names a file for good while it is there.
type inode struct{ dev, ino uint64 }

// packer writes entries.
type packer struct {
	ctx   context.Context
	tw    *tar.Writer
	o     PackOptions
	links map[inode]string // first entry of files that have several names
	buf   []byte
}

func newPacker(ctx context.Context, w io.Writer, o PackOptions) *packer {
	return &packer{ctx: ctx, tw: tar.NewWriter(w), o: o, links: map[inode]string{}, buf: make([]byte, 256<<10)}
}

// tree writes an entry and those below it.
func (p *packer) tree(dir int, base, name string) error {
	if err := p.ctx.Err(); err != nil {
		return context.Cause(p.ctx)
	}
	st, err := p.entry(dir, base, name)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	d, err := openDir(dir, base)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	defer d.Close()
	if p.o.SkipKernel && ofKernel(int(d.Fd())) {
		return nil
	}
	names, err := sortedNames(d)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	prefix := strings.TrimSuffix(name, "/") + "/"
	if name == "./" {
		prefix = ""
	}
	for _, n := range names {
		err := p.tree(int(d.Fd()), n, prefix+n)
		if err != nil && !errors.Is(err, unix.ENOENT) { // it went meanwhile
			return err
		}
	}
	return nil
}

// ofKernel tells whether an open file is of a file system that only shows the kernel (statfs(2)).
func ofKernel(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	const mqueue = 0x19800202
	switch int64(st.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC, mqueue,
		unix.SECURITYFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.BPF_FS_MAGIC:
		return true
	}
	return false
}

// openDir opens a folder to list it; the last component is no symlink.
func openDir(dir int, base string) (*os.File, error) {
	fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), base), nil
}

func sortedNames(d *os.File) ([]string, error) {
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// maxKernelFile bounds a file whose size is not known before it is read, in bytes.
const maxKernelFile = 16 << 20

// entry writes one entry.
func (p *packer) entry(dir int, base, name string) (st unix.Stat_t, err error) {
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, fmt.Errorf("%q: %w", name, err)
	}
	var f *os.File
	if st.Mode&unix.S_IFMT == unix.S_IFREG { // its size and content are to be of one moment
		if f, err = openRegular(dir, base, &st); err != nil {
			return st, fmt.Errorf("%q: %w", name, err)
		}
		defer f.Close()
	}
	var kernel []byte
	if f != nil && st.Size == 0 { // procfs and sysfs have content where they have no size
		if kernel, err = io.ReadAll(io.LimitReader(f, maxKernelFile)); err != nil {
			return st, fmt.Errorf("%q: %w", name, err)
		}
		st.Size = int64(len(kernel))
	}
	hdr, err := p.header(dir, base, name, &st)
	if err != nil {
		return st, fmt.Errorf("%q: %w", name, err)
	}
	if hdr == nil {
		return st, nil
	}
	if err := p.tw.WriteHeader(hdr); err != nil {
		return st, fmt.Errorf("%q: %w", name, err)
	}
	switch {
	case hdr.Typeflag != tar.TypeReg:
	case kernel != nil:
		_, err = p.tw.Write(kernel)
	default:
		err = p.content(f, hdr.Size)
	}
	if err != nil {
		err = fmt.Errorf("%q: %w", name, err)
	}
	return st, err
}

func openRegular(dir int, base string, st *unix.Stat_t) (*os.File, error) {
	fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), base)
	if err = unix.Fstat(fd, st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("replaced while it was read")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// header is nil for a socket.
func (p *packer) header(dir int, base, name string, st *unix.Stat_t) (*tar.Header, error) {
	hdr := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), Format: tar.FormatPAX,
		ModTime: p.time(st.Mtim), PAXRecords: map[string]string{},
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		hdr.Typeflag, hdr.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		hdr.Typeflag, hdr.Name = tar.TypeDir, strings.TrimSuffix(name, "/")+"/"
	case unix.S_IFLNK:
		target, err := readlink(dir, base)
		if err != nil {
			return nil, err
		}
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, target
	case unix.S_IFCHR, unix.S_IFBLK:
		hdr.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			hdr.Typeflag = tar.TypeBlock
		}
		hdr.Devmajor, hdr.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		hdr.Typeflag = tar.TypeFifo
	default:
		return nil, nil
	}
	if hdr.Typeflag != tar.TypeDir && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := p.links[id]; ok {
			hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
			return hdr, nil
		}
		p.links[id] = name
	}
	attrs, err := readXattrs(dir, base)
	for k, v := range attrs {
		hdr.PAXRecords[xattrPrefix+k] = v
	}
	return hdr, err
}

func (p *packer) time(ts unix.Timespec) time.Time {
	t := time.Unix(ts.Sec, ts.Nsec)
	if !p.o.Epoch.IsZero() && t.After(p.o.Epoch) {
		return p.o.Epoch
	}
	return t
}

// content writes size bytes: a file that shrank meanwhile is filled up with zeros, as tar(1) does.
func (p *packer) content(f *os.File, size int64) error {
	for size > 0 {
		if err := p.ctx.Err(); err != nil {
			return context.Cause(p.ctx)
		}
		b := p.buf[:min(size, int64(len(p.buf)))]
		n, err := io.ReadFull(f, b)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			clear(b[n:])
			err = nil
		}
		if err == nil {
			_, err = p.tw.Write(b)
		}
		if err != nil {
			return err
		}
		size -= int64(len(b))
	}
	return nil
}

// readXattrs reads all xattrs but those that a layer may not hold.
func readXattrs(dir int, base string) (map[string]string, error) {
	path := procPath(dir, base)
	list, err := xattr(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if err != nil && err != unix.ENOTSUP {
		return nil, fmt.Errorf("list xattrs: %w", err)
	}
	if len(list) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(list, []byte{0}), []byte{0}) {
		attr := string(name)
		if dropXattr(attr) {
			continue
		}
		v, err := xattr(func(b []byte) (int, error) { return unix.Lgetxattr(path, attr, b) })
		if err != nil {
			return nil, fmt.Errorf("xattr %q: %w", attr, err)
		}
		out[attr] = string(v)
	}
	return out, nil
}

// CopyTree copies what is in one open folder into another, which is empty, and then gives that the attributes of the
// first: owners, modes, times, xattrs, hard links, holes.
func CopyTree(ctx context.Context, src, dst int) error {
	return (&treeCopy{ctx: ctx, root: dst, links: map[inode]string{}}).folder(src, dst, "")
}

type treeCopy struct {
	ctx   context.Context
	root  int
	links map[inode]string
}

func (t *treeCopy) folder(src, dst int, path string) error {
	if err := t.ctx.Err(); err != nil {
		return context.Cause(t.ctx)
	}
	d, err := openDir(src, ".")
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := sortedNames(d)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := t.entry(src, dst, n, join(path, n)); err != nil {
			return err
		}
	}
	ts, err := CopyFolder(src, dst)
	if err == nil {
		err = unix.UtimesNanoAt(dst, ".", ts, 0)
	}
	if err != nil {
		return fmt.Errorf("copy %q: %w", path, err)
	}
	return nil
}

func (t *treeCopy) entry(src, dst int, name, path string) error {
	var st unix.Stat_t
	err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return t.subfolder(src, dst, name, path)
	}
	if err == nil {
		id := inode{st.Dev, st.Ino}
		if first, ok := t.links[id]; ok {
			err = unix.Linkat(t.root, first, dst, name, 0)
		} else {
			if st.Nlink > 1 {
				t.links[id] = path
			}
			err = CopyFile(src, name, dst, name)
		}
	}
	if err != nil {
		return fmt.Errorf("copy %q: %w", path, err)
	}
	return nil
}

func (t *treeCopy) subfolder(src, dst int, name, path string) error {
	from, err := openDir(src, name)
	if err != nil {
		return fmt.Errorf("copy %q: %w", path, err)
	}
	defer from.Close()
	if err := unix.Mkdirat(dst, name, 0o700); err != nil {
		return fmt.Errorf("copy %q: %w", path, err)
	}
	to, err := openDir(dst, name)
	if err != nil {
		return fmt.Errorf("copy %q: %w", path, err)
	}
	defer to.Close()
	return t.folder(int(from.Fd()), int(to.Fd()), path)
}
