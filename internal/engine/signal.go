package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"vitro/internal/spec"
	"vitro/internal/sys"
)

const sigkill = int(syscall.SIGKILL)

// ParseSignal reads a number or a name with or without SIG.
func ParseSignal(s string) (int, error) {
	n, ok := spec.SignalNumber(s)
	if !ok {
		return 0, fmt.Errorf("invalid signal: %s", s)
	}
	return n, nil
}

// Kill sends a signal to the container's init, and waits for the end after SIGKILL.
func (e *Engine) Kill(ctx context.Context, ref, signal string) error {
	sig, err := ParseSignal(signal)
	if err != nil {
		return err
	}
	l, err := e.Find(ref)
	if err != nil {
		return err
	}
	if l.Status != Running {
		return fmt.Errorf("cannot kill container: %s: container %s is not running", ref, l.ID)
	}
	if err := e.kill(l, sig); err != nil || sig != sigkill {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, DefaultStopTimeout)
	defer cancel()
	return e.waitEnd(ctx, l.ID)
}

// kill treats a process that has just gone as killed.
func (e *Engine) kill(l *Live, sig int) error {
	p, err := os.FindProcess(l.PID) // a pidfd: no other process can get the signal
	if err != nil {
		return err
	}
	defer p.Release()
	if _, ok := sys.Lives(l.PID, runStart(e, l.ID)); !ok {
		return nil
	}
	if err := p.Signal(syscall.Signal(sig)); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill container %s: %w", shortID(l.ID), err)
	}
	if stop, _ := ParseSignal(pick(l.Config.StopSignal, "SIGTERM")); l.Paused && (sig == sigkill || sig == stop) { // as Docker: it is to end
		return thaw(l.Container)
	}
	return nil
}

func runStart(e *Engine, id string) uint64 {
	r, _ := readRunState(e.runDir(id))
	return r.Start
}

// DefaultStopTimeout is the time between the stop signal and SIGKILL.
const DefaultStopTimeout = 10 * time.Second

// Stop sends the container's stop signal, waits, then SIGKILL. A negative timeout waits for ever, nil is the container's
// own. A container that does not run is stopped already.
func (e *Engine) Stop(ctx context.Context, ref string, timeout *int, signal string) error {
	l, err := e.Find(ref)
	if err != nil || l.Status != Running {
		return err
	}
	sig, err := ParseSignal(pick(signal, pick(l.Config.StopSignal, "SIGTERM")))
	if err != nil {
		return err
	}
	wait := DefaultStopTimeout
	if timeout == nil {
		timeout = l.Config.StopTimeout
	}
	if timeout != nil {
		wait = time.Duration(*timeout) * time.Second
	}
	if err := e.kill(l, sig); err != nil {
		return err
	}
	if wait >= 0 {
		ctx2, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		if e.waitEnd(ctx2, l.ID) == nil {
			return nil
		}
		if err := e.kill(l, sigkill); err != nil {
			return err
		}
	}
	return e.waitEnd(ctx, l.ID)
}

// waitEnd waits until the container's end is noted.
func (e *Engine) waitEnd(ctx context.Context, id string) error {
	for {
		l, err := e.look(id)
		if errors.Is(err, ErrNotFound) || err == nil && l.Status != Running {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
