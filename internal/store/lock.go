package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// flock opens path and locks it. With wait false it returns nil, nil when another holds the lock. The holder of a lock
// file may unlink it, so a lock only counts while its path still leads to it.
func flock(path string, flags int, wait bool) (*os.File, error) {
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		f, err := os.OpenFile(path, flags, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), how)
		for errors.Is(err, unix.EINTR) {
			err = unix.Flock(int(f.Fd()), how)
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, nil
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("flock %s: %w", path, err)
		}
		held, err1 := f.Stat()
		now, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(held, now) {
			return f, nil
		}
		f.Close()
	}
}

// locked runs f under the store lock. f must be short: no download, no unpacking, no deleting of trees.
func (s *Store) locked(f func() error) error {
	l, err := flock(s.path("lock"), os.O_RDWR|os.O_CREATE, true)
	if err != nil {
		return fmt.Errorf("store lock: %w", err)
	}
	defer l.Close()
	return f()
}

// staging makes a folder under staging/ and locks it for as long as this process lives. The caller holds the store lock,
// so nobody takes the folder for a stale one before it is locked.
func (s *Store) staging() (dir string, lock *os.File, err error) {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	dir = s.path("staging", hex.EncodeToString(id[:]))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, err
	}
	if lock, err = flock(dir, os.O_RDONLY, true); err != nil {
		os.Remove(dir)
		return "", nil, err
	}
	return dir, lock, nil
}

// stale is a staging folder whose process is gone, or one with things to delete; this process holds its lock.
type stale struct {
	dir  string
	lock *os.File
}

func (t stale) remove() error {
	err := removeAll(t.dir)
	t.lock.Close()
	return err
}

// findStale locks the staging folders whose process is gone. The caller holds the store lock.
func (s *Store) findStale() ([]stale, error) {
	entries, err := os.ReadDir(s.path("staging"))
	if err != nil {
		return nil, err
	}
	var found []stale
	for _, e := range entries {
		dir := s.path("staging", e.Name())
		lock, err := flock(dir, os.O_RDONLY, false)
		if lock != nil && err == nil {
			found = append(found, stale{dir, lock})
		}
	}
	return found, nil
}

// removeAll is os.RemoveAll that also gets into folders without write or search permission (not root).
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, os.ErrPermission) {
		return err
	}
	chmodTree(dir)
	return os.RemoveAll(dir)
}

func chmodTree(dir string) {
	_ = os.Chmod(dir, 0o700)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			chmodTree(dir + "/" + e.Name())
		}
	}
}

// syncFS flushes the file system that f is on: one call for a whole import instead of an fsync for every file.
func syncFS(f *os.File) error {
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("syncfs %s: %w", f.Name(), err)
	}
	return nil
}

// inode returns the inode number and the link count of a file.
func inode(fi os.FileInfo) (ino, links uint64) {
	st := fi.Sys().(*syscall.Stat_t)
	return st.Ino, uint64(st.Nlink)
}
