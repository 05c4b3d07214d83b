package engine

import (
	"os"
	"strings"
)

// oomKilled tells whether the kernel has killed a process of the container for want of memory. It counts in the container's
// cgroup, which must still be there: memory.events of v2, memory.oom_control of v1 (since Linux 4.13).
func oomKilled(c *Container) bool {
	g, err := group(c)
	if err != nil {
		return false
	}
	for _, p := range g.Paths() {
		file := "memory.oom_control"
		if p.Controller == "" {
			file = "memory.events"
		} else if p.Controller != "memory" {
			continue
		}
		b, err := os.ReadFile(p.Path + "/" + file)
		if err == nil && oomKills(string(b)) {
			return true
		}
	}
	return false
}

// oomKills reads "oom_kill N" out of either file.
func oomKills(events string) bool {
	for line := range strings.Lines(events) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strings.TrimSpace(n) != "0"
		}
	}
	return false
}
