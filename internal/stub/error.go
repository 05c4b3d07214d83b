package stub

import (
	"strings"
	"syscall"

	"vitro/internal/plan"
)

// OpError is the failure of one op.
type OpError struct {
	Index int
	Op    *plan.Op
	Errno syscall.Errno
	Value uint64 // what was there instead (Expect, Test)
}

// Error is one line: "mounts[3] (/dev/pts): mount devpts: operation not permitted".
func (e *OpError) Error() string {
	o := e.Op
	if o == nil {
		return "the program ran off its end"
	}
	if o.Msg != "" {
		return strings.Replace(o.Msg, "%e", e.Errno.Error(), 1)
	}
	s := o.Field
	if o.Object != "" {
		s += " (" + o.Object + ")"
	}
	what := o.What
	if what == "" {
		what = o.Verb()
	}
	return s + ": " + what + ": " + e.Errno.Error()
}

// Unwrap is the errno.
func (e *OpError) Unwrap() error { return e.Errno }

// DiedError says that the stub ended without a record and without its execve.
type DiedError struct{ Status syscall.WaitStatus }

func (e *DiedError) Error() string {
	switch {
	case e.Status.Signaled() && e.Status.Signal() == syscall.SIGKILL:
		return "container init was OOM-killed (memory limit too low?)"
	case e.Status.Signaled() && e.Status.Signal() == syscall.SIGSYS:
		return "container init was killed by its own seccomp filter before its execve"
	case e.Status.Signaled():
		return "container init died of signal " + e.Status.Signal().String()
	}
	return "container init ended before its execve"
}
