package cgroup

import (
	"math"
	"slices"
	"strings"

	"vitro/internal/sys"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// values are the settings with "unset" as zero, checked.
type values struct {
	limit, reservation, swap int64
	shares, period           uint64
	quota                    int64
	burst                    *uint64
	idle                     *int64
	cpus, mems               string
	pids                     string // "" is unset
	rtRuntime                int64
	rtPeriod                 uint64
	swappiness               *uint64
	noOOMKill                bool
}

func val[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// values checks r's ranges. As in runc, 0 is unset for memory, shares, quota and periods.
func (p *planner) values(r *specs.LinuxResources) (v values) {
	if m := r.Memory; m != nil {
		v.limit, v.reservation, v.swap = val(m.Limit), val(m.Reservation), val(m.Swap)
		v.swappiness, v.noOOMKill = m.Swappiness, val(m.DisableOOMKiller)
		p.memory(m, &v)
	}
	if c := r.CPU; c != nil {
		v.shares, v.period, v.quota, v.burst, v.idle = val(c.Shares), val(c.Period), val(c.Quota), c.Burst, c.Idle
		v.rtRuntime, v.rtPeriod = val(c.RealtimeRuntime), val(c.RealtimePeriod)
		v.cpus, v.mems = c.Cpus, c.Mems
		if strings.IndexByte(v.cpus, '\n') >= 0 || strings.IndexByte(v.mems, '\n') >= 0 {
			p.refuse("cpu.cpus", "must not contain a newline")
		}
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		switch n := *r.Pids.Limit; {
		case n < -1:
			p.refuse("pids.limit", "invalid value "+sys.Itoa(int(n)))
		case n == -1:
			v.pids = "max"
		default: // 0 is a limit (runtime-spec 1.3): no further process. 1 means the same, and lets CLONE_INTO_CGROUP pass.
			v.pids = sys.Itoa(int(max(n, 1)))
		}
	}
	return v
}

func (p *planner) memory(m *specs.LinuxMemory, v *values) {
	for _, x := range [...]struct {
		name string
		n    int64
	}{{"limit", v.limit}, {"reservation", v.reservation}, {"swap", v.swap}} {
		if x.n < -1 {
			p.refuse("memory."+x.name, "invalid value "+sys.Itoa(int(x.n)))
		}
	}
	//lint:ignore SA1019 it is looked for to be named
	if m.Kernel != nil || m.KernelTCP != nil {
		p.g.Warnings = append(p.g.Warnings, "linux.resources.memory.kernel: kernel memory limits are obsolete and ignored")
	}
	if m.UseHierarchy != nil && !*m.UseHierarchy {
		p.refuse("memory.useHierarchy", "false is not supported: accounting is always hierarchical")
	}
	switch {
	case v.swap > 0 && v.limit == 0:
		p.refuse("memory.swap", "unable to set swap limit without memory limit")
	case v.swap > 0 && v.swap < v.limit:
		p.refuse("memory.swap", "memory+swap limit should be >= memory limit")
	case v.limit == -1 && v.swap == 0:
		v.swap = -1
	}
}

// folder is the group's folder for a controller. When there is none, whatever is to be set in it is refused.
func (p *planner) folder(controller, field string) string {
	if p.g.Mode == V2 && len(p.g.places) > 0 {
		return p.g.places[0].path + "/"
	}
	if pl := p.g.find(controller); pl != nil {
		return pl.path + "/"
	}
	p.refuse(field, "cannot set "+controller+" limit: container could not join or create cgroup")
	return ""
}

// set appends the write of a number in field, a name below linux.resources.
func (p *planner) set(controller, field, file, value string, missing ...unix.Errno) {
	if p.g.Mode == V2 && isController(controller) && !hasField(p.g.available, controller) {
		p.refuse(field, "the "+controller+" controller is not available here (cgroup.controllers: "+p.g.available+")")
		return
	}
	if dir := p.folder(controller, field); dir != "" {
		p.write("linux.resources."+field, dir+file, value, missing...)
	}
}

// isController: unified may name core files (cgroup.max.depth) or a controller that we do not know.
func isController(name string) bool {
	switch name {
	case "cpu", "cpuset", "io", "memory", "hugetlb", "pids", "rdma", "misc":
		return true
	}
	return false
}

func (p *planner) limitsV1(r *specs.LinuxResources) {
	v := p.values(r)
	if len(r.Unified) > 0 {
		p.refuse("unified", "invalid configuration: cannot use unified on cgroup v1")
	}
	p.memoryV1(&v)
	p.cpuV1(&v)
	p.cpusetAndPids(&v)
}

// cpusetAndPids has the same files on v1 and v2.
func (p *planner) cpusetAndPids(v *values) {
	if v.cpus != "" {
		p.set("cpuset", "cpu.cpus", "cpuset.cpus", v.cpus)
	}
	if v.mems != "" {
		p.set("cpuset", "cpu.mems", "cpuset.mems", v.mems)
	}
	if v.pids != "" {
		p.set("pids", "pids.limit", "pids.max", v.pids)
	}
}

func (p *planner) memoryV1(v *values) {
	const memsw = "memory.memsw.limit_in_bytes"
	if v.limit != 0 && p.existed("memory") {
		// The kernel keeps limit <= memory+swap at every moment: lift the latter first.
		p.set("memory", "memory.swap", memsw, "-1", unix.ENOENT)
	}
	if v.limit != 0 {
		p.set("memory", "memory.limit", "memory.limit_in_bytes", sys.Itoa(int(v.limit)))
	}
	switch {
	case v.swap == -1:
		p.set("memory", "memory.swap", memsw, "-1", unix.ENOENT)
	case v.swap != 0:
		p.set("memory", "memory.swap", memsw, sys.Itoa(int(v.swap)))
	}
	if v.reservation != 0 {
		p.set("memory", "memory.reservation", "memory.soft_limit_in_bytes", sys.Itoa(int(v.reservation)))
	}
	if v.noOOMKill {
		p.set("memory", "memory.disableOOMKiller", "memory.oom_control", "1")
	}
	if s := v.swappiness; s != nil && *s != math.MaxUint64 {
		if *s > 100 {
			p.refuse("memory.swappiness", "invalid memory swappiness value: "+sys.Utoa(*s)+" (valid range is 0-100)")
		}
		p.set("memory", "memory.swappiness", "memory.swappiness", sys.Utoa(*s))
	}
}

func (p *planner) cpuV1(v *values) {
	if v.rtPeriod != 0 {
		p.set("cpu", "cpu.realtimePeriod", "cpu.rt_period_us", sys.Utoa(v.rtPeriod))
	}
	if v.rtRuntime != 0 {
		p.set("cpu", "cpu.realtimeRuntime", "cpu.rt_runtime_us", sys.Itoa(int(v.rtRuntime)))
	}
	switch { // the kernel would change the value without a word
	case v.shares > 262144:
		p.refuse("cpu.shares", "the maximum allowed cpu-shares is 262144")
	case v.shares == 1:
		p.refuse("cpu.shares", "the minimum allowed cpu-shares is 2")
	case v.shares != 0:
		p.set("cpu", "cpu.shares", "cpu.shares", sys.Utoa(v.shares))
	}
	// With no quota every period and burst is good; then the quota has to fit the new ones, not the old.
	if p.existed("cpu") && (v.period != 0 || v.burst != nil || v.quota != 0) {
		p.set("cpu", "cpu.quota", "cpu.cfs_quota_us", "-1")
	}
	if v.period != 0 {
		p.set("cpu", "cpu.period", "cpu.cfs_period_us", sys.Utoa(v.period))
	}
	if v.burst != nil {
		p.set("cpu", "cpu.burst", "cpu.cfs_burst_us", sys.Utoa(*v.burst))
	}
	if v.quota != 0 {
		p.set("cpu", "cpu.quota", "cpu.cfs_quota_us", sys.Itoa(int(v.quota)))
	}
	if v.idle != nil {
		p.set("cpu", "cpu.idle", "cpu.idle", sys.Itoa(int(*v.idle)))
	}
}

func (p *planner) existed(controller string) bool {
	pl := p.g.find(controller)
	return pl != nil && pl.existed
}

func (p *planner) limitsV2(r *specs.LinuxResources) {
	v := p.values(r)
	p.memoryV2(&v)
	p.cpuV2(&v)
	p.cpusetAndPids(&v)
	p.unified(r.Unified)
}

func (p *planner) memoryV2(v *values) {
	if v.swappiness != nil {
		p.refuse("memory.swappiness", "not supported on cgroup v2")
	}
	if v.noOOMKill {
		p.refuse("memory.disableOOMKiller", "not supported on cgroup v2")
	}
	swap := v.swap // OCI counts memory + swap, v2 swap alone
	if swap > 0 && v.limit > 0 {
		swap -= v.limit
	}
	switch {
	case v.swap != 0 && swap <= 0: // a kernel without swap accounting has nothing to limit or to lift
		p.set("memory", "memory.swap", "memory.swap.max", orMax(swap), unix.ENOENT)
	case v.swap != 0:
		p.set("memory", "memory.swap", "memory.swap.max", orMax(swap))
	}
	if v.limit != 0 {
		p.set("memory", "memory.limit", "memory.max", orMax(v.limit))
	}
	if v.reservation != 0 {
		p.set("memory", "memory.reservation", "memory.low", orMax(v.reservation))
	}
}

func orMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return sys.Itoa(int(n))
}

func (p *planner) cpuV2(v *values) {
	if v.rtPeriod != 0 {
		p.refuse("cpu.realtimePeriod", "not supported on cgroup v2")
	}
	if v.rtRuntime != 0 {
		p.refuse("cpu.realtimeRuntime", "not supported on cgroup v2")
	}
	if v.idle != nil {
		p.set("cpu", "cpu.idle", "cpu.idle", sys.Itoa(int(*v.idle)))
	}
	if v.shares != 0 {
		p.set("cpu", "cpu.shares", "cpu.weight", sys.Utoa(weight(v.shares)))
	}
	if v.quota != 0 || v.period != 0 {
		period := v.period
		if period == 0 {
			period = 100000
		}
		if p.g.places != nil && p.g.places[0].existed && v.burst != nil {
			p.set("cpu", "cpu.burst", "cpu.max.burst", "0") // an old burst must not exceed the new quota
		}
		quota := "max"
		if v.quota > 0 {
			quota = sys.Itoa(int(v.quota))
		}
		p.set("cpu", "cpu.quota", "cpu.max", quota+" "+sys.Utoa(period))
	}
	if v.burst != nil {
		p.set("cpu", "cpu.burst", "cpu.max.burst", sys.Utoa(*v.burst))
	}
}

// weight is cpu.shares (2 … 262144, 1024 by default) as cpu.weight (1 … 10000, 100 by default), by the quadratic in log2(shares)
// that fits the three points: 10^((l² + 125 l)/612 - 7/34), rounded up. runc and crun have it since 2025.
func weight(shares uint64) uint64 {
	switch {
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// unified writes v2 files as they are given, in the order of their names.
func (p *planner) unified(files map[string]string) {
	if len(files) == 0 {
		return
	}
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		field := "unified[" + n + "]"
		if n == "" || n == "." || n == ".." || strings.IndexByte(n, '/') >= 0 || strings.IndexByte(n, 0) >= 0 {
			p.refuse(field, "must be a file name (no slashes)")
			continue
		}
		controller, _, _ := strings.Cut(n, ".")
		p.set(controller, field, n, files[n])
	}
}
