package runtime

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"vitro/internal/plan"
	"vitro/internal/seccomp"
	"vitro/internal/sys"
)

// Start lets the init of a created container execute the user's program, and reports its failure to.
func (r *Runtime) Start(id string) error {
	c, err := r.openLocked(id)
	if err != nil {
		return err
	}
	defer c.close()
	switch s := c.status(); s {
	case specs.StateCreated:
	case specs.StateStopped:
		return text("cannot start a container that has stopped")
	case specs.StateCreating:
		return text("cannot start a container that is being created")
	default:
		return text("cannot start an already running container")
	}
	s, err := loadConfig(c.dir)
	if err != nil {
		return err
	}
	if err := c.hooks(s, startContainer, specs.StateCreated); err != nil {
		return c.endAfter(err)
	}
	if err := c.release(); err != nil {
		return r.tooSmall(inInit(c.refusal(err, s.Process.NoNewPrivileges)), s, &CreateOpts{Bundle: c.bundle, NoNewKeyring: c.noKeyring})
	}
	if err := c.hooks(s, poststart, specs.StateRunning); err != nil {
		return c.endAfter(err)
	}
	return nil
}

// endAfter kills the init of a container whose hook failed.
func (c *container) endAfter(err error) error {
	_ = c.end()
	return err
}

// release writes the go byte and reads what becomes of it. The error FIFO is opened first: the init's end of it, which it
// closes by its execve, must not be the last.
func (c *container) release() error {
	errs, err := unix.Open(c.dir+errorFIFO, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrap("open "+c.dir+errorFIFO, err)
	}
	defer unix.Close(errs)
	pidfd, err := c.init.open()
	if err != nil {
		return text("cannot start a container that has stopped")
	}
	defer unix.Close(pidfd)
	if err := writeGo(c.dir + execFIFO); err == unix.ENXIO { // no reader
		return text("cannot start a container that has stopped")
	} else if err != nil {
		return err
	}
	if err := unix.SetNonblock(errs, false); err != nil {
		return wrap("fcntl "+c.dir+errorFIFO, err)
	}
	var rec [plan.RecordLen]byte
	n, err := sys.Read(errs, rec[:])
	switch {
	case err != nil:
		return wrap("read "+c.dir+errorFIFO, err)
	case n == len(rec):
		waitDead(pidfd, killWait)
		return c.startError(rec[:])
	}
	return c.executed(pidfd)
}

// writeGo writes the byte that init waits for. ENXIO: nobody does.
func writeGo(fifo string) error {
	fd, err := unix.Open(fifo, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ENXIO {
		return err
	}
	if err != nil {
		return wrap("open "+fifo, err)
	}
	_, err = unix.Write(fd, []byte{1})
	unix.Close(fd)
	return wrap("write "+fifo, err)
}

// executed tells an execve from a death, which both close the FIFO, as stub.Run does.
func (c *container) executed(pidfd int) error {
	for {
		st, ok := sys.ReadProcStat(c.init.pid)
		switch {
		case !ok || st.Start != c.init.start: // gone, and its parent has the status
			return c.gone()
		case !c.waiting(st.Comm):
			return nil
		case st.Dead():
			return errOOM
		}
		waitDead(pidfd, 1)
	}
}

// gone judges an init that has ended and been waited for since its go: it has executed the program, unless its filter does not let it.
func (c *container) gone() error {
	if f, err := loadFilter(c.dir); err == nil && f != nil && len(seccomp.Refused(f.Program, "execve")) > 0 {
		return errOOM
	}
	return nil
}
