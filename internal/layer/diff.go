package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Tree is the root file system of a container and what it was made of.
type Tree struct {
	Root   *os.File // as the container sees it, without what is mounted in it
	Upper  string   // overlayfs' upper folder, the guide to what may have changed; empty: all of Root is compared
	Lowers []string // the image's layers in Overlay form, top first
	// Mountpoints are paths that a start makes where they are missing. An empty folder or file of such a name that no
	// layer has is no change, and neither are the folders that lead to it alone.
	Mountpoints []string
}

// ChangeKind is Docker's letter for a change.
type ChangeKind byte

// The kinds of changes.
const (
	Added    ChangeKind = 'A'
	Modified ChangeKind = 'C'
	Deleted  ChangeKind = 'D'
)

// Change is a path that differs from the layers below.
type Change struct {
	Kind ChangeKind
	Path string // without a leading slash

	opaque bool // a folder that hides what the layers have of it
	within bool // in such a folder: not there below, so not to be hidden one by one
}

// unchanged is the kind of a path that is in a diff but no change: what an opaque folder has again.
const unchanged ChangeKind = 0

// Changes lists what differs between a container's tree and its layers, folders before what is in them, sorted by name.
// A folder that has a change in it counts as modified; a file that was written with what it had before does not.
func Changes(ctx context.Context, t Tree) ([]Change, error) {
	list, _, err := diff(ctx, t)
	return slices.DeleteFunc(list, func(c Change) bool { return c.Kind == unchanged }), err
}

// WriteDiff writes the changes as the tar stream of a layer: whiteouts for what is deleted, opaque whiteouts for opaque
// folders. The same tree gives the same bytes. It returns false, with an archive of no entries, if there is no change.
func WriteDiff(ctx context.Context, w io.Writer, t Tree, o PackOptions) (changed bool, err error) {
	list, root, err := diff(ctx, t)
	if err != nil {
		return false, err
	}
	p := newPacker(ctx, w, o)
	if root {
		if _, err := p.entry(int(t.Root.Fd()), ".", "./"); err != nil {
			return false, fmt.Errorf("layer: %w", err)
		}
	}
	for _, c := range list {
		if err := p.change(t.Root, c); err != nil {
			return false, fmt.Errorf("layer: %w", err)
		}
	}
	return root || len(list) > 0, p.tw.Close()
}

// change writes what stands for a change in a layer.
func (p *packer) change(root *os.File, c Change) error {
	if err := p.ctx.Err(); err != nil {
		return context.Cause(p.ctx)
	}
	dir, base := split(c.Path)
	if strings.HasPrefix(base, whiteoutPrefix) && c.Kind != Deleted {
		return fmt.Errorf("%s: a name that begins with %s can't be in a layer", quoteName(c.Path), whiteoutPrefix)
	}
	if c.Kind == Deleted {
		if c.within {
			return nil
		}
		return p.whiteout(join(dir, whiteoutPrefix+base))
	}
	fd, err := openBeneath(int(root.Fd()), orDot(dir), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("%s: %w", quoteName(c.Path), err)
	}
	defer unix.Close(fd)
	_, err = p.entry(fd, base, c.Path)
	if errors.Is(err, unix.ENOENT) {
		return nil // it went meanwhile
	}
	if err == nil && c.opaque {
		err = p.whiteout(join(c.Path, opaqueName))
	}
	return err
}

func (p *packer) whiteout(name string) error {
	return p.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Format: tar.FormatPAX, ModTime: time.Unix(0, 0)})
}

// differ is the state of one comparison.
type differ struct {
	ctx   context.Context
	root  int
	upper int // -1 without one
	lower *lowers
	skip  map[string]bool
	list  []Change
}

// diff also tells whether the root folder itself differs.
func diff(ctx context.Context, t Tree) (_ []Change, root bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("layer: compare: %w", err)
		}
	}()
	d := &differ{ctx: ctx, root: int(t.Root.Fd()), upper: -1, lower: &lowers{}, skip: map[string]bool{}}
	defer func() {
		for _, fd := range append(d.lower.fds, d.upper) {
			_ = unix.Close(fd)
		}
	}()
	for _, m := range t.Mountpoints {
		d.skip[strings.Trim(path.Clean("/"+m), "/")] = true
	}
	for _, l := range t.Lowers {
		fd, err := unix.Open(l, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, false, fmt.Errorf("layer %q: %w", l, err)
		}
		d.lower.fds = append(d.lower.fds, fd)
	}
	if t.Upper != "" {
		if d.upper, err = unix.Open(t.Upper, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return nil, false, err
		}
	}
	if err := d.folder("", state{below: true, guided: d.upper >= 0}); err != nil {
		return nil, false, err
	}
	root, err = d.rootChanged()
	return d.list, root, err
}

// rootChanged: its time changes with each name that a start makes in it, so that counts only where others do.
func (d *differ) rootChanged() (bool, error) {
	st, below, err := d.both("")
	if err != nil || below == nil {
		return err == nil, err
	}
	ok, err := d.same("", &st, below, len(d.list) > 0)
	return !ok, err
}

// state is what is known of a folder that is compared.
type state struct {
	below  bool // the layers have it, as a folder
	guided bool // the upper folder has all that changed in it
	opaque bool // it is opaque, or in an opaque one: all of it goes into the layer
}

// folder compares what is in a folder.
func (d *differ) folder(dir string, s state) error {
	if err := d.ctx.Err(); err != nil {
		return context.Cause(d.ctx)
	}
	names, err := d.names(dir, s)
	if err != nil {
		return fmt.Errorf("%s: %w", quoteName(dir), err)
	}
	for _, n := range names {
		if err := d.name(join(dir, n), s); err != nil {
			return err
		}
	}
	return nil
}

// names are those to look at: the upper folder's, or all that are there or below.
func (d *differ) names(dir string, s state) ([]string, error) {
	at := d.root
	if s.guided {
		at = d.upper
	}
	seen := map[string]bool{}
	if err := addNames(seen, at, dir); err != nil {
		return nil, err
	}
	if s.below && !s.guided {
		layers, err := d.lower.stack(dir)
		if err != nil {
			return nil, err
		}
		for _, l := range layers {
			if err := addNames(seen, l, dir); err != nil {
				return nil, err
			}
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

func addNames(seen map[string]bool, root int, dir string) error {
	fd, err := openBeneath(root, orDot(dir), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	for _, n := range names {
		seen[n] = true
	}
	return err
}

// file is a path in one tree.
type file struct {
	root int
	unix.Stat_t
}

func (f *file) dir() bool { return f.Mode&unix.S_IFMT == unix.S_IFDIR }

// look finds a path below root; nil if it is not there.
func look(root int, p string) (*file, error) {
	fd, err := openBeneath(root, orDot(p), unix.O_PATH)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	f := &file{root: root}
	return f, unix.Fstat(fd, &f.Stat_t)
}

// both finds a path in the tree and below.
func (d *differ) both(p string) (now file, below *file, err error) {
	f, err := look(d.root, p)
	if err == nil && f == nil {
		err = unix.ENOENT
	}
	if err != nil {
		return now, nil, err
	}
	below, err = d.below(p)
	return *f, below, err
}

func (d *differ) below(p string) (*file, error) {
	layers, err := d.lower.stack(p)
	if err != nil || len(layers) == 0 {
		return nil, err
	}
	return look(layers[0], p)
}

// name compares one path.
func (d *differ) name(p string, s state) error {
	now, err := look(d.root, p)
	if err != nil {
		return fmt.Errorf("%s: %w", quoteName(p), err)
	}
	var below *file
	if s.below {
		if below, err = d.below(p); err != nil {
			return fmt.Errorf("%s: %w", quoteName(p), err)
		}
	}
	switch {
	case now == nil && below == nil:
	case now == nil:
		d.list = append(d.list, Change{Kind: Deleted, Path: p, within: s.opaque})
	case now.dir():
		return d.subfolder(p, now, below, s)
	case below == nil && d.skip[p] && now.Mode&unix.S_IFMT == unix.S_IFREG && now.Size == 0:
	case below == nil:
		d.list = append(d.list, Change{Kind: Added, Path: p})
	default:
		kind := Modified
		if ok, err := d.sameFile(p, now, below, s); err != nil {
			return fmt.Errorf("%s: %w", quoteName(p), err)
		} else if ok {
			kind = unchanged
		}
		if kind != unchanged || s.opaque {
			d.list = append(d.list, Change{Kind: kind, Path: p})
		}
	}
	return nil
}

// subfolder compares a folder, which is there now, and what is in it.
func (d *differ) subfolder(p string, now, below *file, s state) error {
	in := state{below: below != nil && below.dir(), guided: s.guided, opaque: s.opaque}
	c := Change{Path: p, Kind: Added}
	if s.guided {
		opaque, redirect, err := d.marks(p)
		if err != nil {
			return fmt.Errorf("%s: %w", quoteName(p), err)
		}
		if (opaque || redirect) && (in.below || redirect) {
			in.guided = false
		}
		if opaque && in.below {
			c.opaque, in.opaque = true, true
		}
	}
	if below != nil {
		c.Kind = Modified
	}
	at := len(d.list)
	d.list = append(d.list, c)
	if err := d.folder(p, in); err != nil {
		return err
	}
	changes := len(d.list) > at+1
	if changes || c.opaque || below != nil && !in.below {
		return nil
	}
	if below == nil {
		if d.leads(p) && d.onlyMountpoints(p) {
			d.list = d.list[:at]
		}
		return nil
	}
	ok, err := d.same(p, now, below, !d.leads(p))
	if err != nil {
		return fmt.Errorf("%s: %w", quoteName(p), err)
	}
	if ok && s.opaque {
		d.list[at].Kind = unchanged
	} else if ok {
		d.list = d.list[:at]
	}
	return nil
}

// marks reads overlayfs' own xattrs of a folder in the upper one: opaque, and moved here from somewhere else.
func (d *differ) marks(p string) (opaque, redirect bool, err error) {
	fd, err := openBeneath(d.upper, p, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false, false, err
	}
	defer unix.Close(fd)
	for _, attr := range []string{"trusted.overlay.redirect", "user.overlay.redirect"} {
		if n, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), attr, nil); err == nil && n > 0 {
			redirect = true
		}
	}
	return IsOpaque(fd), redirect, nil
}

// leads tells whether a mountpoint is at or below p.
func (d *differ) leads(p string) bool {
	for m := range d.skip {
		if within(m, p) {
			return true
		}
	}
	return false
}

// onlyMountpoints tells whether a new folder without other changes is a mountpoint or holds one: an empty one that
// somebody made counts.
func (d *differ) onlyMountpoints(p string) bool {
	seen := map[string]bool{}
	return addNames(seen, d.root, p) == nil && (d.skip[p] || len(seen) > 0)
}

// sameFile: a file that got a second name must go into the layer with it, or they would be two files.
func (d *differ) sameFile(p string, now, below *file, s state) (bool, error) {
	if now.Nlink > 1 && (s.guided || now.Nlink > below.Nlink) {
		return false, nil
	}
	ok, err := d.same(p, now, below, true)
	if err != nil || !ok || now.Mode&unix.S_IFMT != unix.S_IFREG {
		return ok, err
	}
	return sameContent(p, now.root, below.root)
}

// same compares all that stat and listxattr tell.
func (d *differ) same(p string, a, b *file, times bool) (bool, error) {
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || times && a.Mtim != b.Mtim {
		return false, nil
	}
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
	case unix.S_IFBLK, unix.S_IFCHR:
		if a.Rdev != b.Rdev {
			return false, nil
		}
	default:
		if a.Size != b.Size {
			return false, nil
		}
	}
	var attrs [2]map[string]string
	var link [2]string
	for i, f := range []*file{a, b} {
		dir, base := split(p)
		fd, err := openBeneath(f.root, orDot(dir), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return false, err
		}
		attrs[i], err = readXattrs(fd, orDot(base))
		if err == nil && f.Mode&unix.S_IFMT == unix.S_IFLNK {
			link[i], err = readlink(fd, base)
		}
		_ = unix.Close(fd)
		if err != nil {
			return false, err
		}
	}
	return maps.Equal(attrs[0], attrs[1]) && link[0] == link[1], nil
}

// sameContent compares two regular files of one size.
func sameContent(p string, roots ...int) (bool, error) {
	var f [2]*os.File
	for i, root := range roots {
		fd, err := openBeneath(root, p, unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			return false, err
		}
		f[i] = os.NewFile(uintptr(fd), p)
		defer f[i].Close()
	}
	a, b := make([]byte, 128<<10), make([]byte, 128<<10)
	for {
		n, err := io.ReadFull(f[0], a)
		m, err2 := io.ReadFull(f[1], b)
		if n != m || !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return true, nil
		}
		if err = errors.Join(err, err2); err != nil {
			return false, err
		}
	}
}
