package cgroup

import (
	"errors"
	"strconv"
	"strings"

	"vitro/internal/sys"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setting is one write of an update.
type setting struct {
	field, file, value string
	missing            []unix.Errno // of the open: then there is nothing to write
	old                string       // what was there
	known              bool         // old was readable: it can be written back
}

// Update changes the limits of a group that is there: what r leaves out (nil, or 0 where Plan takes that for unset) stays as it
// is. Values are checked and converted as Plan does, against what the kernel has now where a new value stands beside an old one
// (memory and memory+swap, quota and period). All or nothing: undo writes the old values back, last first, which a failing Update
// has done itself. Device rules are not touched.
func (g *Group) Update(r *specs.LinuxResources) (undo func() error, err error) {
	p := &planner{g: g, updating: true}
	p.refuseUnsupported(r)
	if g.Mode == V2 && len(g.places) > 0 {
		g.available, _ = readLine(g.places[0].path + "/cgroup.controllers")
	}
	r = p.complete(*r)
	if g.Mode == V2 {
		p.limitsV2(r)
	} else {
		p.limitsV1(r)
	}
	if p.err != nil {
		return nil, p.err
	}
	undo = func() error { return restore(p.writes) }
	for i := range p.writes {
		if err := p.writes[i].apply(); err != nil {
			p.writes = p.writes[:i]
			if uerr := undo(); uerr != nil {
				return nil, errors.New(err.Error() + "; " + uerr.Error())
			}
			return nil, err
		}
	}
	return undo, nil
}

// apply writes the value and keeps the old one.
func (s *setting) apply() error {
	old, err := readLine(s.file)
	for _, e := range s.missing {
		if err == e {
			return nil
		}
	}
	s.old, s.known = old, err == nil
	if err := write(s.file, s.value); err != nil {
		return &updateError{s.field, err, usage(s.file, err)}
	}
	return nil
}

// restore walks back through states that the kernel has accepted before.
func restore(done []setting) (first error) {
	for i := len(done) - 1; i >= 0; i-- {
		s := &done[i]
		if !s.known {
			continue
		}
		if s.old == "" {
			s.old = "\n" // a write of nothing is none
		}
		if err := write(s.file, s.old); err != nil && first == nil {
			first = &updateError{s.field, err, " (the old value could not be restored)"}
		}
	}
	return first
}

type updateError struct {
	field string
	err   error
	more  string
}

func (e *updateError) Error() string {
	return e.field + ": " + e.err.Error() + e.more
}
func (e *updateError) Unwrap() error { return e.err }

// usage says why v1 refuses a memory limit (EBUSY: it could not reclaim enough).
func usage(file string, err error) string {
	base, ok := strings.CutSuffix(file, "limit_in_bytes")
	if !ok || !errors.Is(err, unix.EBUSY) {
		return ""
	}
	now, _ := readLine(base + "usage_in_bytes")
	return " (in use: " + now + ")"
}

// complete adds to r what its values depend on and the kernel has already, so that the limits functions see pairs.
func (p *planner) complete(r specs.LinuxResources) *specs.LinuxResources {
	if r.Memory != nil {
		m := *r.Memory
		r.Memory = &m
		p.completeMemory(&m)
	}
	if r.CPU != nil && (val(r.CPU.Quota) == 0) != (val(r.CPU.Period) == 0) {
		c := *r.CPU
		r.CPU = &c
		p.completeCPU(&c)
	}
	return &r
}

func (p *planner) completeMemory(m *specs.LinuxMemory) {
	limit, swap := val(m.Limit), val(m.Swap)
	if swap > 0 && limit == 0 {
		if now, ok := p.number("memory", "memory.limit_in_bytes", "memory.max"); ok && now > 0 {
			m.Limit = &now
		}
	}
	if limit <= 0 {
		return
	}
	if now, ok := p.number("memory", "memory.memsw.limit_in_bytes", ""); ok && swap == 0 {
		if now > 0 && now < limit {
			p.refuse("memory.limit", sys.Itoa(int(limit))+" is above the memory+swap limit "+sys.Itoa(int(now))+", which has to be set too")
		}
		m.Swap = &now
	}
	if now, ok := p.number("memory", "memory.usage_in_bytes", "memory.current"); ok && now > limit && val(m.CheckBeforeUpdate) {
		p.refuse("memory.limit", sys.Itoa(int(limit))+" is below what is in use: "+sys.Itoa(int(now)))
	}
}

func (p *planner) completeCPU(c *specs.LinuxCPU) {
	var quota, period int64
	if p.g.Mode == V2 {
		dir := p.folder("cpu", "cpu.quota")
		s, _ := readLine(dir + "cpu.max")
		q, per, _ := strings.Cut(s, " ")
		quota, period = atoi(q), atoi(per)
	} else {
		quota, _ = p.number("cpu", "cpu.cfs_quota_us", "")
		period, _ = p.number("cpu", "cpu.cfs_period_us", "")
	}
	if u := uint64(period); val(c.Period) == 0 && period > 0 {
		c.Period = &u
	}
	if val(c.Quota) == 0 {
		c.Quota = &quota
	}
}

// number reads a controller's file, v1's or v2's name of it; -1 is no limit. A file without a name is not there.
func (p *planner) number(controller, v1, v2 string) (int64, bool) {
	pl, file := p.g.find(controller), v1
	if p.g.Mode == V2 {
		pl, file = p.g.find(""), v2
	}
	if pl == nil || file == "" {
		return 0, false
	}
	s, err := readLine(pl.path + "/" + file)
	if err != nil {
		return 0, false
	}
	return atoi(s), true
}

// atoi reads a limit; v1's "no limit" is the largest multiple of a page.
func atoi(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n >= 1<<62 {
		return -1
	}
	return n
}
