package engine

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vitro/internal/store"
)

// Default places.
const (
	DefaultRoot    = "/var/lib/vitro"
	DefaultRunRoot = "/run/vitro"
)

// Engine is the two folders that all state is in, and the image store. It may be used by many processes at once.
type Engine struct {
	Root    string // images, layers, container records
	RunRoot string // what dies with the machine
	Store   *store.Store
}

// Open makes the folders where they are missing.
func Open(root, runRoot string) (*Engine, error) {
	var err error
	if root, err = filepath.Abs(root); err != nil {
		return nil, fmt.Errorf("--root: %w", err)
	}
	if runRoot, err = filepath.Abs(runRoot); err != nil {
		return nil, fmt.Errorf("--run-root: %w", err)
	}
	e := &Engine{Root: root, RunRoot: runRoot}
	for _, d := range []string{filepath.Join(root, "containers"), filepath.Join(root, "names"), runRoot} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, err
		}
	}
	for _, l := range []string{namesLock, usersLock, volumesLock} {
		f, err := os.OpenFile(filepath.Join(root, l), os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		f.Close()
	}
	e.Store, err = store.Open(root)
	return e, err
}

// Status is what a container is, by facts.
type Status string

// Docker's words.
const (
	Created Status = "created"
	Running Status = "running"
	Exited  Status = "exited"
)

// Live is a container and what is true of it now.
type Live struct {
	*Container
	Status Status
	PID    int  // of the container's init; 0 unless running
	Paused bool // and frozen
}

// look finds out about a container: it runs if a process with its pid and start time is there. A container whose monitor
// was killed gets its end noted here, with exit status 255 as nobody knows the real one.
func (e *Engine) look(id string) (*Live, error) {
	for try := 0; ; try++ {
		c, err := e.readRecord(id)
		if err != nil {
			return nil, err
		}
		l := &Live{Container: c}
		run, err := readRunState(e.runDir(id))
		if err == nil && run.alive() {
			l.Status, l.PID, l.StartedAt = Running, run.PID, run.Started
			l.FinishedAt, l.ExitCode, l.Paused = time.Time{}, 0, paused(c)
			if l.Paused && e.pauserGone(c) {
				l.Paused = false
			}
			return l, nil
		}
		started := err == nil || !c.StartedAt.IsZero()
		if !started {
			l.Status = Created
			return l, nil
		}
		l.Status = Exited
		if !c.FinishedAt.IsZero() {
			return l, nil
		}
		if done, err := e.noteLost(l, run); done || err != nil {
			return l, err
		}
		if try > 100 { // its monitor is there, and still gets the last output: the exit status is not known yet
			l.Status, l.PID, l.StartedAt = Running, run.PID, run.Started
			return l, nil
		}
		time.Sleep(5 * time.Millisecond) // its monitor is about to note the end
	}
}

// noteLost writes the end of a container that has no monitor any more.
func (e *Engine) noteLost(l *Live, run runState) (done bool, err error) {
	lock, err := e.lock(l.ID, 0)
	if errors.Is(err, errBusy) {
		return false, nil
	}
	if errors.Is(err, os.ErrNotExist) { // --rm
		return false, &NotFoundError{l.ID}
	}
	if err != nil {
		return false, err
	}
	defer lock.Close()
	c, err := e.readRecord(l.ID)
	if err != nil || !c.FinishedAt.IsZero() {
		return false, err
	}
	if c.StartedAt.IsZero() {
		c.StartedAt = run.Started
	}
	c.FinishedAt, c.ExitCode, c.Error = time.Now().UTC(), 255, "its monitor died"
	l.Container = c
	return true, errors.Join(e.writeRecord(c), e.detach(c.ID))
}

// List returns the containers, newest first, and clears away what crashed commands left.
func (e *Engine) List() ([]*Live, error) {
	entries, err := os.ReadDir(filepath.Join(e.Root, "containers"))
	if err != nil {
		return nil, err
	}
	var out []*Live
	for _, d := range entries {
		if !isID(d.Name()) {
			continue
		}
		l, err := e.look(d.Name())
		switch {
		case errors.Is(err, ErrNotFound):
			e.sweep(d.Name())
		case err != nil:
			return nil, err
		case l.HostConfig.AutoRemove && l.Status != Running && e.abandoned(l.ID):
			// what its monitor would have done
		default:
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b *Live) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(a.ID, b.ID))
	})
	return out, nil
}

// abandoned removes an auto-remove container that has no monitor.
func (e *Engine) abandoned(id string) bool {
	lock, err := e.lock(id, 0)
	if err != nil {
		return false
	}
	defer lock.Close()
	l, err := e.look(id)
	return err == nil && l.Status != Running && e.removeAll(l.Container, true) == nil
}

// clearAway removes what a command that was killed left of a container that has a name: its maker had the lock by then.
func (e *Engine) clearAway(id string) bool {
	l, err := e.look(id)
	if err == nil {
		return l.HostConfig.AutoRemove && l.Status != Running && e.abandoned(id)
	}
	if !errors.Is(err, ErrNotFound) {
		return false
	}
	lock, err := e.lock(id, 0)
	if err != nil {
		return false
	}
	defer lock.Close()
	_, err = e.readRecord(id)
	return errors.Is(err, ErrNotFound) && e.remove(&Container{ID: id}) == nil
}

// sweep removes a folder without a record: its maker died, or is just making it.
func (e *Engine) sweep(id string) {
	st, err := os.Stat(e.dir(id))
	if err != nil || time.Since(st.ModTime()) < time.Minute {
		return
	}
	lock, err := e.lock(id, 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		defer lock.Close()
	}
	_ = e.remove(&Container{ID: id})
}

// Find looks a container up by ID, name, or a prefix of an ID, in this order.
func (e *Engine) Find(ref string) (*Live, error) {
	if isID(ref) {
		if l, err := e.look(ref); err == nil || !errors.Is(err, ErrNotFound) {
			return l, err
		}
	}
	if name := strings.TrimPrefix(ref, "/"); validName(name) == nil {
		if id, err := os.Readlink(e.namePath(name)); err == nil {
			if l, err := e.look(id); err == nil || !errors.Is(err, ErrNotFound) {
				return l, err
			}
		}
	}
	if ref == "" || strings.Trim(ref, "0123456789abcdef") != "" {
		return nil, &NotFoundError{ref}
	}
	found, err := filepath.Glob(e.dir(ref + "*"))
	if err != nil || len(found) == 0 {
		return nil, &NotFoundError{ref}
	}
	if len(found) > 1 {
		return nil, fmt.Errorf("multiple IDs found with provided prefix: %s", ref)
	}
	l, err := e.look(filepath.Base(found[0]))
	if errors.Is(err, ErrNotFound) {
		return nil, &NotFoundError{ref}
	}
	return l, err
}
