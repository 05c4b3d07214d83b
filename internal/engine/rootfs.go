package engine

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// mountRoot mounts overlayfs of layers (top first) and the container's own upper folder, detached: the mount is nowhere in
// a mount table, and goes when the last holder of its fd, or of a copy in a container, goes.
func mountRoot(layers []string, dir string) (*os.File, error) {
	upper, work := dir+"/upper", dir+"/work"
	for d, mode := range map[string]os.FileMode{upper: 0o755, work: 0o700} {
		if err := os.Mkdir(d, mode); err != nil && !os.IsExist(err) {
			return nil, err
		}
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("root file system: fsopen overlay: %w", err)
	}
	defer unix.Close(fs)
	set := func(key, value string) {
		if err == nil {
			if err = unix.FsconfigSetString(fs, key, value); err != nil {
				err = fmt.Errorf("root file system: overlay %s=%s: %w", key, value, err)
			}
		}
	}
	for _, l := range layers {
		set("lowerdir+", l)
	}
	set("upperdir", upper)
	set("workdir", work)
	if err != nil {
		return nil, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("root file system: mount overlay: %w", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("root file system: fsmount: %w", err)
	}
	return os.NewFile(uintptr(fd), "rootfs "+strconv.Quote(dir)), nil
}
