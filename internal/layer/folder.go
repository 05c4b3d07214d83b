package layer

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxOpen  = 64 // folders kept open; archives are mostly in folder order
	maxLinks = 40 // symlinks followed for one name, as in the kernel
)

// folder is an open folder of the layer. It stays open until maxOpen others
// were looked up after it.
type folder struct {
	path string // without symlinks; "" is the root
	fd   int
	used uint64
}

// folders caches open folders by path, so that an entry costs no path walk.
type folders struct {
	root  *folder
	open  map[string]*folder
	clock uint64
}

func openFolders(dir string) (*folders, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	root := &folder{fd: fd, used: math.MaxUint64}
	return &folders{root: root, open: map[string]*folder{"": root}}, nil
}

func (c *folders) close() {
	for _, f := range c.open {
		_ = unix.Close(f.fd)
	}
}

func (c *folders) get(path string) *folder {
	f := c.open[path]
	if f != nil && f != c.root {
		c.clock++
		f.used = c.clock
	}
	return f
}

// add takes over fd, and closes the folder that was used least recently.
func (c *folders) add(path string, fd int) *folder {
	if len(c.open) >= maxOpen {
		oldest := c.root
		for _, f := range c.open {
			if f.used < oldest.used {
				oldest = f
			}
		}
		c.drop(oldest)
	}
	c.clock++
	f := &folder{path: path, fd: fd, used: c.clock}
	c.open[path] = f
	return f
}

func (c *folders) drop(f *folder) {
	_ = unix.Close(f.fd)
	delete(c.open, f.path)
}

// forget drops path and all below it, which no longer exist.
func (c *folders) forget(path string) {
	for p, f := range c.open {
		if within(p, path) {
			c.drop(f)
		}
	}
}

// within says whether p is dir or below it.
func within(p, dir string) bool {
	return strings.HasPrefix(p, dir) && (len(p) == len(dir) || p[len(dir)] == '/')
}

// walk is one lookup of a folder.
type walk struct {
	a     *applier
	make  bool // make what is missing
	links int
}

// parent returns the folder of a clean name, made if it is missing, and the
// last component.
func (a *applier) parent(name string) (*folder, string, error) {
	dir, base := split(name)
	f, err := (&walk{a: a, make: true}).folder(dir)
	return f, base, err
}

// folder looks path up component by component from the deepest folder that is
// open. No component is ever ".." and none is followed by the kernel, so the
// way cannot leave the layer whatever the archive has put there.
func (w *walk) folder(path string) (*folder, error) {
	if f := w.a.folders.get(path); f != nil {
		return f, nil
	}
	dir, base := split(path)
	p, err := w.folder(dir)
	if err != nil {
		return nil, err
	}
	return w.child(p, base)
}

func (w *walk) child(p *folder, base string) (*folder, error) {
	path := join(p.path, base)
	if f := w.a.folders.get(path); f != nil {
		return f, nil
	}
	fd, err := openFolder(p.fd, base)
	switch {
	case err == nil:
		f := w.a.folders.add(path, fd)
		return f, w.a.known(path, f, false)
	case err == unix.ENOENT && w.make:
		return w.a.newFolder(p, base, true, false)
	case err != unix.ENOTDIR && err != unix.ELOOP:
		return nil, fmt.Errorf("parent %s: %w", quoteName(path), err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(p.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, fmt.Errorf("parent %s: %w", quoteName(path), err)
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return w.follow(p, base)
	case w.make && w.a.o.Format == Overlay && IsWhiteout(&st):
		if err := unix.Unlinkat(p.fd, base, 0); err != nil {
			return nil, fmt.Errorf("parent %s: %w", quoteName(path), err)
		}
		return w.a.newFolder(p, base, true, true)
	}
	return nil, fmt.Errorf("parent %s: %w", quoteName(path), errNotFolder)
}

// follow resolves a symlink that is used as a parent. An absolute one starts
// at the layer's root, as docker does in its chroot; a ".." above the root is
// refused, and nothing is made on the way.
func (w *walk) follow(p *folder, base string) (*folder, error) {
	path := join(p.path, base)
	if w.links++; w.links > maxLinks {
		return nil, fmt.Errorf("parent %s: %w", quoteName(path), unix.ELOOP)
	}
	target, err := readlink(p.fd, base)
	if err != nil {
		return nil, fmt.Errorf("parent %s: %w", quoteName(path), err)
	}
	at := p
	if strings.HasPrefix(target, "/") {
		at = w.a.folders.root
	}
	sub := &walk{a: w.a, links: w.links}
	for c := range strings.SplitSeq(target, "/") {
		switch c {
		case "", ".":
			continue
		case "..":
			if at.path == "" {
				return nil, errLeaves
			}
			up, _ := split(at.path)
			at, err = sub.folder(up)
		default:
			at, err = sub.child(at, c)
		}
		if errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("parent %q is a symlink to %q, which is not in the layer", path, target)
		}
		if err != nil {
			return nil, err
		}
	}
	w.links = sub.links
	return at, nil
}

// newFolder makes a folder that is the owner's until the archive describes it.
func (a *applier) newFolder(p *folder, base string, implicit, opaque bool) (*folder, error) {
	path := join(p.path, base)
	if err := unix.Mkdirat(p.fd, base, 0o700); err != nil {
		return nil, fmt.Errorf("mkdir %q: %w", path, err)
	}
	fd, err := openFolder(p.fd, base)
	if err != nil {
		return nil, fmt.Errorf("open folder %q: %w", path, err)
	}
	f := a.folders.add(path, fd)
	a.dirs[path] = &dirAttr{mode: 0o755, implicit: implicit, found: implicit && a.o.Format == Plain}
	if a.o.Format == InPlace {
		a.written[path] = true
	}
	if implicit {
		// A setgid parent would pass on its group, the umask take bits away.
		if err := unix.Fchown(fd, os.Geteuid(), os.Getegid()); err != nil {
			return nil, fmt.Errorf("chown %q: %w", path, err)
		}
		if err := unix.Fchmod(fd, 0o755); err != nil {
			return nil, fmt.Errorf("chmod %q: %w", path, err)
		}
	}
	if opaque {
		return f, a.setOpaque(f)
	}
	return f, nil
}

// known notes a folder that was there before: its times are kept. The root of
// an Overlay layer is implicit until an entry describes it.
func (a *applier) known(path string, f *folder, implicit bool) error {
	if a.o.Format == InPlace {
		a.written[path] = true
	}
	if a.dirs[path] != nil {
		return nil
	}
	if implicit {
		a.dirs[path] = &dirAttr{mode: 0o755, implicit: true}
		return unix.Fchmod(f.fd, 0o755)
	}
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return err
	}
	a.dirs[path] = &dirAttr{mode: st.Mode & 0o7777, times: [2]unix.Timespec{st.Atim, st.Mtim}, found: a.o.Format == Plain}
	return nil
}

// openFolder opens one component, never through a symlink.
func openFolder(dirfd int, base string) (int, error) {
	for {
		fd, err := unix.Openat2(dirfd, base, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
		})
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

func readlink(dirfd int, base string) (string, error) {
	buf := make([]byte, maxName+1)
	n, err := unix.Readlinkat(dirfd, base, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// IsWhiteout tells overlayfs' mark of a hidden name.
func IsWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}
