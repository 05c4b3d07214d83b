package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"vitro/internal/monitor"
)

// StartAgain starts a container that was made by Create before and does not run. The client is nil if it runs already.
func (e *Engine) StartAgain(ref string, o StartOptions) (*Live, *monitor.Client, error) {
	l, err := e.Find(ref)
	if err != nil {
		return nil, nil, err
	}
	l, lock, err := e.seize(l, leave)
	if err != nil || lock == nil {
		return l, nil, err
	}
	fail := func(err error) (*Live, *monitor.Client, error) {
		lock.Close()
		return nil, nil, err
	}
	if l, err = e.look(l.ID); err != nil || l.Status == Running { // somebody was faster
		lock.Close()
		return l, nil, err
	}
	img, err := e.Store.Resolve(l.ImageID)
	if err != nil {
		return fail(err)
	}
	// What a monitor that was killed left.
	if err := errors.Join(e.runtime().Delete(l.ID, true), e.detach(l.ID), os.RemoveAll(e.runDir(l.ID))); err != nil {
		return fail(err)
	}
	if err := e.withLock(volumesLock, syscall.LOCK_SH, func() error {
		for _, m := range l.Mounts { // Create was killed before it made them
			if m.Name == "" {
				continue
			}
			if _, err := e.Volume(m.Name); errors.Is(err, ErrNoVolume) {
				return fmt.Errorf("volume %s is not there: %w", m.Name, ErrNoVolume)
			}
		}
		return nil
	}); errors.Is(err, ErrNoVolume) {
		err = e.makeVolumes(img, l.Container)
		if err != nil {
			return fail(err)
		}
	} else if err != nil {
		return fail(err)
	}
	o.Again = true
	client, err := e.Start(img, l.Container, lock, o)
	return l, client, err
}

// Restart stops a container, if it runs, and starts it.
func (e *Engine) Restart(ctx context.Context, ref string, timeout *int, signal string) error {
	l, err := e.Find(ref)
	if err != nil {
		return err
	}
	if err := e.Stop(ctx, l.ID, timeout, signal); err != nil {
		return err
	}
	_, client, err := e.StartAgain(l.ID, StartOptions{})
	if err != nil || client == nil {
		return err
	}
	defer client.Close()
	return Started(client)
}

// StartError is why a container did not start, and Docker's exit status for that.
type StartError struct {
	Text string
	Code int
}

func (e *StartError) Error() string { return e.Text }

// Started waits until a container that nobody attaches to has started.
func Started(client *monitor.Client) error {
	m, _, err := client.Next()
	if err == nil && m.Event == monitor.Failed {
		err = &StartError{m.Error, m.Code}
	}
	return err
}

// Wait waits for a container's end, and returns its exit status. One that has not been started yet has status 0.
func (e *Engine) Wait(ctx context.Context, ref string) (int, error) {
	l, err := e.Find(ref)
	if err != nil {
		return 0, err
	}
	if l.Status == Running {
		if l.HostConfig.AutoRemove { // its record goes with it
			return e.waitAttached(l.ID)
		}
		if err := e.waitEnd(ctx, l.ID); err != nil {
			return 0, err
		}
		if l, err = e.Find(l.ID); err != nil {
			return 0, err
		}
	}
	return l.ExitCode, nil
}

// waitAttached asks the monitor.
func (e *Engine) waitAttached(id string) (int, error) {
	client, err := monitor.Dial(e.AttachPath(id))
	if err != nil {
		return 0, fmt.Errorf("wait: %w", err)
	}
	defer client.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	if err := client.Send(monitor.Request{}, null, null); err != nil {
		return 0, fmt.Errorf("wait: %w", err)
	}
	for {
		m, _, err := client.Next()
		if err != nil {
			return 0, fmt.Errorf("wait: %w", err)
		}
		if m.Event != monitor.Started {
			return m.Code, nil
		}
	}
}

// Rename gives a container another name.
func (e *Engine) Rename(ref, name string) error {
	l, err := e.Find(ref)
	if err != nil {
		return err
	}
	if name == "" {
		return errors.New("Neither old nor new names may be empty")
	}
	if name == l.Name {
		return refused("Renaming a container with the same name as its current name")
	}
	if err := validName(name); err != nil {
		return err
	}
	err = e.withLock(namesLock, syscall.LOCK_EX, func() error {
		if err := e.link(name, l.ID); err != nil {
			return fmt.Errorf("Error when allocating new name: %w", err)
		}
		c, err := e.readRecord(l.ID)
		old := ""
		if err == nil {
			old, c.Name = c.Name, name
			err = e.writeRecord(c)
		}
		if err != nil {
			os.Remove(e.namePath(name))
			return err
		}
		if owner, err := os.Readlink(e.namePath(old)); err == nil && owner == l.ID {
			return os.Remove(e.namePath(old))
		}
		return nil
	})
	if err != nil || l.Status != Running || !l.HostConfig.wired() {
		return err
	}
	m, err := e.Networks()
	if err != nil {
		return err
	}
	defer e.namesChanged()
	return m.Rename(context.Background(), l.ID, name)
}
