package runtime

import (
	"bytes"
	"strconv"
	"strings"

	"vitro/internal/sys"

	"golang.org/x/sys/unix"
)

// flock locks the folder, LOCK_SH or LOCK_EX. A hook that waits for the vitrun that runs it would do so for ever: it gets an error.
func (c *container) flock(how int) error {
	err := again(func() error { return unix.Flock(c.fd, how|unix.LOCK_NB) })
	if err != unix.EWOULDBLOCK {
		return wrap("lock "+c.dir, err)
	}
	if pid := c.holderAbove(); pid != 0 {
		return text("container " + c.dir[strings.LastIndexByte(c.dir, '/')+1:] + ": vitrun (process " + sys.Itoa(pid) + ") waits for this hook, and nothing can change until it has ended")
	}
	return wrap("lock "+c.dir, again(func() error { return unix.Flock(c.fd, how) }))
}

// holderAbove is the ancestor of this process that holds the folder's lock (proc_locks(5)), or 0.
func (c *container) holderAbove() int {
	var dir unix.Stat_t
	b, err := sys.ReadFile("/proc/locks")
	if err != nil || unix.Fstat(c.fd, &dir) != nil {
		return 0
	}
	suffix := []byte(":" + strconv.FormatUint(dir.Ino, 10) + " 0 EOF")
	holders := map[int]bool{}
	for line := range bytes.Lines(b) { // 1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF, without -> for one that waits
		f := bytes.Fields(line)
		if len(f) == 8 && string(f[1]) == "FLOCK" && bytes.HasSuffix(bytes.TrimSpace(line), suffix) {
			pid, _ := strconv.Atoi(string(f[4]))
			holders[pid] = true
		}
	}
	for st, ok := sys.ReadProcStat(0); ok && st.Parent > 1; st, ok = sys.ReadProcStat(st.Parent) {
		if holders[st.Parent] {
			return st.Parent
		}
	}
	return 0
}
