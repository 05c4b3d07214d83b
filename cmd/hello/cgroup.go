package main

import (
	"math"
	"os"
	"strconv"
	"strings"
)

// readCgroup finds this process's folder in every hierarchy and reads the limits there.
func readCgroup(proc string, mounts []mount) cgroup {
	var c cgroup
	v1, v2 := false, false
	for line := range strings.Lines(proc) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		ctl, path, _ := strings.Cut(rest, ":")
		p := cgroupPath{controllers: ctl, path: path, dir: cgroupDir(mounts, ctl, path)}
		v1, v2 = v1 || ctl != "", v2 || ctl == ""
		c.paths = append(c.paths, p)
	}
	switch {
	case v1 && v2:
		c.version = "hybrid"
	case v1:
		c.version = "v1"
	case v2:
		c.version = "v2"
	}
	c.memory = c.readLimit("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max", "memory.current")
	c.pids = c.readLimit("pids", "pids.max", "pids.current", "pids.max", "pids.current")
	c.cpu = c.readCPU()
	c.cpus = c.file("cpuset", "cpuset.effective_cpus", "cpuset.cpus.effective")
	return c
}

// cgroupDir maps a path of /proc/self/cgroup to a folder. Without a cgroup namespace the mount may show only a
// part of the hierarchy: its root is then a prefix of the path.
func cgroupDir(mounts []mount, controllers, path string) string {
	for _, m := range mounts {
		if controllers == "" && m.fstype != "cgroup2" || controllers != "" && !hasWords(m, controllers) {
			continue
		}
		switch rest, below := strings.CutPrefix(path, m.root); {
		case m.root == "/":
			return strings.TrimSuffix(m.target+path, "/")
		case below && (rest == "" || rest[0] == '/'):
			return m.target + rest
		}
	}
	return ""
}

func hasWords(m mount, controllers string) bool {
	if m.fstype != "cgroup" {
		return false
	}
	for _, c := range strings.Split(controllers, ",") {
		if !strings.Contains(","+m.super+",", ","+c+",") {
			return false
		}
	}
	return true
}

// dir gives the folder that controls ctl, and whether it is a v1 hierarchy.
func (c *cgroup) dir(ctl string) (dir string, v1 bool) {
	for _, p := range c.paths {
		if p.dir != "" && strings.Contains(","+p.controllers+",", ","+ctl+",") {
			return p.dir, true
		}
	}
	for _, p := range c.paths {
		if p.controllers == "" && p.dir != "" {
			return p.dir, false
		}
	}
	return "", false
}

func (c *cgroup) file(ctl, v1Name, v2Name string) string {
	dir, v1 := c.dir(ctl)
	if dir == "" {
		return ""
	}
	if v1 {
		v2Name = v1Name
	}
	return strings.TrimSpace(read(dir + "/" + v2Name))
}

func (c *cgroup) readLimit(ctl, max1, used1, max2, used2 string) limit {
	max, used := c.file(ctl, max1, max2), c.file(ctl, used1, used2)
	if max == "" {
		return c.noFile(ctl, used)
	}
	return limit{max: parseLimit(max), used: int64(number(used))}
}

// noFile: the root of a hierarchy has no limit files, and is not limited; a controller that is off has no files at all.
func (c *cgroup) noFile(ctl, used string) limit {
	dir, v1 := c.dir(ctl)
	if dir == "" || used == "" && !v1 && !strings.Contains(read(dir+"/cgroup.controllers"), ctl) {
		return limit{unknown: true}
	}
	if _, err := os.Stat(dir + "/cgroup.procs"); err != nil {
		return limit{unknown: true}
	}
	return limit{max: -1, used: int64(number(used))}
}

func (c *cgroup) readCPU() limit {
	dir, v1 := c.dir("cpu")
	if !v1 {
		max, period, ok := strings.Cut(c.file("cpu", "", "cpu.max"), " ")
		if !ok {
			return c.noFile("cpu", "")
		}
		return limit{max: parseLimit(max), used: int64(number(period))}
	}
	quota := strings.TrimSpace(read(dir + "/cpu.cfs_quota_us"))
	if quota == "" {
		return c.noFile("cpu", "")
	}
	return limit{max: parseLimit(quota), used: int64(number(strings.TrimSpace(read(dir + "/cpu.cfs_period_us"))))}
}

// parseLimit gives -1 for no limit: "max" on v2, -1 or the largest multiple of a page on v1.
func parseLimit(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n >= math.MaxInt64-1<<16 {
		return -1
	}
	return n
}
