package runtime

import (
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Run is Create and Start at once, and, unless o.Detach, waits: exit is the program's status or 128 + its signal.
func (r *Runtime) Run(o CreateOpts) (exit int, err error) {
	var f *forwarder
	if !o.Detach {
		if o.Subreaper {
			_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
		}
		f = forward() // before the spawn: no signal is lost (runc #5208)
		defer f.stop()
	}
	m, err := r.make(&o, false)
	if err != nil {
		return 0, err
	}
	defer m.done()
	if m.in.Create {
		if err := m.hooks(m.spec, startContainer, specs.StateCreated); err != nil {
			return 0, m.fail(inInit(err))
		}
		if err := m.release(); err != nil {
			return 0, r.tooSmall(m.fail(inInit(m.refusal(err, m.spec.Process.NoNewPrivileges))), m.spec, &o)
		}
	}
	if err := m.hooks(m.spec, poststart, specs.StateRunning); err != nil {
		return 0, m.fail(err)
	}
	if o.Detach {
		return 0, nil
	}
	m.unlock() // it runs: exec and delete go on beside this process
	f.to(m.launch.PIDFD)
	if err := m.console.serve(m.launch.PIDFD); err != nil {
		return 0, m.fail(err)
	}
	exit, err = wait(m.launch.PID, o.Subreaper)
	m.console.drain()
	if o.Keep {
		return exit, err
	}
	switch lerr := m.lock(); lerr {
	case nil:
		if derr := m.destroy(false); err == nil {
			err = derr
		}
	case error(ErrNotExist): // deleted by another
	default:
		if err == nil {
			err = lerr
		}
	}
	return exit, err
}

// wait reaps pid, and with all every other child on the way (a subreaper's adopted ones). 128 + signal as shells have it.
func wait(pid int, all bool) (int, error) {
	which := pid
	if all {
		which = -1
	}
	for {
		var st syscall.WaitStatus
		got, err := syscall.Wait4(which, &st, 0, nil)
		switch {
		case err == syscall.EINTR || err == nil && got != pid:
			continue
		case err != nil:
			return 0, wrap("wait for the container", err)
		case st.Signaled():
			return 128 + int(st.Signal()), nil
		}
		return st.ExitStatus(), nil
	}
}
