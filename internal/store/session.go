package store

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// session is one running import: a locked staging folder, and pins that keep GC off what the import counts on.
type session struct {
	s     *Store
	dir   string
	lock  *os.File
	locks map[digest.Digest]*os.File // layers that this session makes, by chain ID
}

// begin starts a session and clears away what crashed ones left.
func (s *Store) begin() (*session, error) {
	se := &session{s: s, locks: map[digest.Digest]*os.File{}}
	var old []stale
	err := s.locked(func() (err error) {
		if old, err = s.findStale(); err != nil {
			return err
		}
		se.dir, se.lock, err = s.staging()
		return err
	})
	for _, t := range old {
		_ = t.remove() // what stays is found again by the next one
	}
	if err != nil {
		return nil, fmt.Errorf("staging: %w", err)
	}
	if len(old) > 0 { // a crash may also have left layers that nothing refers to
		_, _ = s.GC()
	}
	return se, nil
}

func (se *session) path(elem ...string) string {
	return filepath.Join(append([]string{se.dir}, elem...)...)
}

// pin names the chain IDs and blobs that must stay from now on. It holds until end.
func (se *session) pin(chains, blobs []digest.Digest) error {
	var b strings.Builder
	for _, d := range chains {
		fmt.Fprintln(&b, "layer", d.Encoded())
	}
	for _, d := range blobs {
		fmt.Fprintln(&b, "blob", d.Encoded())
	}
	return se.s.locked(func() error { return os.WriteFile(se.path("pins"), []byte(b.String()), 0o600) })
}

// lockLayer locks a layer to make it; false means that another process does.
func (se *session) lockLayer(chain digest.Digest) (bool, error) {
	if se.locks[chain] != nil {
		return true, nil
	}
	l, err := flock(se.s.path("locks", chain.Encoded()), os.O_RDWR|os.O_CREATE, false)
	if l != nil {
		se.locks[chain] = l
	}
	return l != nil, err
}

// release gives the layer locks back.
func (se *session) release() {
	for c, l := range se.locks {
		os.Remove(l.Name())
		l.Close()
		delete(se.locks, c)
	}
}

// end removes the staging folder and drops the pins.
func (se *session) end() error {
	se.release()
	return stale{se.dir, se.lock}.remove()
}

// commit makes the staged blobs and layers visible, after everything is on disk.
func (se *session) commit() error {
	if err := syncFS(se.lock); err != nil {
		return err
	}
	moved := false
	for sub, dst := range map[string]string{"blobs": se.s.path("oci", "blobs", "sha256"), "layers": se.s.path("layers")} {
		entries, err := os.ReadDir(se.path(sub))
		if err != nil {
			return err
		}
		for _, e := range entries {
			from, to := se.path(sub, e.Name()), filepath.Join(dst, e.Name())
			if sub == "layers" && exists(to) {
				continue // made meanwhile; goes with the staging folder
			}
			if err := os.Rename(from, to); err != nil {
				return err
			}
			moved = true
		}
		if moved {
			if err := syncDir(dst); err != nil {
				return err
			}
		}
	}
	return nil
}

// pinned returns the names that sessions hold, as they are in the pins files; those of old are over. The caller holds
// the store lock.
func (s *Store) pinned(old []stale) (map[string]bool, error) {
	files, err := filepath.Glob(s.path("staging", "*", "pins"))
	if err != nil {
		return nil, err
	}
	pins := map[string]bool{}
	for _, f := range files {
		if slices.ContainsFunc(old, func(t stale) bool { return t.dir == filepath.Dir(f) }) {
			continue
		}
		b, err := os.ReadFile(f)
		if os.IsNotExist(err) {
			continue // that session has just ended: its references are in the index
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			pins[strings.TrimSpace(line)] = true
		}
	}
	return pins, nil
}
