package trace

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Options say what to trace and how.
type Options struct {
	PIDNS  uint64 // inode: only processes in this pid namespace and those below; 0: all
	Source string // ebpf or ftrace; "": the first that works
}

// Event is one started program.
type Event struct {
	Time    time.Time
	PID     int    // in the first pid namespace of the machine
	Inner   int    // in the process's own; 0: not known any more
	PPID    int    // as PID
	UID     uint32 // effective, in the first user namespace
	PIDNS   uint64 // inode
	Cgroup  string // last part of its path, which most engines name after the container
	Name    string // comm
	Command string // arguments with a space between
	Cut     bool   // the command line is longer
}

// source is eBPF or ftrace.
type source interface {
	// read waits until deadline at most; false: nothing came.
	read(deadline time.Time) (Event, bool, error)
	lost() uint64
	close() error
}

// Tracer is an open trace.
type Tracer struct {
	Source string // ebpf or ftrace
	s      source
}

// Open starts to trace; events are kept from now on.
func Open(o Options) (*Tracer, error) {
	var errs []error
	for _, try := range []struct {
		name string
		open func(Options) (source, error)
	}{{"ebpf", openBPF}, {"ftrace", openFtrace}} {
		if o.Source != "" && o.Source != try.name {
			continue
		}
		s, err := try.open(o)
		if err == nil {
			return &Tracer{try.name, s}, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", try.name, err))
	}
	if errs == nil {
		return nil, fmt.Errorf("trace source %q is neither ebpf nor ftrace", o.Source)
	}
	return nil, fmt.Errorf("trace exec: %w", errors.Join(errs...))
}

// tick is how often Run looks at its context, and ftrace at its buffers.
const tick = 50 * time.Millisecond

// Run hands out events until ctx ends, which is no error. What had come until then is handed out, too.
func (t *Tracer) Run(ctx context.Context, f func(Event)) error {
	for {
		e, ok, err := t.s.read(time.Now().Add(tick))
		if err != nil {
			return fmt.Errorf("trace exec: %s: %w", t.Source, err)
		}
		if ok {
			f(e)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// Lost is the number of events that did not fit into the buffer.
func (t *Tracer) Lost() uint64 { return t.s.lost() }

// Close stops the trace.
func (t *Tracer) Close() error { return t.s.close() }
