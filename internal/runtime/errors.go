package runtime

import (
	"syscall"
)

// text is an error that is a constant; callers of a runtime match these (runc's words).
type text string

func (t text) Error() string { return string(t) }

const (
	// ErrNotExist is returned for an id without a state folder.
	ErrNotExist   = text("container does not exist")
	ErrExist      = text("container with given ID already exists")
	ErrNotRunning = text("container not running")
)

// opError is "op object: cause", without fmt.
type opError struct {
	what string
	err  error
}

func (e *opError) Error() string { return e.what + ": " + e.err.Error() }
func (e *opError) Unwrap() error { return e.err }

// wrap puts words before err; nil stays nil.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return &opError{what, err}
}

// inInit is the envelope of what fails between the clone and the execve.
func inInit(err error) error { return wrap("unable to start container process", err) }

// again retries on EINTR.
func again(f func() error) error {
	for {
		if err := f(); err != syscall.EINTR {
			return err
		}
	}
}
