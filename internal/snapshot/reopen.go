package snapshot

import (
	"os"
	"path/filepath"
)

// Reopen returns the mount that Prepare of either driver made in dir before: for a container that is started again. It is
// os.ErrNotExist if there is none.
func Reopen(dir string, lowers []string, o Options) (Mount, error) {
	rootfs := filepath.Join(dir, "rootfs")
	if _, err := os.Lstat(rootfs); err == nil {
		return Mount{Type: "bind", Source: rootfs}, nil
	}
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	if _, err := os.Lstat(work); err != nil { // made last
		return Mount{}, err
	}
	lowers, err := cutChain(lowers)
	if err != nil {
		return Mount{}, err
	}
	return Overlay(lowers, upper, work, o), nil
}

// View returns a read-only mount of what Reopen's would show, or of the layers alone before there is one. It leaves no
// trace in dir and works beside the mount that is in use: the upper folder is one more layer to it.
func View(dir string, lowers []string) (Mount, error) {
	m, err := Reopen(dir, lowers, Options{})
	if err == nil && m.Type == "bind" {
		m.Options = []string{"ro"}
		return m, nil
	}
	if lowers, err = cutChain(lowers); err != nil {
		return Mount{}, err
	}
	if upper := filepath.Join(dir, "upper"); m.Type != "" {
		lowers = append([]string{upper}, lowers...)
	}
	if len(lowers) == 0 {
		return Mount{}, os.ErrNotExist
	}
	return Overlay(lowers, "", "", Options{}), nil
}
