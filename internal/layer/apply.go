package layer

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Whiteout says what a whiteout in the archive becomes on disk.
type Whiteout int

const (
	// Overlay makes the folder an overlayfs lowerdir: a whiteout becomes a
	// character device 0:0, an opaque whiteout an xattr of its folder.
	Overlay Whiteout = iota
	// InPlace applies the layer onto a folder that holds the lower layers
	// already: a whiteout deletes what they put there.
	InPlace
	// Plain applies an archive of files, not a layer, onto a folder: names that begin with .wh. are names, and what
	// is a folder stays one (docker cp). Folders that the archive does not describe keep their attributes; their
	// times change as they would.
	Plain
)

// ApplyOptions are the options of Apply; the zero value is the usual case.
type ApplyOptions struct {
	Format Whiteout

	// Owner, if set, gives everything this owner in place of the archive's.
	Owner *Owner

	// Lowers returns the folders of the lower layers, in Overlay form, top
	// first. It is called at most once, and only when the archive needs them:
	// for a hard link to a file of a lower layer, which is copied up, and at
	// the end for folders that the archive does not describe (often the root),
	// which inherit owner, mode, times and xattrs. It may block until those
	// layers are there. If nil, such a hard link is refused and such folders
	// are root's, mode 0755, dated 1970. Not used with InPlace.
	Lowers func(context.Context) ([]string, error)

	// UserXattr marks opaque folders with user.overlay.opaque, for overlay
	// mounts made without privilege (option userxattr), not trusted.overlay.opaque.
	UserXattr bool

	// MaxBytes bounds the sum of the sizes of regular files, holes included,
	// in bytes; 0 is no bound.
	MaxBytes int64

	// Sync writes the file system back (syncfs) before Apply returns.
	Sync bool

	// Entry, if set, is called with the name of each entry before it is applied.
	Entry func(name string)
}

// Owner is a user and a group.
type Owner struct{ UID, GID int }

// Stats is what an archive held.
type Stats struct {
	Entries       int   // all of them, whiteouts too
	Bytes         int64 // of regular files, holes included
	Whiteouts     int   // opaque ones too
	CopiedUp      int   // files of lower layers copied for a hard link
	Skipped       int   // entries that are AUFS's own (.wh..wh.plnk and the like)
	XattrsDropped int   // overlayfs' own, the build host's labels, and what the file system can't hold
}

var (
	errLeaves    = errors.New("path leaves the layer")
	errNotFolder = errors.New("not a folder")
)

// applier is the state of one Apply.
type applier struct {
	ctx     context.Context
	o       ApplyOptions
	root    *os.Root
	folders *folders
	dirs    map[string]*dirAttr // folders to finish once their children are there
	written map[string]bool     // InPlace: what this layer has put or passed through
	lowers  *lowers
	buf     []byte
	stats   Stats
}

// dirAttr is what a folder gets at the end: writing its children changes its
// times, and its mode may forbid to write them.
type dirAttr struct {
	times    [2]unix.Timespec
	mode     uint32
	implicit bool // not described by the archive
	found    bool // Plain: there before, and not described
}

// Apply unpacks r, the uncompressed tar stream of one layer, into the folder
// dir, which the caller has made (empty, but for InPlace). It reads r until
// EOF, so a digest that is computed on the way is complete.
//
// After an error or a cancelled ctx the folder holds a part of the layer: the
// caller deletes it. An error about an entry reads
// `layer: entry "a/../../etc/passwd": path leaves the layer`.
func Apply(ctx context.Context, r io.Reader, dir string, o ApplyOptions) (Stats, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Stats{}, fmt.Errorf("layer: open folder: %w", err)
	}
	defer root.Close()
	a := &applier{
		ctx: ctx, o: o, root: root,
		dirs:    map[string]*dirAttr{},
		written: map[string]bool{},
		buf:     make([]byte, 256<<10),
	}
	if a.folders, err = openFolders(dir); err != nil {
		return Stats{}, fmt.Errorf("layer: open folder: %w", err)
	}
	defer a.folders.close()
	if err := a.known("", a.folders.root, o.Format == Overlay); err != nil {
		return Stats{}, fmt.Errorf("layer: %w", err)
	}
	defer func() { a.lowers.close() }()
	if err := a.archive(bufio.NewReaderSize(ctxReader{ctx, r}, 64<<10)); err != nil {
		return a.stats, err
	}
	if err := a.finish(); err != nil {
		return a.stats, fmt.Errorf("layer: %w", err)
	}
	return a.stats, nil
}

// ctxReader ends a read loop when ctx does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// archive applies all entries of r.
func (a *applier) archive(r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("layer: read archive after %d entries: %w", a.stats.Entries, err)
		}
		if hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		a.stats.Entries++
		if a.o.Entry != nil {
			a.o.Entry(hdr.Name)
		}
		if err := a.entry(hdr, tr); err != nil {
			return fmt.Errorf("layer: entry %s: %w", quoteName(hdr.Name), err)
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("layer: read after the archive's end: %w", err)
	}
	return nil
}

// quoteName quotes an entry's name for an error, cut to a line's length.
func quoteName(name string) string {
	if len(name) > 256 {
		return fmt.Sprintf("%q… (%d bytes)", name[:64], len(name))
	}
	return fmt.Sprintf("%q", name)
}

// entry applies one entry.
func (a *applier) entry(hdr *tar.Header, r io.Reader) error {
	name, err := cleanName(hdr.Name)
	if err != nil {
		return err
	}
	kind := whiteoutNone
	if a.o.Format != Plain {
		kind, name, err = parseWhiteout(name)
	}
	switch {
	case err != nil:
		return err
	case kind == whiteoutMeta:
		a.stats.Skipped++
		return nil
	case kind == whiteoutOpaque:
		a.stats.Whiteouts++
		return a.opaque(name)
	case kind == whiteoutName:
		a.stats.Whiteouts++
		return a.whiteout(name)
	}
	if a.o.Owner != nil {
		hdr.Uid, hdr.Gid = a.o.Owner.UID, a.o.Owner.GID
	}
	if err := checkHeader(hdr); err != nil {
		return err
	}
	if name == "" {
		if hdr.Typeflag != tar.TypeDir {
			return errors.New("the root of a layer must be a folder")
		}
		return a.setFolder(a.folders.root, hdr)
	}
	if hdr.Typeflag == tar.TypeLink {
		return a.link(name, hdr.Linkname)
	}
	p, base, err := a.parent(name)
	if err != nil {
		return err
	}
	if a.o.Format == InPlace {
		a.written[join(p.path, base)] = true
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		return a.mkdir(p, base, hdr)
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return a.regular(p, base, hdr, r)
	case tar.TypeSymlink:
		return a.symlink(p, base, hdr)
	}
	return a.special(p, base, hdr)
}

// finish gives folders their final attributes, children before parents since
// a parent's mode may close the way to them.
func (a *applier) finish() error {
	paths := make([]string, 0, len(a.dirs))
	for path := range a.dirs {
		paths = append(paths, path)
	}
	slices.SortFunc(paths, func(x, y string) int { return strings.Compare(y, x) })
	for _, path := range paths {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		if a.dirs[path].found {
			continue
		}
		if err := a.finishFolder(path, a.dirs[path]); err != nil {
			return fmt.Errorf("folder %s: %w", quoteName(path), err)
		}
	}
	if a.o.Sync {
		if err := unix.Syncfs(a.folders.root.fd); err != nil {
			return fmt.Errorf("syncfs: %w", err)
		}
	}
	return nil
}

func (a *applier) finishFolder(path string, d *dirAttr) error {
	if d.implicit && a.o.Format == Overlay && a.o.Lowers != nil {
		if err := a.inherit(path, d); err != nil {
			return err
		}
	}
	dir, base := a.folders.root, "."
	if path != "" {
		var err error
		if dir, base, err = a.parent(path); err != nil {
			return err
		}
	}
	if d.mode&0o700 != 0o700 {
		if err := unix.Fchmodat(dir.fd, base, d.mode, 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	if err := unix.UtimesNanoAt(dir.fd, base, d.times[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}
