package sys

import (
	"bytes"
	"strconv"
	"strings"
)

// ProcStat is what /proc/PID/stat says of a process (proc_pid_stat(5)).
type ProcStat struct {
	Comm   string
	State  byte
	Parent int    // pid
	Start  uint64 // field 22, clock ticks after boot: with the pid, one process for ever
}

// ReadProcStat reads a process's stat, of the caller's for pid 0; ok is false when there is none. /proc may be that of another
// pid namespace.
func ReadProcStat(pid int) (st ProcStat, ok bool) {
	name := "self"
	if pid != 0 {
		name = Itoa(pid)
	}
	b, err := ReadFile("/proc/" + name + "/stat")
	if err != nil {
		return st, false
	}
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')') // a comm may have both in it
	if open < 0 || end < open {
		return st, false
	}
	st.Comm = string(b[open+1 : end])
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 {
		return st, false
	}
	st.State = f[0][0]
	st.Parent, _ = strconv.Atoi(f[1])
	st.Start, err = strconv.ParseUint(f[19], 10, 64)
	return st, err == nil
}

// Dead tells whether the process has ended; somebody may still have to wait for it.
func (st ProcStat) Dead() bool { return st.State == 'Z' || st.State == 'X' }

// Lives tells whether the process that has this pid now started at that time and has not ended.
func Lives(pid int, start uint64) (ProcStat, bool) {
	if pid <= 0 {
		return ProcStat{}, false
	}
	st, ok := ReadProcStat(pid)
	return st, ok && st.Start == start && !st.Dead()
}
