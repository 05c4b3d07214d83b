package engine

import (
	"context"
	"fmt"
	"os"

	"vitro/internal/snapshot"
)

// rootAgain makes a container's root file system of its layers once more, with an upper folder that goes again.
func (e *Engine) rootAgain(layers []string) (path string, done func(), err error) {
	dir, err := os.MkdirTemp(e.RunRoot, ".try-")
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	m, err := snapshot.OverlayDriver{}.Prepare(context.Background(), dir, layers, snapshot.Options{Volatile: true})
	if err != nil {
		return "", nil, err
	}
	root, _, err := m.Open()
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d", root.Fd()), func() {
		root.Close()
		os.RemoveAll(dir)
	}, nil
}
