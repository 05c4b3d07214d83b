package engine

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// remove deletes all that there is of a container whose lock the caller holds. What makes it visible goes first: a crash
// on the way leaves a folder without a record, which List sweeps.
func (e *Engine) remove(c *Container) error {
	return errors.Join(e.detach(c.ID), e.erase(c))
}

// erase is remove for a container that is off its networks. Its record goes before its name: what is killed in between leaves no
// container that has lost its name, but a folder without a record, which List, or who wants the name, clears away.
func (e *Engine) erase(c *Container) error {
	err := errors.Join(e.runtime().Delete(c.ID, true), os.RemoveAll(e.runDir(c.ID)), ignoreMissing(os.Remove(e.dir(c.ID, recordName))))
	if c.Name != "" {
		e.unlink(c.Name, c.ID)
	}
	if lock, busy := e.lockNetworks(c, time.Second); busy == nil { // connect writes there
		defer lock.Close()
	}
	return errors.Join(err, os.RemoveAll(e.dir(c.ID)))
}

// removeAll also removes the anonymous volumes, if asked to.
func (e *Engine) removeAll(c *Container, volumes bool) error {
	err := e.remove(c)
	if volumes && err == nil {
		e.removeAnonymous(c)
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Remove removes a container; with force also one that runs, by SIGKILL; with volumes its anonymous volumes, too.
func (e *Engine) Remove(ref string, force, volumes bool) error {
	l, err := e.Find(ref)
	if err != nil {
		return err
	}
	l, lock, err := e.seize(l, func(l *Live) (bool, error) {
		if !force {
			return false, fmt.Errorf("cannot remove container %q: container is running: stop the container before removing or force remove", "/"+l.Name)
		}
		return true, e.kill(l, sigkill)
	})
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil // removed meanwhile, by --rm
	case err != nil:
		return err
	}
	defer lock.Close()
	return e.removeAll(l.Container, volumes || l.HostConfig.AutoRemove)
}
