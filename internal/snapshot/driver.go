package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"vitro/internal/layer"
)

// Options are the options of a root filesystem.
type Options struct {
	ReadOnly  bool // only the layers, nothing of the container's own
	Volatile  bool // skip syncs: for containers that are deleted at their end (--rm)
	UserXattr bool // overlay marks in user.overlay.*: for mounts without privilege
}

// A Driver makes root filesystems out of layers.
type Driver interface {
	// Name is what a container's record calls the driver.
	Name() string

	// Prepare makes what one container needs inside dir, an empty folder, and
	// returns the mount that is its root filesystem. lowers are the layers'
	// folders as package layer makes them, top first. After an error dir is
	// empty again.
	Prepare(ctx context.Context, dir string, lowers []string, o Options) (Mount, error)
}

// Choose returns the overlay driver if a mount of it works with its writable
// folder inside dir, and else the copy driver and the reason.
func Choose(dir string) (Driver, error) {
	tmp, err := os.MkdirTemp(dir, ".probe-")
	if err != nil {
		return CopyDriver{}, fmt.Errorf("snapshot: probe overlay: %w", err)
	}
	defer os.RemoveAll(tmp)
	lower := filepath.Join(tmp, "lower")
	if err := os.Mkdir(lower, 0o755); err != nil {
		return CopyDriver{}, fmt.Errorf("snapshot: probe overlay: %w", err)
	}
	m, err := OverlayDriver{}.Prepare(context.Background(), tmp, []string{lower}, Options{})
	if err != nil {
		return CopyDriver{}, err
	}
	tree, _, err := m.Open()
	if err != nil {
		return CopyDriver{}, err
	}
	tree.Close()
	return OverlayDriver{}, nil
}

// OverlayDriver mounts the layers by overlayfs.
type OverlayDriver struct{}

// Name is overlay.
func (OverlayDriver) Name() string { return "overlay" }

// Prepare makes dir/upper and dir/work. The root folder has the owner, mode,
// times and xattrs of the top layer's.
func (OverlayDriver) Prepare(_ context.Context, dir string, lowers []string, o Options) (Mount, error) {
	lowers, err := cutChain(lowers)
	if err != nil {
		return Mount{}, err
	}
	if o.ReadOnly {
		if len(lowers) == 0 {
			return Mount{}, errors.New("snapshot: a read-only root filesystem needs a layer")
		}
		return Overlay(lowers, "", "", o), nil
	}
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	if err := makeRoot(upper, lowers); err != nil {
		return Mount{}, err
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		_ = os.Remove(upper)
		return Mount{}, fmt.Errorf("snapshot: %w", err)
	}
	return Overlay(lowers, upper, work, o), nil
}

// Overlay returns the mount of layers, top first, under a writable upper folder
// with its work folder on the same file system; both empty mean read-only.
// Where overlayfs has no use (it wants two folders) it is a bind mount.
func Overlay(lowers []string, upper, work string, o Options) Mount {
	switch {
	case len(lowers) == 0:
		return Mount{Type: "bind", Source: upper}
	case len(lowers) == 1 && upper == "":
		return Mount{Type: "bind", Source: lowers[0], Options: []string{"ro"}}
	}
	m := Mount{Type: "overlay", Source: "overlay"}
	for _, l := range lowers {
		m.Options = append(m.Options, "lowerdir+="+l)
	}
	if upper == "" {
		m.Options = append(m.Options, "ro")
	} else {
		m.Options = append(m.Options, "upperdir="+upper, "workdir="+work, "index=off")
		if o.Volatile {
			m.Options = append(m.Options, "volatile")
		}
	}
	if o.UserXattr {
		m.Options = append(m.Options, "userxattr")
	}
	return m
}

// cutChain drops what is below a layer with an opaque root: overlayfs looks at
// the mark of every folder but a layer's root.
func cutChain(lowers []string) ([]string, error) {
	for i, dir := range lowers {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("snapshot: layer %q: %w", dir, err)
		}
		opaque := layer.IsOpaque(fd)
		_ = unix.Close(fd)
		if opaque {
			return lowers[:i+1], nil
		}
	}
	return lowers, nil
}

// makeRoot makes a folder that looks like the root of the top layer.
func makeRoot(path string, lowers []string) (err error) {
	if err := os.Mkdir(path, 0o755); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path)
			err = fmt.Errorf("snapshot: root folder: %w", err)
		}
	}()
	dst, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dst.Close()
	if len(lowers) == 0 {
		return dst.Chmod(0o755) // whatever the umask
	}
	src, err := os.Open(lowers[0])
	if err != nil {
		return err
	}
	defer src.Close()
	ts, err := layer.CopyFolder(int(src.Fd()), int(dst.Fd()))
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, 0)
}
