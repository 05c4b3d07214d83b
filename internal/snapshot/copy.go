package snapshot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"vitro/internal/layer"
)

// CopyDriver copies the layers into a folder: slow and large, but it works on
// every file system. Blocks are shared where the file system can (reflink).
type CopyDriver struct{}

// Name is copy.
func (CopyDriver) Name() string { return "copy" }

// Prepare makes dir/rootfs, a merged copy of the layers.
func (CopyDriver) Prepare(ctx context.Context, dir string, lowers []string, o Options) (Mount, error) {
	lowers, err := cutChain(lowers)
	if err != nil {
		return Mount{}, err
	}
	rootfs := filepath.Join(dir, "rootfs")
	if err := makeRoot(rootfs, lowers); err != nil {
		return Mount{}, err
	}
	if err := copyChain(ctx, rootfs, lowers); err != nil {
		_ = os.RemoveAll(rootfs)
		return Mount{}, fmt.Errorf("snapshot: copy layers: %w", err)
	}
	m := Mount{Type: "bind", Source: rootfs}
	if o.ReadOnly {
		m.Options = []string{"ro"}
	}
	return m, nil
}

// merge copies the merged view of layers, as overlayfs would show it.
type merge struct {
	ctx   context.Context
	root  int
	links map[inode]string // first name of files that have several
}

type inode struct{ dev, ino uint64 }

// source is an open folder of one layer.
type source struct{ *os.File }

func (s source) fd() int { return int(s.Fd()) }

func copyChain(ctx context.Context, rootfs string, lowers []string) error {
	dst, err := os.Open(rootfs)
	if err != nil {
		return err
	}
	defer dst.Close()
	var stack []source
	defer func() { closeSources(stack) }()
	for _, l := range lowers {
		f, err := os.Open(l)
		if err != nil {
			return err
		}
		stack = append(stack, source{f})
	}
	if len(stack) == 0 {
		return nil
	}
	m := &merge{ctx: ctx, root: int(dst.Fd()), links: map[inode]string{}}
	return m.folder(stack, int(dst.Fd()), "")
}

func closeSources(s []source) {
	for _, f := range s {
		f.Close()
	}
}

// folder copies into dst what stack, the same folder in each layer that shows
// it, top first, holds; then it gives dst the top one's attributes.
func (m *merge) folder(stack []source, dst int, path string) error {
	seen := map[string]bool{}
	for i, s := range stack {
		names, err := s.Readdirnames(-1)
		if err != nil {
			return err
		}
		slices.Sort(names)
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			if err := m.ctx.Err(); err != nil {
				return err
			}
			if err := m.entry(stack[i:], dst, name, filepath.Join(path, name)); err != nil {
				return err
			}
		}
	}
	ts, err := layer.CopyFolder(stack[0].fd(), dst)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	return unix.UtimesNanoAt(dst, ".", ts, 0)
}

// entry copies one name of the top folder of stack.
func (m *merge) entry(stack []source, dst int, name, path string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(stack[0].fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return m.subfolder(stack, dst, name, path)
	}
	if layer.IsWhiteout(&st) {
		return nil
	}
	id := inode{st.Dev, st.Ino}
	if first, ok := m.links[id]; ok {
		return unix.Linkat(m.root, first, dst, name, 0)
	}
	if st.Nlink > 1 {
		m.links[id] = path
	}
	if err := layer.CopyFile(stack[0].fd(), name, dst, name); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	return nil
}

func (m *merge) subfolder(stack []source, dst int, name, path string) error {
	sub, err := m.visible(stack, name)
	defer closeSources(sub)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if err := unix.Mkdirat(dst, name, 0o700); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	to, err := openFolder(dst, name)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	defer to.Close()
	return m.folder(sub, to.fd(), path)
}

// visible opens the folder name in each layer that shows it: down to an opaque
// one, or to where the name is something else.
func (m *merge) visible(stack []source, name string) ([]source, error) {
	var out []source
	for _, s := range stack {
		f, err := openFolder(s.fd(), name)
		if err == unix.ENOENT {
			continue
		}
		if err == unix.ENOTDIR || err == unix.ELOOP {
			break
		}
		if err != nil {
			return out, err
		}
		if out = append(out, f); layer.IsOpaque(f.fd()) {
			break
		}
	}
	return out, nil
}

func openFolder(dir int, name string) (source, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return source{}, err
	}
	return source{os.NewFile(uintptr(fd), name)}, nil
}
