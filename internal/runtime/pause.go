package runtime

import "github.com/opencontainers/runtime-spec/specs-go"

// Pause freezes every process of a running or created container; it returns when all have stopped.
func (r *Runtime) Pause(id string) error {
	c, err := r.openLocked(id) // no exec is half in the cgroup
	if err != nil {
		return err
	}
	defer c.close()
	if s := c.status(); s != specs.StateRunning && s != specs.StateCreated {
		return ErrNotRunning
	}
	return wrap("pause container "+id, c.group().Freeze())
}

// Resume lets a paused container go on.
func (r *Runtime) Resume(id string) error {
	c, err := r.openLocked(id)
	if err != nil {
		return err
	}
	defer c.close()
	if c.status() != statusPaused {
		return text("container not paused")
	}
	return wrap("resume container "+id, c.group().Thaw())
}
