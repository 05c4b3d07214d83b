package engine

import (
	"syscall"

	"github.com/opencontainers/go-digest"

	"vitro/internal/store"
)

// RemoveImage is rmi.
func (e *Engine) RemoveImage(ref string, force bool) ([]store.Removed, error) {
	var done []store.Removed
	err := e.withLock(usersLock, syscall.LOCK_EX, func() (err error) {
		done, err = e.Store.Remove(ref, store.RemoveOptions{Force: force, InUse: e.inUse})
		return err
	})
	return done, err
}

// inUse reads all records, also of containers that are just being made.
func (e *Engine) inUse(id digest.Digest) (users []store.User) {
	list, err := e.List()
	if err != nil { // what cannot be read may use it
		return []store.User{{Name: "?", Running: true}}
	}
	for _, l := range list {
		if l.ImageID == id.String() {
			users = append(users, store.User{Name: shortID(l.ID), Running: l.Status == Running})
		}
	}
	return users
}
