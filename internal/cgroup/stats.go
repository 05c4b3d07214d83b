package cgroup

import (
	"strconv"
	"strings"

	"vitro/internal/sys"

	"golang.org/x/sys/unix"
)

// Stats is what a group uses, below it included. A controller that is not there leaves zeros. CPU times are nanoseconds, memory and IO
// bytes.
type Stats struct {
	CPU    CPUStats
	Memory MemoryStats
	Pids   PidsStats
	IO     []IOStats
}

// CPUStats are counters since the group was made.
type CPUStats struct {
	Total, User, Kernel uint64
	PerCPU              []uint64 // v1 only
	Periods, Throttled  uint64   // of the quota: all, and those in which it was used up
	ThrottledTime       uint64
}

// MemoryStats has MaxUint64 for no limit.
type MemoryStats struct {
	Usage, Max, Limit   uint64 // Max: the highest Usage so far; 0 where the kernel does not tell (v2 before 5.19)
	Swap, SwapLimit     uint64 // v1: memory and swap together
	Failures            uint64 // how often the limit was hit
	Cache, InactiveFile uint64 // part of Usage that is page cache; that which goes first
	OOMKills            uint64
	Raw                 map[string]uint64 // memory.stat
}

// PidsStats counts threads.
type PidsStats struct{ Current, Limit uint64 }

// IOStats is what was transferred from and to one device.
type IOStats struct{ Major, Minor, Read, Write uint64 }

// Stats reads them. It is an error only if the group is gone.
func (g *Group) Stats() (*Stats, error) {
	s := &Stats{}
	if g.Mode == V2 {
		g.statsV2(s)
	} else {
		g.statsV1(s)
	}
	if p := g.main(); p != nil && !exists(p.path) {
		return nil, failed("read", p.path, unix.ENOENT)
	}
	return s, nil
}

func (g *Group) statsV1(s *Stats) {
	if p := g.find("cpuacct"); p != nil {
		s.CPU.Total = readCount(p.path + "/cpuacct.usage")
		s.CPU.User = readCount(p.path + "/cpuacct.usage_user")
		s.CPU.Kernel = readCount(p.path + "/cpuacct.usage_sys")
		line, _ := readLine(p.path + "/cpuacct.usage_percpu")
		for f := range strings.FieldsSeq(line) {
			s.CPU.PerCPU = append(s.CPU.PerCPU, count(f))
		}
	}
	if p := g.find("cpu"); p != nil {
		m := readTable(p.path + "/cpu.stat")
		s.CPU.Periods, s.CPU.Throttled, s.CPU.ThrottledTime = m["nr_periods"], m["nr_throttled"], m["throttled_time"]
	}
	if p := g.find("memory"); p != nil {
		m := &s.Memory
		m.Usage, m.Max = readCount(p.path+"/memory.usage_in_bytes"), readCount(p.path+"/memory.max_usage_in_bytes")
		m.Limit, m.Failures = readCount(p.path+"/memory.limit_in_bytes"), readCount(p.path+"/memory.failcnt")
		m.Swap, m.SwapLimit = readCount(p.path+"/memory.memsw.usage_in_bytes"), readCount(p.path+"/memory.memsw.limit_in_bytes")
		m.Raw = readTable(p.path + "/memory.stat")
		m.Cache, m.InactiveFile = m.Raw["cache"], m.Raw["total_inactive_file"]
		m.OOMKills = readTable(p.path + "/memory.oom_control")["oom_kill"]
	}
	if p := g.find("pids"); p != nil {
		s.Pids = PidsStats{readCount(p.path + "/pids.current"), readCount(p.path + "/pids.max")}
	}
	if p := g.find("blkio"); p != nil {
		s.IO = ioV1(p.path + "/blkio.throttle.io_service_bytes_recursive")
	}
}

func (g *Group) statsV2(s *Stats) {
	p := g.find("")
	if p == nil {
		return
	}
	cpu := readTable(p.path + "/cpu.stat")
	s.CPU = CPUStats{
		Total: cpu["usage_usec"] * 1000, User: cpu["user_usec"] * 1000, Kernel: cpu["system_usec"] * 1000,
		Periods: cpu["nr_periods"], Throttled: cpu["nr_throttled"], ThrottledTime: cpu["throttled_usec"] * 1000,
	}
	m := &s.Memory
	m.Usage, m.Max, m.Limit = readCount(p.path+"/memory.current"), readCount(p.path+"/memory.peak"), readCount(p.path+"/memory.max")
	m.Swap, m.SwapLimit = readCount(p.path+"/memory.swap.current"), readCount(p.path+"/memory.swap.max")
	m.Raw = readTable(p.path + "/memory.stat")
	m.Cache, m.InactiveFile = m.Raw["file"], m.Raw["inactive_file"]
	events := readTable(p.path + "/memory.events")
	m.Failures, m.OOMKills = events["max"], events["oom_kill"]
	s.Pids = PidsStats{readCount(p.path + "/pids.current"), readCount(p.path + "/pids.max")}
	s.IO = ioV2(p.path + "/io.stat")
}

// ioV1 reads "8:0 Read 4096".
func ioV1(path string) (out []IOStats) {
	b, _ := sys.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[1] != "Read" && f[1] != "Write" {
			continue
		}
		e := device(f[0])
		if n := len(out); n > 0 && out[n-1].Major == e.Major && out[n-1].Minor == e.Minor {
			e = out[n-1]
			out = out[:n-1]
		}
		if f[1] == "Read" {
			e.Read = count(f[2])
		} else {
			e.Write = count(f[2])
		}
		out = append(out, e)
	}
	return out
}

// ioV2 reads "8:0 rbytes=4096 wbytes=0 rios=1 …".
func ioV2(path string) (out []IOStats) {
	b, _ := sys.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, " ")
		e := device(name)
		for f := range strings.FieldsSeq(rest) {
			if n, ok := strings.CutPrefix(f, "rbytes="); ok {
				e.Read = count(n)
			} else if n, ok := strings.CutPrefix(f, "wbytes="); ok {
				e.Write = count(n)
			}
		}
		out = append(out, e)
	}
	return out
}

func device(s string) IOStats {
	major, minor, _ := strings.Cut(s, ":")
	return IOStats{Major: count(major), Minor: count(minor)}
}

// readTable reads "name number" lines.
func readTable(path string) map[string]uint64 {
	b, _ := sys.ReadFile(path)
	m := make(map[string]uint64)
	for line := range strings.Lines(string(b)) {
		name, n, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		m[name] = count(n)
	}
	return m
}

func readCount(path string) uint64 {
	s, _ := readLine(path)
	return count(s)
}

// count is 0 for what is none, and NoLimit for "max" and for v1's word for it, the largest multiple of a page.
func count(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	switch {
	case s == "max" || err == nil && n >= 1<<62:
		return NoLimit
	case err != nil:
		return 0
	}
	return n
}

// NoLimit is how Stats writes the absence of a limit.
const NoLimit = ^uint64(0)
