package layer

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lowers are the lower layers' folders, opened once.
type lowers struct {
	fds []int // the layer's own root first, then the lower ones, top first
}

// openLowers asks for the lower layers at the first need.
func (a *applier) openLowers() (*lowers, error) {
	if a.lowers != nil {
		return a.lowers, nil
	}
	dirs, err := a.o.Lowers(a.ctx)
	if err != nil {
		return nil, fmt.Errorf("lower layers: %w", err)
	}
	l := &lowers{fds: []int{a.folders.root.fd}}
	for _, dir := range dirs {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("lower layer %q: %w", dir, err)
		}
		l.fds = append(l.fds, fd)
	}
	a.lowers = l
	return l, nil
}

// close closes the lower folders; the layer's own root is not its.
func (l *lowers) close() {
	if l == nil {
		return
	}
	for _, fd := range l.fds[1:] {
		_ = unix.Close(fd)
	}
}

// view is one layer's folder on the way to a path.
type view struct {
	root int // the layer's
	fd   int // O_PATH
}

// stack returns the roots of the layers that make up path in the merged view,
// top first: one for a file, one or more for a folder, none if it isn't there.
// It is overlayfs' lookup, and follows no symlink. Each component is looked up
// in its parent's fd: a whole path each time would cost the cube of an
// archive's depth. The layer itself alone is an early answer, whatever it has.
func (l *lowers) stack(path string) (roots []int, err error) {
	views := make([]view, 0, len(l.fds))
	for _, fd := range l.fds {
		views = append(views, view{fd, fd})
	}
	if views, err = visible(views, ".", path == ""); err != nil {
		return nil, err
	}
	defer func() { closeViews(views) }()
	for rest := path; rest != "" && (len(views) > 1 || len(views) == 1 && views[0].root != l.fds[0]); {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		next, err := visible(views, name, rest == "")
		closeViews(views)
		if views = next; err != nil {
			return nil, err
		}
	}
	for _, v := range views {
		roots = append(roots, v.root)
	}
	return roots, nil
}

func closeViews(views []view) {
	for _, v := range views {
		_ = unix.Close(v.fd)
	}
}

// visible returns which of the folders show name; a file only counts if it is
// the last component.
func visible(in []view, name string, last bool) (out []view, err error) {
	for _, v := range in {
		fd, err := openBeneath(v.fd, name, unix.O_PATH)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			continue
		}
		if err != nil {
			closeViews(out)
			return nil, err
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		file := !dir && !IsWhiteout(&st) && len(out) == 0 && last
		if err == nil && (dir || file) {
			out = append(out, view{v.root, fd})
		} else {
			_ = unix.Close(fd)
		}
		if err != nil {
			closeViews(out)
			return nil, err
		}
		if !dir || IsOpaque(fd) {
			break
		}
	}
	return out, nil
}

func openBeneath(root int, path string, flags uint64) (int, error) {
	return unix.Openat2(root, path, &unix.OpenHow{
		Flags:   flags | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}

// IsOpaque reads the mark of an opaque folder, of either namespace, through any fd of it (O_PATH too).
func IsOpaque(fd int) bool {
	var b [1]byte
	path := "/proc/self/fd/" + strconv.Itoa(fd)
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		if n, err := unix.Getxattr(path, attr, b[:]); err == nil && n == 1 && b[0] == 'y' {
			return true
		}
	}
	return false
}

// inherit gives a folder that the archive does not describe the attributes of
// the lower layers' folder that it hides in an overlay mount.
func (a *applier) inherit(path string, d *dirAttr) error {
	l, err := a.openLowers()
	if err != nil {
		return err
	}
	layers, err := l.stack(path)
	if err != nil || len(layers) < 2 {
		return err
	}
	f, err := (&walk{a: a}).folder(path)
	if err != nil {
		return err
	}
	src, err := openBeneath(layers[1], orDot(path), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	st, err := copyAttributes(src, f.fd, procPath(src, "."), procPath(f.fd, "."))
	d.mode, d.times = st.Mode&0o7777, [2]unix.Timespec{st.Atim, st.Mtim}
	return err
}

// copyUp copies a file of a lower layer into this one, and returns its folder.
func (a *applier) copyUp(path string) (*folder, error) {
	l, err := a.openLowers()
	if err != nil {
		return nil, err
	}
	layers, err := l.stack(path)
	if err != nil {
		return nil, err
	}
	if len(layers) == 0 || layers[0] == l.fds[0] {
		return nil, unix.ENOENT
	}
	dir, base := split(path)
	src, err := openBeneath(layers[0], orDot(dir), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(src)
	p, err := (&walk{a: a, make: true}).folder(dir)
	if err != nil {
		return nil, err
	}
	if err := CopyFile(src, base, p.fd, base); err == unix.EISDIR {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("copy up: %w", err)
	}
	a.stats.CopiedUp++
	return p, nil
}

func orDot(path string) string {
	if path == "" {
		return "."
	}
	return path
}
