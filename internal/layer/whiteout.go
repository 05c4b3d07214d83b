package layer

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// whiteout hides a name of the lower layers, but not what this layer has of
// that name, before or after ("whiteout files MUST only apply to resources in
// lower/parent layers"). A folder of this layer becomes opaque instead.
func (a *applier) whiteout(name string) error {
	if a.o.Format == InPlace {
		return a.deleteLower(name)
	}
	p, base, err := a.parent(name)
	if err != nil {
		return err
	}
	// An unprivileged mknod of 0:0 is allowed since Linux 5.8 (a3c751a50fe6).
	err = unix.Mknodat(p.fd, base, unix.S_IFCHR, 0)
	if err != unix.EEXIST {
		return err
	}
	f, err := (&walk{a: a}).childFolder(p, base)
	if f == nil || err != nil {
		return err
	}
	return a.setOpaque(f)
}

// childFolder returns a folder of this layer, nil if the name is something else.
func (w *walk) childFolder(p *folder, base string) (*folder, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(p.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, nil
	}
	return w.child(p, base)
}

// opaque hides all that the lower layers have in a folder.
func (a *applier) opaque(path string) error {
	f, err := (&walk{a: a, make: a.o.Format == Overlay}).folder(path)
	switch {
	case a.o.Format == InPlace && errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return err
	case a.o.Format == InPlace:
		return a.prune(f)
	}
	return a.setOpaque(f)
}

func (a *applier) setOpaque(f *folder) error {
	if a.o.Format == InPlace {
		return nil
	}
	attr := "trusted.overlay.opaque"
	if a.o.UserXattr {
		attr = "user.overlay.opaque"
	}
	if err := unix.Fsetxattr(f.fd, attr, []byte("y"), 0); err != nil {
		return fmt.Errorf("set xattr %s: %w", attr, err)
	}
	return nil
}

// deleteLower deletes name but what this layer has written below it.
func (a *applier) deleteLower(name string) error {
	dir, base := split(name)
	p, err := (&walk{a: a}).folder(dir)
	if err == nil {
		err = a.deleteChild(p, base)
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (a *applier) deleteChild(p *folder, base string) error {
	if !a.written[join(p.path, base)] {
		return a.remove(p, base)
	}
	f, err := (&walk{a: a}).childFolder(p, base)
	if f == nil || err != nil {
		return err
	}
	return a.prune(f)
}

// prune empties a folder of what this layer has not written.
func (a *applier) prune(f *folder) error {
	fd, err := openFolder(f.fd, ".")
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(fd), f.path)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	path := f.path
	for _, name := range names {
		// f itself may have left the cache of open folders meanwhile.
		at, err := (&walk{a: a}).folder(path)
		if err != nil {
			return err
		}
		if err := a.deleteChild(at, name); err != nil {
			return err
		}
	}
	return nil
}
