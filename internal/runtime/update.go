package runtime

import (
	"slices"

	"vitro/internal/cgroup"
	"vitro/internal/spec"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Update changes the limits of a container that is created, running or paused. What res leaves out stays; on a failure all does.
// The container's own config.json, which exec and hooks read, gets the new values; the bundle's does not.
func (r *Runtime) Update(id string, res *specs.LinuxResources) error {
	c, err := r.openLocked(id)
	if err != nil {
		return err
	}
	defer c.close()
	switch c.status() {
	case specs.StateRunning, specs.StateCreated, statusPaused:
	default:
		return ErrNotRunning
	}
	if len(c.cgroups) == 0 {
		return text("cannot update container " + id + ": it has no cgroup of its own")
	}
	s, err := loadConfig(c.dir)
	if err != nil {
		return err
	}
	if s.Linux.Resources == nil {
		s.Linux.Resources = &specs.LinuxResources{}
	}
	if len(res.Devices) > 0 && !slices.EqualFunc(res.Devices, s.Linux.Resources.Devices, sameDevice) { // CRI sends all it has
		r.log("warning", "linux.resources.devices: an update does not change device rules")
	}
	undo, err := c.group().Update(res)
	if err != nil {
		return err
	}
	merge(s.Linux.Resources, res)
	if err := writeFile(c.dir+configFile, spec.Encode(s), 0o600); err != nil {
		_ = undo()
		return err
	}
	return nil
}

func sameDevice(a, b specs.LinuxDeviceCgroup) bool {
	return a.Allow == b.Allow && a.Type == b.Type && a.Access == b.Access && same(a.Major, b.Major) && same(a.Minor, b.Minor)
}

// same compares device numbers; nil and -1 are every one.
func same(a, b *int64) bool {
	get := func(p *int64) int64 {
		if p == nil {
			return -1
		}
		return *p
	}
	return get(a) == get(b)
}

// merge puts what an update has set into the config.
func merge(to, from *specs.LinuxResources) {
	if m := from.Memory; m != nil {
		if to.Memory == nil {
			to.Memory = &specs.LinuxMemory{}
		}
		set(&to.Memory.Limit, m.Limit)
		set(&to.Memory.Reservation, m.Reservation)
		if set(&to.Memory.Swap, m.Swap); m.Limit != nil && *m.Limit == -1 {
			to.Memory.Swap = m.Limit // as the kernel has it now
		}
		if m.Swappiness != nil {
			to.Memory.Swappiness = m.Swappiness
		}
		if m.DisableOOMKiller != nil {
			to.Memory.DisableOOMKiller = m.DisableOOMKiller
		}
	}
	if c := from.CPU; c != nil {
		if to.CPU == nil {
			to.CPU = &specs.LinuxCPU{}
		}
		set(&to.CPU.Shares, c.Shares)
		set(&to.CPU.Quota, c.Quota)
		set(&to.CPU.Period, c.Period)
		set(&to.CPU.RealtimeRuntime, c.RealtimeRuntime)
		set(&to.CPU.RealtimePeriod, c.RealtimePeriod)
		if c.Burst != nil {
			to.CPU.Burst = c.Burst
		}
		if c.Idle != nil {
			to.CPU.Idle = c.Idle
		}
		if c.Cpus != "" {
			to.CPU.Cpus = c.Cpus
		}
		if c.Mems != "" {
			to.CPU.Mems = c.Mems
		}
	}
	if from.Pids != nil && from.Pids.Limit != nil {
		to.Pids = from.Pids
	}
	for name, v := range from.Unified {
		if to.Unified == nil {
			to.Unified = map[string]string{}
		}
		to.Unified[name] = v
	}
}

// set copies a number that is set: 0 is not.
func set[T int64 | uint64](to **T, from *T) {
	if from != nil && *from != 0 {
		*to = from
	}
}

// Stats is what a container uses now.
func (r *Runtime) Stats(id string) (*cgroup.Stats, error) {
	c, err := r.open(id)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if c.status() == specs.StateStopped {
		return nil, ErrNotRunning
	}
	st, err := c.group().Stats()
	if err != nil && c.status() == specs.StateStopped { // it ended meanwhile, and its cgroup went
		return nil, ErrNotRunning
	}
	return st, wrap("stats of container "+id, err)
}
