package engine

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// netBytes adds up /proc/PID/net/dev, whose lines are "  eth0: bytes packets … (8 of them) bytes packets …".
func netBytes(pid int) (received, sent uint64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !ok || len(f) < 9 || strings.TrimSpace(name) == "lo" {
			continue
		}
		r, _ := strconv.ParseUint(f[0], 10, 64)
		s, _ := strconv.ParseUint(f[8], 10, 64)
		received, sent = received+r, sent+s
	}
	return received, sent
}
