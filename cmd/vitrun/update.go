package main

import (
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"vitro/internal/spec"
	"vitro/internal/sys"
)

// resources are the flags of update, as config.json has them.
type resources struct {
	file   string
	given  bool // one beside file
	memory specs.LinuxMemory
	cpu    specs.LinuxCPU
	pids   *specs.LinuxPids
}

func updateOptions() []option {
	return []option{
		{"resources", "r", "value", "file with linux.resources as JSON, - for the standard input; excludes the other options", func(v *values, s string) error { v.update.file = s; return nil }},
		{"blkio-weight", "", "value", "not supported yet", refuseWeight},
		{"cpu-period", "", "value", "period of the CPU quota, microseconds", limit(func(r *resources) **uint64 { return &r.cpu.Period }, parseUint)},
		{"cpu-quota", "", "value", "CPU time in a period, microseconds; -1 for no limit", limit(func(r *resources) **int64 { return &r.cpu.Quota }, parseInt)},
		{"cpu-burst", "", "value", "unused quota that may be used later, microseconds", limit(func(r *resources) **uint64 { return &r.cpu.Burst }, parseUint)},
		{"cpu-share", "", "value", "CPU time relative to other containers' (2 to 262144; 1024 is normal)", limit(func(r *resources) **uint64 { return &r.cpu.Shares }, parseUint)},
		{"cpu-rt-period", "", "value", "period of the real-time runtime, microseconds (cgroup v1)", limit(func(r *resources) **uint64 { return &r.cpu.RealtimePeriod }, parseUint)},
		{"cpu-rt-runtime", "", "value", "real-time CPU time in a period, microseconds (cgroup v1)", limit(func(r *resources) **int64 { return &r.cpu.RealtimeRuntime }, parseInt)},
		{"cpuset-cpus", "", "value", "CPUs to use: 0-2,4", func(v *values, s string) error { v.update.cpu.Cpus, v.update.given = s, true; return nil }},
		{"cpuset-mems", "", "value", "memory nodes to use", func(v *values, s string) error { v.update.cpu.Mems, v.update.given = s, true; return nil }},
		{"memory", "", "value", "memory limit, bytes or with a unit (64m); -1 for none", limit(func(r *resources) **int64 { return &r.memory.Limit }, parseSize)},
		{"memory-reservation", "", "value", "memory that is reclaimed last (soft limit)", limit(func(r *resources) **int64 { return &r.memory.Reservation }, parseSize)},
		{"memory-swap", "", "value", "limit of memory and swap together; -1 for none", limit(func(r *resources) **int64 { return &r.memory.Swap }, parseSize)},
		{"pids-limit", "", "value", "number of processes and threads; -1 for no limit", optPids},
		{"cpu-idle", "", "value", "1: run only when the CPU is idle, 0: normally", limit(func(r *resources) **int64 { return &r.cpu.Idle }, parseInt)},
		{"l3-cache-schema", "", "value", "not supported yet", refuse},
		{"mem-bw-schema", "", "value", "not supported yet", refuse},
	}
}

// limit is the setter of a number.
func limit[T any](field func(*resources) **T, parse func(string) (T, error)) func(*values, string) error {
	return func(v *values, s string) error {
		n, err := parse(s)
		if err != nil {
			return err
		}
		*field(&v.update), v.update.given = &n, true
		return nil
	}
}

func optPids(v *values, s string) error {
	n, err := parseInt(s)
	v.update.pids, v.update.given = &specs.LinuxPids{Limit: &n}, true
	return err
}

// refuseWeight takes runc's "unset".
func refuseWeight(v *values, s string) error {
	if s == "0" {
		return nil
	}
	return refuse(v, s)
}

const errNumber = usageError("not a number")

func parseInt(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, errNumber
	}
	return n, nil
}

func parseUint(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, errNumber
	}
	return n, nil
}

// parseSize reads bytes: 1024, 64m, 1.5GiB, -1.
func parseSize(s string) (int64, error) {
	if s == "-1" {
		return -1, nil
	}
	digits := strings.TrimRight(s, "bBiIkKmMgGtTpP ")
	unit := strings.ToLower(strings.TrimSpace(s[len(digits):]))
	f, err := strconv.ParseFloat(digits, 64)
	shift := -1
	switch unit {
	case "", "b":
		shift = 0
	case "k", "kb", "kib":
		shift = 10
	case "m", "mb", "mib":
		shift = 20
	case "g", "gb", "gib":
		shift = 30
	case "t", "tb", "tib":
		shift = 40
	case "p", "pb", "pib":
		shift = 50
	}
	if err != nil || shift < 0 || !(f >= 0) || f*float64(uint64(1)<<shift) >= 1<<62 {
		return 0, usageError("not a size")
	}
	return int64(f * float64(uint64(1)<<shift)), nil
}

// wanted is linux.resources of the flags or the file.
func (a *app) wanted() (*specs.LinuxResources, error) {
	r := &a.update
	switch {
	case r.file != "" && r.given:
		return nil, usageError("--resources and other options exclude each other")
	case r.file == "":
		return &specs.LinuxResources{Memory: &r.memory, CPU: &r.cpu, Pids: r.pids}, nil
	}
	var b []byte
	var err error
	if r.file == "-" {
		b, err = sys.ReadFD(0)
	} else {
		b, err = sys.ReadFile(r.file)
	}
	if err != nil {
		return nil, usageError("--resources: read " + r.file + ": " + err.Error())
	}
	res, warnings, err := spec.DecodeResources(b)
	if err != nil {
		return nil, usageError("--resources: " + err.Error())
	}
	for _, w := range warnings {
		if a.debug {
			a.note("warning", "--resources: "+w.String())
		}
	}
	return res, nil
}

func (a *app) updateCommand(args []string) (int, error) {
	res, err := a.wanted()
	if err != nil {
		return 1, err
	}
	if err := a.runtime().Update(args[0], res); err != nil {
		return 1, err
	}
	return 0, nil
}
