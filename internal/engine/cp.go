package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"vitro/internal/layer"
	"vitro/internal/safepath"
)

// PathStat is what a path in a container is; the last component is not followed.
type PathStat struct {
	Mode       uint32 // st_mode
	LinkTarget string
}

// IsDir tells a folder.
func (s PathStat) IsDir() bool { return s.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular tells a file with content.
func (s PathStat) IsRegular() bool { return s.Mode&unix.S_IFMT == unix.S_IFREG }

// IsLink tells a symbolic link.
func (s PathStat) IsLink() bool { return s.Mode&unix.S_IFMT == unix.S_IFLNK }

// absolute keeps what a path ends with: "/" and "/." ask for a folder, and follow a link to one.
func absolute(p string) string {
	clean := path.Clean("/" + p)
	if clean != "/" && (strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") || p == ".") {
		clean += "/"
	}
	return clean
}

// pathError has Docker's words for a path that is not there.
func (v *View) pathError(p, ref string, err error) error {
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("Could not find the file %s in container %s", p, ref)
	}
	return fmt.Errorf("%s:%s: %w", ref, p, err)
}

// Stat looks at a path; ref is what the user calls the container.
func (v *View) Stat(ref, p string) (s PathStat, err error) {
	fd, err := safepath.Open(int(v.Root.Fd()), absolute(p), unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return s, v.pathError(p, ref, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return s, v.pathError(p, ref, err)
	}
	if s.Mode = st.Mode; s.IsLink() {
		b := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, "", b)
		if err != nil {
			return s, v.pathError(p, ref, err)
		}
		s.LinkTarget = string(b[:n])
	}
	return s, nil
}

// Pack writes what is at a path as a tar stream, called name.
func (v *View) Pack(ctx context.Context, w io.Writer, ref, p, name string) error {
	abs := absolute(p)
	dir, base := path.Split(abs)
	if base == "" {
		dir, base = abs, "."
	}
	fd, err := safepath.Open(int(v.Root.Fd()), dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return v.pathError(p, ref, err)
	}
	defer unix.Close(fd)
	return layer.Pack(ctx, w, fd, base, name, layer.PackOptions{SkipKernel: true})
}

// Unpack extracts a tar stream, which may be compressed, into a folder. A folder does not take the place of anything else
// and nothing takes the place of a folder. With archive, all of it becomes the container's user's, if it has one.
func (v *View) Unpack(ctx context.Context, r io.Reader, ref, dir string, archive bool) error {
	fd, err := safepath.Open(int(v.Root.Fd()), path.Clean("/"+dir), unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOTDIR {
		return errors.New("extraction point is not a directory")
	}
	if err != nil {
		return v.pathError(dir, ref, err)
	}
	defer unix.Close(fd)
	o := layer.ApplyOptions{Format: layer.Plain}
	if archive && v.c.Config.User != "" {
		u, _, err := lookupUser(int(v.Root.Fd()), v.c.Config.User)
		if err != nil {
			return err
		}
		o.Owner = &layer.Owner{UID: int(u.UID), GID: int(u.GID)}
	}
	dec, err := layer.Decompress(r, "")
	if err != nil {
		return err
	}
	defer dec.Close()
	if _, err = layer.Apply(ctx, dec, fmt.Sprintf("/proc/self/fd/%d", fd), o); errors.Is(err, unix.EROFS) {
		return errors.New("container rootfs or the volume is marked read-only")
	}
	return err
}
