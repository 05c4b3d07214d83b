package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"vitro/internal/network"
	"vitro/internal/sys"
)

var errBusy = errors.New("in use by another process")

// lock takes a container's lock: its maker holds it, then its monitor, which inherits it; a free lock means that nobody
// looks after the container. It waits for the given time at most.
func (e *Engine) lock(id string, wait time.Duration) (*os.File, error) {
	return flock(e.dir(id, "lock"), syscall.LOCK_EX, wait)
}

// seize takes the lock of a container that does not run. One that runs, now or when whoever has the lock has started it, is handed to
// running, which tells whether to wait for its end; else there is no lock and no error.
func (e *Engine) seize(l *Live, running func(*Live) (wait bool, err error)) (*Live, *os.File, error) {
	for end := time.Now().Add(30 * time.Second); ; {
		if l.Status == Running {
			if wait, err := running(l); !wait || err != nil {
				return l, nil, err
			}
		}
		lock, err := e.lock(l.ID, 200*time.Millisecond) // its monitor gives it up when it has noted the end
		if err == nil {
			return l, lock, nil
		}
		if !errors.Is(err, errBusy) || time.Now().After(end) {
			return nil, nil, fmt.Errorf("container %s: %w", shortID(l.ID), err)
		}
		if now, err := e.look(l.ID); err == nil {
			l = now
		}
	}
}

// leave is for seize: who runs is let run.
func leave(*Live) (bool, error) { return false, nil }

// newLock makes the lock of a container that is being made.
func (e *Engine) newLock(id string) (*os.File, error) {
	f, err := os.OpenFile(e.dir(id, "lock"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	f.Close()
	return e.lock(id, 0)
}

// flock opens and locks a file or folder. A lock counts only while its path leads to it: the file may have gone with its folder.
func flock(path string, how int, wait time.Duration) (*os.File, error) {
	for end := time.Now().Add(wait); ; {
		f, err := os.OpenFile(path, os.O_RDWR, 0o600)
		if errors.Is(err, syscall.EISDIR) {
			f, err = os.Open(path)
		}
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			held, err1 := f.Stat()
			now, err2 := os.Stat(path)
			if err1 == nil && err2 == nil && os.SameFile(held, now) {
				return f, nil
			}
		}
		f.Close()
		if err != nil && err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			return nil, fmt.Errorf("flock %s: %w", path, err)
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%s: %w", path, errBusy)
		}
		time.Sleep(3 * time.Millisecond)
	}
}

// withLock runs f under a lock file that Open has made. It is held for moments only.
func (e *Engine) withLock(name string, how int, f func() error) error {
	l, err := flock(filepath.Join(e.Root, name), how, time.Minute)
	if err != nil {
		return err
	}
	defer l.Close()
	return f()
}

const (
	namesLock = "names.lock" // names change
	usersLock = "users.lock" // shared: a record appears and finds its image there; exclusive: an image goes
)

// runState is <run root>/<id>/state.json: the process of a running container. Its end needs no write.
type runState struct {
	PID     int            `json:"pid"`
	Start   uint64         `json:"start"` // clock ticks since boot: with the pid it names a process for good
	Monitor int            `json:"monitor"`
	Started time.Time      `json:"started"`
	Ports   []network.Port `json:"ports,omitempty"` // of the host's, which the monitor holds
}

func readRunState(dir string) (r runState, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	return r, err
}

func (r runState) write(dir string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, "state.json"), b, false)
}

func (r runState) alive() bool {
	_, ok := sys.Lives(r.PID, r.Start)
	return ok
}
