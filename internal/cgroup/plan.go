package cgroup

import (
	"errors"
	"strings"

	"vitro/internal/plan"
	"vitro/internal/sys"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// planner appends a group's ops.
type planner struct {
	*plan.Builder
	g   *Group
	fd  plan.Slot // the file that is being written
	err error     // the first refusal

	updating bool // Update: writes are collected in place of ops
	writes   []setting
}

// Plan appends the parent's ops: make the folders, fill cpuset, set limits and device rules; on v2 also open g.FD. Unless
// procsOK, a group that has processes is refused; so is one that is frozen. It reads and changes nothing itself.
func (g *Group) Plan(b *plan.Builder, r *specs.LinuxResources, procsOK bool) error {
	if g.procs > 0 && !procsOK {
		return errors.New("container's cgroup is not empty: " + sys.Itoa(g.procs) + " process(es) found")
	}
	if g.frozen {
		return errors.New("container's cgroup unexpectedly frozen")
	}
	if r == nil {
		r = &specs.LinuxResources{}
	}
	p := &planner{Builder: b, g: g, fd: b.Slot()}
	p.refuseUnsupported(r)
	rules := p.rules(r.Devices)
	p.folders(r)
	if g.Mode == V2 {
		p.limitsV2(r)
		p.openFD()
		p.devicesV2(rules)
	} else {
		p.limitsV1(r)
		p.devicesV1(rules)
	}
	return p.err
}

// Join appends the ops that put the container's first process into every group: Sync ops, none on v2, where the clone does it.
func (g *Group) Join(b *plan.Builder) {
	if g.Mode == V2 {
		return
	}
	p := &planner{Builder: b, g: g, fd: b.Slot()}
	for i := range g.places {
		file := g.places[i].path + "/cgroup.procs"
		b.Field("linux.cgroupsPath", file)
		p.open(plan.Sync, file)
		// EINVAL: the task is still TASK_NEW.
		b.Sys(plan.Sync, unix.SYS_WRITE, plan.Val(p.fd), plan.Dec(plan.SlotPID), plan.Int(0)).Again(unix.EINVAL, 100).As("join the cgroup")
		b.Sys(plan.Sync, unix.SYS_CLOSE, plan.Val(p.fd))
	}
}

// refuse notes the first error.
func (p *planner) refuse(field, msg string) {
	if p.err == nil {
		p.err = errors.New("linux.resources." + field + ": " + msg)
	}
}

// refuseUnsupported names what is set and not handled.
func (p *planner) refuseUnsupported(r *specs.LinuxResources) {
	const later = "not supported"
	if b := r.BlockIO; b != nil && (val(b.Weight)|val(b.LeafWeight) != 0 || len(b.WeightDevice) > 0 || len(b.ThrottleReadBpsDevice) > 0 ||
		len(b.ThrottleWriteBpsDevice) > 0 || len(b.ThrottleReadIOPSDevice) > 0 || len(b.ThrottleWriteIOPSDevice) > 0) {
		p.refuse("blockIO", later)
	}
	if len(r.HugepageLimits) > 0 {
		p.refuse("hugepageLimits", later)
	}
	if n := r.Network; n != nil && (val(n.ClassID) != 0 || len(n.Priorities) > 0) {
		p.refuse("network", later)
	}
	if len(r.Rdma) > 0 {
		p.refuse("rdma", later)
	}
}

// folders makes the group's folders, from the first that is not there. Another start may make a shared parent meanwhile.
func (p *planner) folders(r *specs.LinuxResources) {
	for _, dir := range p.g.made {
		p.Field("linux.cgroupsPath", dir)
		p.Sys(plan.Parent, unix.SYS_MKDIRAT, plan.Int(unix.AT_FDCWD), p.Str(dir), plan.Int(0o755)).Tolerate(unix.EEXIST)
	}
	if p.g.Mode == V2 {
		p.enable(r)
		return
	}
	c := r.CPU
	if c == nil {
		c = &specs.LinuxCPU{}
	}
	for _, l := range p.g.cpuset {
		leaf := l.path == p.g.find("cpuset").path
		p.fill(l.path+"/cpuset.cpus", l.cpus, leaf && c.Cpus != "")
		p.fill(l.path+"/cpuset.mems", l.mems, leaf && c.Mems != "")
	}
}

// fill copies a cpuset value from the parent: a process cannot join an empty cpuset (ENOSPC).
func (p *planner) fill(file, parent string, configured bool) {
	if !configured && parent != "" {
		p.write("linux.cgroupsPath", file, parent)
	}
}

// open appends the opening of a file for writing.
func (p *planner) open(do plan.Doer, file string) *plan.Op {
	return p.Sys(do, unix.SYS_OPENAT, plan.Int(unix.AT_FDCWD), p.Str(file), plan.Int(unix.O_WRONLY|unix.O_CLOEXEC)).To(p.fd)
}

// write appends open, write, close. The errnos in missing are tolerated when the file is opened: the kernel has no such file.
func (p *planner) write(field, file, value string, missing ...unix.Errno) {
	if p.updating {
		p.writes = append(p.writes, setting{field: field, file: file, value: value, missing: missing})
		return
	}
	p.Field(field, file)
	o := p.open(plan.Parent, file)
	for _, e := range missing {
		o.On(e, 2)
	}
	p.put(p.Str(value), len(value)).As("write " + value)
	p.close()
}

func (p *planner) put(a plan.Arg, n int) *plan.Op {
	return p.Sys(plan.Parent, unix.SYS_WRITE, plan.Val(p.fd), a, plan.Int(n))
}

func (p *planner) close() { p.Sys(plan.Parent, unix.SYS_CLOSE, plan.Val(p.fd)) }

// enable appends "+cpu +memory …" in every folder from the mount's root to the group's parent. All at once can fail for one of
// them: EBUSY (processes inside), EOPNOTSUPP (threaded), EINVAL (+cpu with real-time tasks), EACCES (not delegated). Then each is
// tried alone; a limit whose controller is missing fails later, at its file.
func (p *planner) enable(r *specs.LinuxResources) {
	g := p.g
	if len(g.places) == 0 {
		return
	}
	pl := &g.places[0]
	var names []string
	for c := range strings.FieldsSeq(g.enable) {
		names = append(names, "+"+c)
	}
	for end := pl.mount; len(names) > 0 && end < len(pl.path); end = next(pl.path, end) {
		file := pl.path[:end] + "/cgroup.subtree_control"
		p.Field("linux.cgroupsPath", file)
		p.open(plan.Parent, file).On(plan.AnyErrno, len(names)+2)
		all := strings.Join(names, " ")
		p.put(p.Str(all), len(all)).Ok(len(names)).Tolerate(plan.AnyErrno)
		for _, n := range names {
			p.put(p.Str(n), len(n)).Tolerate(plan.AnyErrno)
		}
		p.close()
	}
	if !g.thread {
		return
	}
	if r.Memory != nil && (r.Memory.Limit != nil || r.Memory.Swap != nil || r.Memory.Reservation != nil) {
		p.refuse("memory", "cannot enter cgroup "+pl.path+": its parent is threaded, which excludes the memory controller")
	}
	p.write("linux.cgroupsPath", pl.path+"/cgroup.type", "threaded")
}

// openFD opens the folder for clone3 and for the device program.
func (p *planner) openFD() {
	if len(p.g.places) == 0 {
		return
	}
	p.g.FD = p.Slot()
	dir := p.g.places[0].path
	p.Field("linux.cgroupsPath", dir)
	p.Sys(plan.Parent, unix.SYS_OPENAT, plan.Int(unix.AT_FDCWD), p.Str(dir), plan.Int(unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)).To(p.g.FD)
}
