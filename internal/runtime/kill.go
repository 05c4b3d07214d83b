package runtime

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"vitro/internal/sys"
)

// Kill sends a signal to the init, or with all to every process of the container's cgroup, where it has one. SIGKILL reaches the whole of a
// container whose pid namespace is shared, since there init's death alone ends nothing (runc since 1.2).
func (r *Runtime) Kill(id string, sig int, all bool) error {
	c, err := r.open(id)
	if err != nil {
		return err
	}
	defer c.close()
	status := c.status()
	switch {
	case all && len(c.cgroups) > 0:
		return c.signalAll(sig)
	case all && status == specs.StateStopped:
		return nil
	case status == specs.StateStopped || c.init.pid == 0:
		return ErrNotRunning
	case sig == int(unix.SIGKILL) && !c.privatePID && len(c.cgroups) > 0:
		return c.signalAll(sig)
	}
	err = c.init.signal(sig)
	if err == unix.ESRCH {
		return ErrNotRunning
	}
	if err == nil && status == statusPaused && sig == int(unix.SIGKILL) {
		err = c.group().Thaw() // a frozen v1 task dies only when it thaws
	}
	return wrap("signal init "+sys.Itoa(c.init.pid), err)
}

// signalAll sends sig to every process of the cgroup; none there is no error.
func (c *container) signalAll(sig int) error {
	g := c.group()
	if sig == int(unix.SIGKILL) {
		return wrap("kill all processes of container "+c.id, g.Kill())
	}
	pids, err := g.Procs(true)
	if err != nil {
		return wrap("processes of container "+c.id, err)
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.Signal(sig)); err != nil && err != unix.ESRCH {
			return wrap("signal process "+sys.Itoa(pid), err)
		}
	}
	return nil
}

// Delete removes a stopped or created container; with force any, and a missing one is no error, nor is one whose state is broken.
func (r *Runtime) Delete(id string, force bool) error {
	c, err := r.openDir(id)
	if err == nil {
		c.lost = force
		if err = c.load(); err != nil {
			c.close()
		}
	}
	if force && err == ErrNotExist {
		return nil
	}
	if err != nil {
		return err
	}
	defer c.close()
	if force { // before the lock: a creator that waits for a hook holds it
		if err := c.end(); err != nil {
			return err
		}
	} else if s := c.status(); s != specs.StateStopped && s != specs.StateCreated {
		return text("cannot delete container " + id + " that is not stopped: " + string(s))
	}
	if err := c.lock(); err != nil {
		if force && err == ErrNotExist {
			return nil
		}
		return err
	}
	if s := c.status(); !force && s != specs.StateStopped && s != specs.StateCreated {
		return text("cannot delete container " + id + " that is not stopped: " + string(s))
	}
	return c.destroy(force)
}

// end kills init and waits for its death.
func (c *container) end() error {
	fd, err := c.init.open()
	if err != nil {
		return nil // it is dead
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return wrap("kill init "+sys.Itoa(c.init.pid), err)
	}
	if g := c.group(); len(c.cgroups) > 0 { // a frozen v1 task dies only when it thaws
		if frozen, err := g.Frozen(); err == nil && frozen {
			if err := g.Thaw(); err != nil {
				return wrap("thaw container "+c.id, err)
			}
		}
	}
	if !waitDead(fd, killWait) {
		return text("init " + sys.Itoa(c.init.pid) + " does not end after SIGKILL")
	}
	return nil
}

// killWait is how long a killed init may take, in milliseconds: an uninterruptible sleep ends it late.
const killWait = 10_000

// destroy ends what runs and removes cgroup and folder; then poststop hooks run. Order: CASES §1, delete. A process that was
// put into the cgroup from outside ends with force only; else the cgroup stays for it, as with runc.
func (c *container) destroy(force bool) error {
	if err := c.end(); err != nil {
		return err
	}
	g := c.group()
	if len(c.cgroups) > 0 {
		if !c.privatePID || force {
			_ = g.Kill() // what is left shows in Remove
		}
		if err := g.Remove(); err != nil {
			c.r.log("warning", "the cgroup of container "+c.id+" stays: "+err.Error())
		}
	}
	hooks := c.poststop()
	if err := removeDir(c.dir); err != nil {
		return wrap("remove "+c.dir, err)
	}
	for i := range hooks { // failures are warnings: there is nothing left to undo
		if err := runHook(&hooks[i], c.ociState(specs.StateStopped, 0), c.bundle); err != nil {
			c.r.log("warning", "error running poststop hook #"+sys.Itoa(i)+": "+err.Error())
		}
	}
	return nil
}

func (c *container) poststop() []specs.Hook {
	s := c.spec
	if s == nil {
		s, _ = loadConfig(c.dir)
	}
	if s == nil || s.Hooks == nil {
		return nil
	}
	return s.Hooks.Poststop
}

// removeDir removes a state folder, which has files only.
func removeDir(dir string) error {
	names, err := readDir(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := unix.Unlink(dir + "/" + n); err != nil && err != unix.ENOENT {
			return err
		}
	}
	return unix.Rmdir(dir)
}
