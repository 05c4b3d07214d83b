package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"vitro/internal/cgroup"
	"vitro/internal/snapshot"
)

// Limits are those of CPUs and memory that are set seldom.
type Limits struct {
	CPUShares         int64  `json:"CpuShares,omitempty"`
	CPUPeriod         int64  `json:"CpuPeriod,omitempty"` // microseconds
	CPUQuota          int64  `json:"CpuQuota,omitempty"`  // microseconds; -1 is no limit
	CpusetCpus        string `json:",omitempty"`
	CpusetMems        string `json:",omitempty"`
	MemoryReservation int64  `json:",omitempty"` // bytes
}

// paused tells whether the container's processes are frozen.
func paused(c *Container) bool {
	g, err := group(c)
	if err != nil {
		return false
	}
	frozen, err := g.Frozen()
	return err == nil && frozen
}

// group is where the container's processes are.
func group(c *Container) (*cgroup.Group, error) {
	l, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	return l.Group(c.cgroupPath(), c.ID)
}

// State is the word for what l is.
func (l *Live) State() Status {
	if l.Paused {
		return Paused
	}
	return l.Status
}

// Paused is a state, not a Status: such a container runs.
const Paused Status = "paused"

// Pause stops every process of a running container, until Unpause.
func (e *Engine) Pause(ref string) error {
	l, err := e.Find(ref)
	switch {
	case err != nil:
		return err
	case l.Status != Running:
		return fmt.Errorf("container %s is not running", l.ID)
	case l.Paused:
		return fmt.Errorf("container %s is already paused", l.ID)
	}
	os.Remove(e.runDir(l.ID, pauserFile)) // of a commit that was killed before it paused: it is somebody else who does now
	if err := e.runtime().Pause(l.ID); err != nil {
		return fmt.Errorf("pause container %s: %w", shortID(l.ID), err)
	}
	return nil
}

// Unpause lets a paused container go on.
func (e *Engine) Unpause(ref string) error {
	l, err := e.Find(ref)
	if err != nil {
		return err
	}
	if !l.Paused {
		return fmt.Errorf("container %s is not paused", l.ID)
	}
	if err := e.runtime().Resume(l.ID); err != nil {
		return fmt.Errorf("unpause container %s: %w", shortID(l.ID), err)
	}
	return nil
}

// thaw lets a container go on that is to end, and may have ended: cgroup v2 lets frozen processes be killed.
func thaw(c *Container) error {
	g, err := group(c)
	if err == nil {
		err = g.Thaw()
	}
	if err != nil {
		return fmt.Errorf("unpause container %s: %w", shortID(c.ID), err)
	}
	return nil
}

// Update sets what is not zero in want: Memory, MemorySwap, NanoCpus, PidsLimit and Limits. A running container has it at once, and
// every one when it is started next.
func (e *Engine) Update(ref string, want HostConfig) error {
	l, err := e.Find(ref)
	if err != nil {
		return err
	}
	err = e.withLock(namesLock, syscall.LOCK_EX, func() error { return e.update(l.ID, &want) })
	if err != nil {
		return fmt.Errorf("Cannot update container %s: %w", shortID(l.ID), err)
	}
	return nil
}

func (e *Engine) update(id string, want *HostConfig) error {
	l, err := e.look(id) // before the record is read: it may write it
	if err != nil {
		return err
	}
	c, err := e.readRecord(id)
	if err == nil {
		err = c.HostConfig.update(want)
	}
	if err != nil {
		return err
	}
	if l.Status == Running {
		r, yes := resources(want), true
		if r.Memory != nil {
			r.Memory.CheckBeforeUpdate = &yes // cgroup v2 would kill what does not fit, v1 refuses
		}
		r.Devices = nil
		if err := e.runtime().Update(id, r); err != nil {
			return err
		}
	}
	return e.writeRecord(c)
}

// update checks want in Docker's words and puts it into h.
func (h *HostConfig) update(want *HostConfig) error {
	if want.NanoCpus != 0 && (want.CPUPeriod != 0 || h.CPUPeriod != 0) {
		return errors.New("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	}
	if want.NanoCpus != 0 && (want.CPUQuota != 0 || h.CPUQuota != 0) {
		return errors.New("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	}
	if h.NanoCpus != 0 && (want.CPUPeriod != 0 || want.CPUQuota != 0) {
		return errors.New("Conflicting options: CPU Period and Quota cannot be updated as NanoCPUs has already been set")
	}
	if want.MemorySwap == 0 && h.MemorySwap > 0 && want.Memory > h.MemorySwap {
		return errors.New("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	if want.Memory > 0 && want.MemorySwap == 0 { // the sum stays, and v2 counts swap alone
		want.MemorySwap = h.MemorySwap
	}
	if want.MemorySwap > 0 && want.Memory == 0 {
		want.Memory = h.Memory
	}
	set(&h.Memory, want.Memory)
	set(&h.MemorySwap, want.MemorySwap)
	set(&h.MemoryReservation, want.MemoryReservation)
	set(&h.NanoCpus, want.NanoCpus)
	set(&h.CPUShares, want.CPUShares)
	set(&h.CPUPeriod, want.CPUPeriod)
	set(&h.CPUQuota, want.CPUQuota)
	set(&h.CpusetCpus, want.CpusetCpus)
	set(&h.CpusetMems, want.CpusetMems)
	set(&h.PidsLimit, want.PidsLimit)
	return h.checkLimits(runtime.NumCPU())
}

func set[T comparable](to *T, from T) {
	if zero := *new(T); from != zero {
		*to = from
	}
}

// resources are h's limits in the OCI's form; what is zero is left out.
func resources(h *HostConfig) *specs.LinuxResources {
	r := &specs.LinuxResources{Devices: defaultDevices()}
	memory := specs.LinuxMemory{Reservation: given(h.MemoryReservation), DisableOOMKiller: given(h.OomKillDisable)}
	if h.Memory > 0 || h.MemoryReservation > 0 {
		memory.Limit, memory.Swap = given(h.Memory), given(h.MemorySwap)
	}
	if s := h.MemorySwappiness; s != nil && *s >= 0 {
		n := uint64(*s)
		memory.Swappiness = &n
	}
	if memory != (specs.LinuxMemory{}) {
		r.Memory = &memory
	}
	cpu := specs.LinuxCPU{
		Shares: given(uint64(h.CPUShares)), Quota: given(h.CPUQuota), Period: given(uint64(h.CPUPeriod)), Cpus: h.CpusetCpus, Mems: h.CpusetMems,
	}
	if h.NanoCpus > 0 {
		period, quota := uint64(100_000), h.NanoCpus/10_000 // microseconds
		cpu.Period, cpu.Quota = &period, &quota
	}
	if cpu != (specs.LinuxCPU{}) {
		r.CPU = &cpu
	}
	if h.PidsLimit != 0 {
		r.Pids = &specs.LinuxPids{Limit: &h.PidsLimit}
	}
	return r
}

func given[T comparable](v T) *T {
	if zero := *new(T); v == zero {
		return nil
	}
	return &v
}

// changeRecord reads, changes and writes a record, one at a time.
func (e *Engine) changeRecord(id string, f func(*Container) error) error {
	return e.withLock(namesLock, syscall.LOCK_EX, func() error {
		c, err := e.readRecord(id)
		if err == nil {
			err = f(c)
		}
		if err != nil {
			return err
		}
		return e.writeRecord(c)
	})
}

// Usage is what a container uses at a moment.
type Usage struct {
	Time           time.Time
	Received, Sent uint64 // bytes, on all of its interfaces but lo
	cgroup.Stats
}

// Usage reads it. A container that does not run uses nothing.
func (e *Engine) Usage(l *Live) (*Usage, error) {
	u := &Usage{Time: time.Now()}
	if l.Status != Running {
		return u, nil
	}
	g, err := group(l.Container)
	if err != nil {
		return nil, err
	}
	st, err := g.Stats()
	if errors.Is(err, os.ErrNotExist) {
		return u, nil // it has just ended
	}
	if err != nil {
		return nil, fmt.Errorf("stats of container %s: %w", shortID(l.ID), err)
	}
	u.Stats = *st
	u.Received, u.Sent = netBytes(l.PID)
	return u, nil
}

// rootAgain makes a container's root file system of its layers once more, with an upper folder that goes again.
func (e *Engine) rootAgain(layers []string) (path string, done func(), err error) {
	dir, err := os.MkdirTemp(e.RunRoot, ".try-")
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	m, err := snapshot.OverlayDriver{}.Prepare(context.Background(), dir, layers, snapshot.Options{Volatile: true})
	if err != nil {
		return "", nil, err
	}
	root, _, err := m.Open()
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d", root.Fd()), func() {
		root.Close()
		os.RemoveAll(dir)
	}, nil
}
