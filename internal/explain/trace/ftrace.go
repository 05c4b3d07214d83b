package trace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vitro/internal/sys"
)

// ftraceSource reads the pages of each CPU's buffer of an instance of its own.
type ftraceSource struct {
	dir     string
	cpus    []*os.File
	event   uint16 // id of sched_process_exec
	page    []byte
	pending []Event
	missed  uint64
	epoch   time.Time
	only    uint64
}

// tracefs folders; nothing is mounted for it.
var tracefs = []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}

func openFtrace(o Options) (_ source, err error) {
	i := slices.IndexFunc(tracefs, func(d string) bool {
		var st unix.Statfs_t
		return unix.Statfs(d, &st) == nil && st.Type == unix.TRACEFS_MAGIC
	})
	if i < 0 {
		return nil, errors.New("tracefs is not mounted on /sys/kernel/tracing")
	}
	s := &ftraceSource{dir: fmt.Sprintf("%s/instances/vitro-%d", tracefs[i], os.Getpid()), epoch: epoch(), only: o.PIDNS, page: make([]byte, os.Getpagesize())}
	removeDead(filepath.Dir(s.dir))
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	const events = "/events/sched/sched_process_exec/"
	id, err := sys.ReadFile(s.dir + events + "id")
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(id)), 10, 16)
	if err != nil {
		return nil, err
	}
	s.event = uint16(n)
	for _, f := range [][2]string{{"/trace_clock", "mono"}, {events + "enable", "1"}} {
		if err := sys.WriteFile(s.dir+f[0], f[1]); err != nil {
			return nil, fmt.Errorf("%s: %w", f[0], err)
		}
	}
	names, err := filepath.Glob(s.dir + "/per_cpu/cpu*/trace_pipe_raw")
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		s.cpus = append(s.cpus, f)
	}
	return s, err
}

// removeDead removes instances of traces that were killed.
func removeDead(instances string) {
	found, _ := filepath.Glob(instances + "/vitro-*")
	for _, dir := range found {
		pid := strings.TrimPrefix(filepath.Base(dir), "vitro-")
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			os.Remove(dir)
		}
	}
}

// read looks at all buffers, and waits a moment if they are empty.
func (s *ftraceSource) read(deadline time.Time) (Event, bool, error) {
	for len(s.pending) == 0 {
		for _, f := range s.cpus {
			n, err := sys.Read(int(f.Fd()), s.page)
			if err == unix.EAGAIN || err == nil && n == 0 {
				continue
			}
			if err != nil {
				return Event{}, false, err
			}
			if err := s.parse(s.page[:n]); err != nil {
				return Event{}, false, err
			}
		}
		if len(s.pending) > 0 {
			slices.SortStableFunc(s.pending, func(a, b Event) int { return a.Time.Compare(b.Time) })
			break
		}
		left := time.Until(deadline)
		if left <= 0 {
			return Event{}, false, nil
		}
		time.Sleep(min(left, 10*time.Millisecond))
	}
	e := s.pending[0]
	s.pending = s.pending[1:]
	return e, true, nil
}

// The page: a time, the length with flags, and records (events/header_page, include/linux/ring_buffer.h).
const (
	pageHeader   = 16
	missedEvents = 1 << 31 // events were overwritten before this page
	missedStored = 1 << 30 // their number is behind the data
	typePadding  = 29
	typeExtend   = 30
	typeStamp    = 31
)

var errPage = errors.New("a page of the ring buffer is broken")

// parse reads one page.
func (s *ftraceSource) parse(page []byte) error {
	if len(page) < pageHeader {
		return errPage
	}
	stamp := binary.NativeEndian.Uint64(page)
	commit := binary.NativeEndian.Uint64(page[8:])
	size := int(commit & (1<<20 - 1))
	data := page[pageHeader:]
	if size > len(data) {
		return errPage
	}
	if commit&missedEvents != 0 {
		n := uint64(1) // at least
		if commit&missedStored != 0 && size+8 <= len(data) {
			n = binary.NativeEndian.Uint64(data[size:])
		}
		s.missed += n
	}
	for data = data[:size]; len(data) >= 4; {
		head := binary.NativeEndian.Uint32(data)
		kind, delta := head&31, uint64(head>>5)
		var word uint32
		if len(data) >= 8 {
			word = binary.NativeEndian.Uint32(data[4:])
		}
		body, n := 4, 4+int(kind)*4
		switch kind {
		case 0:
			body, n = 8, 4+int(word)
		case typePadding:
			if delta == 0 {
				return nil
			}
			n = 4 + int(word)
		case typeExtend:
			delta, n = delta|uint64(word)<<27, 8
		case typeStamp:
			stamp, delta, n = delta|uint64(word)<<27|stamp&^(1<<59-1), 0, 8
		}
		if n < body || n > len(data) {
			return errPage
		}
		if stamp += delta; kind < typePadding {
			s.exec(data[body:n], stamp)
		}
		data = data[n:]
	}
	return nil
}

// exec reads one record: type, flags, pid; then where the file name is, and the pid (events/sched/sched_process_exec/format).
func (s *ftraceSource) exec(b []byte, stamp uint64) {
	if len(b) < 20 || binary.NativeEndian.Uint16(b) != s.event {
		return
	}
	loc := binary.NativeEndian.Uint32(b[8:])
	from, size := int(loc&0xffff), int(loc>>16)
	e := Event{PID: int(binary.NativeEndian.Uint32(b[12:])), Time: s.epoch.Add(time.Duration(stamp))}
	if from+size <= len(b) {
		e.Command = cString(b[from : from+size])
	}
	e.fromProc()
	if s.only != 0 && !inside(e.PID, e.PIDNS, s.only) {
		return
	}
	s.pending = append(s.pending, e)
}

// fromProc adds what /proc still knows.
func (e *Event) fromProc() {
	dir := "/proc/" + strconv.Itoa(e.PID)
	status, _ := sys.ReadFile(dir + "/status")
	for line := range bytes.Lines(status) {
		k, v, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), ":")
		f := strings.Fields(v)
		if len(f) == 0 {
			continue
		}
		n, _ := strconv.ParseInt(f[len(f)-1], 10, 64)
		switch k {
		case "Name":
			e.Name = strings.TrimPrefix(v, "\t")
		case "PPid":
			e.PPID = int(n)
		case "NSpid":
			e.Inner = int(n)
		case "Uid":
			uid, _ := strconv.ParseUint(f[min(1, len(f)-1)], 10, 32)
			e.UID = uint32(uid)
		}
	}
	link, _ := os.Readlink(dir + "/ns/pid")
	e.PIDNS, _ = strconv.ParseUint(strings.Trim(link, "pid:[]"), 10, 64)
	groups, _ := sys.ReadFile(dir + "/cgroup")
	for line := range bytes.Lines(groups) {
		if i := bytes.LastIndexByte(line, '/'); i >= 0 && i+2 < len(line) {
			e.Cgroup = strings.TrimSuffix(string(line[i+1:]), "\n")
			break
		}
	}
	if f, err := os.Open(dir + "/cmdline"); err == nil {
		b := make([]byte, maxArgs)
		if n, err := f.Read(b); err == nil && n > 0 {
			e.Command, e.Cut = arguments(b[:n]), n == maxArgs
		}
		f.Close()
	}
}

// inside asks whether a pid namespace is only's or below it.
func inside(pid int, ns, only uint64) bool {
	if ns == only {
		return true
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return false
	}
	defer f.Close()
	const nsGetParent = 0xb702
	for fd := int(f.Fd()); ; {
		up, err := unix.IoctlRetInt(fd, nsGetParent)
		if err != nil {
			return false
		}
		defer unix.Close(up)
		var st unix.Stat_t
		if unix.Fstat(up, &st) != nil || st.Ino == only {
			return st.Ino == only
		}
		fd = up
	}
}

func (s *ftraceSource) lost() uint64 { return s.missed }

// close removes the instance; it is busy while a file of it is open.
func (s *ftraceSource) close() error {
	for _, f := range s.cpus {
		f.Close()
	}
	s.cpus = nil
	return os.Remove(s.dir)
}
