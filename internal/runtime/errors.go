package runtime

import (
	"strings"
	"syscall"

	"vitro/internal/seccomp"
	"vitro/internal/stub"

	"golang.org/x/sys/unix"
)

// text is an error that is a constant; callers of a runtime match these (runc's words).
type text string

func (t text) Error() string { return string(t) }

const (
	// ErrNotExist is returned for an id without a state folder.
	ErrNotExist   = text("container does not exist")
	ErrExist      = text("container with given ID already exists")
	ErrNotRunning = text("container not running")

	errOOM    = text("container init was OOM-killed (memory limit too low?)")
	errKilled = text("container init was killed (SIGKILL) before its execve, and not for its memory")
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

// refusal explains the end of a stub, or a failed execve or capset, by the container's seccomp filter where that refuses what runs
// behind its load: these two (capset without no_new_privs only), and the record of an error.
func (c *container) refusal(err error, noNewPrivs bool) error {
	died, failed := err == errOOM, false
	switch e := err.(type) {
	case *stub.DiedError:
		if died = e.Status.Signal() != unix.SIGKILL; !died && c.spared() {
			return errKilled
		}
	case *stub.OpError:
		failed = e.Op != nil && (e.Op.Nr == unix.SYS_EXECVE || e.Op.Nr == unix.SYS_CAPSET)
	case *startFailure:
		failed = true
	}
	if !died && !failed {
		return err
	}
	f, ferr := loadFilter(c.dir)
	if ferr != nil || f == nil {
		return err
	}
	calls := []string{"capset", "execve", "write", "exit_group"}
	if noNewPrivs {
		calls = calls[1:]
	}
	if failed { // the record was written
		calls = calls[:len(calls)-2]
	}
	refused := strings.Join(seccomp.Refused(f.Program, calls...), ", ")
	switch {
	case refused == "":
		return err
	case died:
		return text("container init ended before its execve: linux.seccomp refuses " + refused)
	}
	return text(err.Error() + " (linux.seccomp refuses " + refused + ")")
}

// spared tells whether the kernel has killed nobody in the container's cgroup for want of memory, nor refused any.
func (c *container) spared() bool {
	if len(c.cgroups) == 0 {
		return false
	}
	s, err := c.group().Stats()
	return err == nil && s.Memory.OOMKills == 0 && s.Memory.Failures == 0
}

// again retries on EINTR.
func again(f func() error) error {
	for {
		if err := f(); err != syscall.EINTR {
			return err
		}
	}
}
