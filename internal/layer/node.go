package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const xattrPrefix = "SCHILY.xattr."

// replace runs create, which must fail with EEXIST where the name is taken;
// then what is there is deleted first: the last entry of a name wins. Nothing
// is ever written through an old object, which may be a hard link or symlink.
func (a *applier) replace(p *folder, base string, create func() error) error {
	err := create()
	if err == unix.EEXIST {
		if err = a.remove(p, base); err == nil {
			err = create()
		}
	}
	return err
}

// remove deletes a name and all below it.
func (a *applier) remove(p *folder, base string) error {
	err := unix.Unlinkat(p.fd, base, 0)
	if err != unix.EISDIR && err != unix.EPERM {
		return err
	}
	path := join(p.path, base)
	if a.o.Format == Plain {
		return fmt.Errorf("cannot overwrite directory %q with non-directory", path)
	}
	a.folders.forget(path)
	maps.DeleteFunc(a.dirs, func(d string, _ *dirAttr) bool { return within(d, path) })
	maps.DeleteFunc(a.written, func(d string, _ bool) bool { return d != path && within(d, path) })
	return a.root.RemoveAll(path)
}

// mkdir makes or re-describes a folder. One that takes the place of something
// else in this layer is opaque: that something hid the lower layers' folder.
func (a *applier) mkdir(p *folder, base string, hdr *tar.Header) error {
	var st unix.Stat_t
	err := unix.Fstatat(p.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		f, err := a.newFolder(p, base, false, false)
		if err != nil {
			return err
		}
		return a.setFolder(f, hdr)
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		f, err := (&walk{a: a}).child(p, base)
		if err != nil {
			return err
		}
		return a.setFolder(f, hdr)
	}
	if a.o.Format == Plain {
		return fmt.Errorf("cannot overwrite non-directory %q with directory", join(p.path, base))
	}
	if err := a.remove(p, base); err != nil {
		return err
	}
	f, err := a.newFolder(p, base, false, a.o.Format == Overlay)
	if err != nil {
		return err
	}
	return a.setFolder(f, hdr)
}

// setFolder gives a folder the attributes of its entry; the times, and a mode
// that would lock us out, follow at the end.
func (a *applier) setFolder(f *folder, hdr *tar.Header) error {
	d := a.dirs[f.path]
	d.implicit, d.found, d.mode, d.times = false, false, uint32(hdr.Mode&0o7777), times(hdr)
	if err := unix.Fchown(f.fd, hdr.Uid, hdr.Gid); err != nil {
		return fmt.Errorf("chown to %d:%d: %w", hdr.Uid, hdr.Gid, err)
	}
	if err := unix.Fchmod(f.fd, d.mode|0o700); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	return a.xattrs(hdr, false, func(k string, v []byte) error { return unix.Fsetxattr(f.fd, k, v, 0) })
}

func (a *applier) regular(p *folder, base string, hdr *tar.Header, r io.Reader) error {
	if a.o.MaxBytes > 0 && hdr.Size > a.o.MaxBytes-a.stats.Bytes {
		return fmt.Errorf("files are larger than %d bytes", a.o.MaxBytes)
	}
	a.stats.Bytes += hdr.Size
	fd := -1
	err := a.replace(p, base, func() (err error) {
		fd, err = unix.Openat(p.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	err = a.content(fd, hdr, r)
	if err == nil {
		err = a.attributes(fd, hdr)
	}
	if cerr := unix.Close(fd); err == nil && cerr != nil {
		err = fmt.Errorf("close: %w", cerr)
	}
	if err != nil {
		return err
	}
	return setTimes(p, base, hdr)
}

// content copies a file's data; holes of a sparse one, which the archive
// reader yields as zeros, are left out block by block.
func (a *applier) content(fd int, hdr *tar.Header, r io.Reader) error {
	sparse, write := isSparse(hdr), writeAll
	if sparse {
		write = writeSparse
		// First, so that an absurd size fails before its holes are read.
		if err := unix.Ftruncate(fd, hdr.Size); err != nil {
			return fmt.Errorf("truncate to %d bytes: %w", hdr.Size, err)
		}
	}
	for left := hdr.Size; left > 0; {
		if err := a.ctx.Err(); err != nil { // holes are not read from ctxReader
			return err
		}
		buf := a.buf[:min(left, int64(len(a.buf)))]
		if _, err := io.ReadFull(r, buf); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read: %w", err)
		}
		if err := write(fd, buf); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		left -= int64(len(buf))
	}
	return nil
}

func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range hdr.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && err != unix.EINTR {
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}

var zeros [4096]byte

// writeSparse writes b at the file's offset but seeks over its zero blocks.
func writeSparse(fd int, b []byte) error {
	zero := func(i int) bool {
		c := b[i:min(i+len(zeros), len(b))]
		return bytes.Equal(c, zeros[:len(c)])
	}
	for i := 0; i < len(b); {
		hole, j := zero(i), i+len(zeros)
		for j < len(b) && zero(j) == hole {
			j += len(zeros)
		}
		j = min(j, len(b))
		if hole {
			if _, err := unix.Seek(fd, int64(j-i), io.SeekCurrent); err != nil {
				return err
			}
		} else if err := writeAll(fd, b[i:j]); err != nil {
			return err
		}
		i = j
	}
	return nil
}

// attributes sets owner, mode and xattrs of a file, in this order: chown
// clears the suid bits and security.capability.
func (a *applier) attributes(fd int, hdr *tar.Header) error {
	if err := unix.Fchown(fd, hdr.Uid, hdr.Gid); err != nil {
		return fmt.Errorf("chown to %d:%d: %w", hdr.Uid, hdr.Gid, err)
	}
	if err := unix.Fchmod(fd, uint32(hdr.Mode&0o7777)); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	return a.xattrs(hdr, false, func(k string, v []byte) error { return unix.Fsetxattr(fd, k, v, 0) })
}

func (a *applier) symlink(p *folder, base string, hdr *tar.Header) error {
	if err := a.replace(p, base, func() error { return unix.Symlinkat(hdr.Linkname, p.fd, base) }); err != nil {
		return fmt.Errorf("symlink to %s: %w", quoteName(hdr.Linkname), err)
	}
	return a.named(p, base, hdr)
}

// special makes device nodes and fifos. A character device 0:0 is made too: in
// Overlay form it hides its name, as a whiteout would.
func (a *applier) special(p *folder, base string, hdr *tar.Header) error {
	var mode uint32
	switch hdr.Typeflag {
	case tar.TypeChar:
		mode = unix.S_IFCHR
	case tar.TypeBlock:
		mode = unix.S_IFBLK
	case tar.TypeFifo:
		mode = unix.S_IFIFO
	default:
		return fmt.Errorf("type %q is not supported", hdr.Typeflag)
	}
	dev := int(unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor)))
	if err := a.replace(p, base, func() error { return unix.Mknodat(p.fd, base, mode|0o600, dev) }); err != nil {
		return fmt.Errorf("mknod: %w", err)
	}
	return a.named(p, base, hdr)
}

// named sets the attributes of what must not or can't be opened.
func (a *applier) named(p *folder, base string, hdr *tar.Header) error {
	if err := unix.Fchownat(p.fd, base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown to %d:%d: %w", hdr.Uid, hdr.Gid, err)
	}
	if hdr.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(p.fd, base, uint32(hdr.Mode&0o7777), 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	// setxattrat is Linux 6.13; this is the way there was before.
	path := procPath(p.fd, base)
	if err := a.xattrs(hdr, true, func(k string, v []byte) error { return unix.Lsetxattr(path, k, v, 0) }); err != nil {
		return err
	}
	return setTimes(p, base, hdr)
}

func procPath(dirfd int, base string) string {
	return "/proc/self/fd/" + strconv.Itoa(dirfd) + "/" + base
}

// link makes a hard link; its target is copied up first if only a lower layer
// has it. The inode keeps the attributes of its own entry.
func (a *applier) link(name, linkname string) error {
	target, err := cleanName(linkname)
	if err == nil && target == "" {
		err = unix.EISDIR
	}
	if err != nil {
		return fmt.Errorf("hard link to %s: %w", quoteName(linkname), err)
	}
	if err := a.linkTo(name, target); err != nil {
		return fmt.Errorf("hard link to %s: %w", quoteName(linkname), err)
	}
	return nil
}

func (a *applier) linkTo(name, target string) error {
	from, st, err := a.linkTarget(target)
	if err != nil {
		return err
	}
	defer unix.Close(from.fd)
	p, base, err := a.parent(name)
	if err != nil {
		return err
	}
	if a.o.Format == InPlace {
		a.written[join(p.path, base)] = true
	}
	_, targetBase := split(target)
	var old unix.Stat_t
	if unix.Fstatat(p.fd, base, &old, unix.AT_SYMLINK_NOFOLLOW) == nil && old.Dev == st.Dev && old.Ino == st.Ino {
		return nil
	}
	return a.replace(p, base, func() error { return unix.Linkat(from.fd, targetBase, p.fd, base, 0) })
}

// linkTarget returns the folder of a hard link's target, opened once more, and
// the target's stat.
func (a *applier) linkTarget(target string) (*folder, *unix.Stat_t, error) {
	dir, base := split(target)
	var st unix.Stat_t
	p, err := (&walk{a: a}).folder(dir)
	if err == nil {
		err = unix.Fstatat(p.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if errors.Is(err, unix.ENOENT) && a.o.Format == Overlay && a.o.Lowers != nil {
		if p, err = a.copyUp(target); err == nil {
			err = unix.Fstatat(p.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
		}
	}
	switch {
	case errors.Is(err, unix.ENOENT) || err == nil && a.o.Format == Overlay && IsWhiteout(&st):
		return nil, nil, errors.New("no such file in the layer or below")
	case err != nil:
		return nil, nil, err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return nil, nil, unix.EISDIR
	}
	fd, err := unix.FcntlInt(uintptr(p.fd), unix.F_DUPFD_CLOEXEC, 0)
	return &folder{path: p.path, fd: fd}, &st, err
}

// xattrs sets the entry's xattrs. What the file system or the kind of file
// cannot hold is counted, as docker ignores it; a lost file capability is not.
func (a *applier) xattrs(hdr *tar.Header, special bool, set func(string, []byte) error) error {
	if len(hdr.PAXRecords) == 0 {
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(hdr.PAXRecords)) {
		attr, ok := strings.CutPrefix(k, xattrPrefix)
		if !ok {
			continue
		}
		if dropXattr(attr) {
			a.stats.XattrsDropped++
			continue
		}
		err := set(attr, []byte(hdr.PAXRecords[k]))
		user := strings.HasPrefix(attr, "user.")
		switch {
		case err == nil:
		case err == unix.ENOTSUP && attr != "security.capability", err == unix.EPERM && user && special:
			a.stats.XattrsDropped++
		default:
			return fmt.Errorf("set xattr %s: %w", quoteName(attr), err)
		}
	}
	return nil
}

// dropXattr tells xattrs that an archive may not set: overlayfs' own, which
// would redirect lookups to other paths, and labels of the host it was built on.
func dropXattr(attr string) bool {
	return strings.HasPrefix(attr, "trusted.overlay.") || strings.HasPrefix(attr, "user.overlay.") ||
		attr == "security.selinux" || attr == "system.nfs4_acl"
}

func setTimes(p *folder, base string, hdr *tar.Header) error {
	ts := times(hdr)
	if err := unix.UtimesNanoAt(p.fd, base, ts[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// times are access and modification time; the first is the second if the
// archive does not say.
func times(hdr *tar.Header) [2]unix.Timespec {
	spec := func(t time.Time) unix.Timespec {
		return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
	}
	m := spec(hdr.ModTime)
	if hdr.AccessTime.IsZero() {
		return [2]unix.Timespec{m, m}
	}
	return [2]unix.Timespec{spec(hdr.AccessTime), m}
}
