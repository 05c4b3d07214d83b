package stub

import (
	"errors"
	"os"
	"runtime"
	"syscall"

	"vitro/internal/boot"
	"vitro/internal/plan"
	"vitro/internal/sys"

	"golang.org/x/sys/unix"
)

// Options are what a launch needs besides its program.
type Options struct {
	Call     func(l *Launch, o *plan.Op) error // does the plan.Call ops
	Fallback string                            // folder for the stub's file where a memfd may not be executed
	Warn     func(string)                      // told of that
}

// Launch is a program on its way. Run ends with the container's first process executing, waiting, or dead and reaped.
type Launch struct {
	PID   int // 0 before the clone
	PIDFD int
	// Exec tells after Run that the user's program is running (end of file on the channel).
	Exec bool

	o     Options
	m     *machine
	exe   string // ExeID of the stub
	chans [2]int
}

// Slot is the value of s on the parent's side.
func (l *Launch) Slot(s plan.Slot) uint64 { return l.m.slots[s] }

// SetSlot sets it, for Call ops that have a result.
func (l *Launch) SetSlot(s plan.Slot, v uint64) { l.m.slots[s] = v }

// Run executes p. With waitExec it waits until the stub has executed the user's program or failed; without, it returns after
// the last Sync op. On an error the stub is dead, reaped, and every fd that Run opened is closed.
func Run(p *plan.Program, waitExec bool, o Options) (*Launch, error) {
	if changesThread(p) { // the clone is to inherit what they set; locking starts a thread, so only then
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	l := &Launch{o: o, m: newMachine(p), PIDFD: -1, chans: [2]int{-1, -1}}
	err := l.run(p, waitExec)
	if err != nil {
		err = l.abort(err)
	}
	l.closeChans()
	return l, err
}

// changesThread: does the parent make calls that act on the calling thread alone?
func changesThread(p *plan.Program) bool {
	for i := range p.Ops {
		o := &p.Ops[i]
		if o.Do == plan.Stub || o.Kind != plan.Syscall {
			continue
		}
		switch o.Nr {
		case unix.SYS_SETNS, unix.SYS_UNSHARE, unix.SYS_KEYCTL, unix.SYS_PRCTL:
			return true
		}
	}
	return false
}

func (l *Launch) run(p *plan.Program, waitExec bool) error {
	skip := 0
	for i := range p.Ops {
		o := &p.Ops[i]
		if o.Do == plan.Stub {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		var err error
		switch o.Kind {
		case plan.Clone:
			err = l.clone(p)
		case plan.Call:
			err = l.call(o, i)
		default:
			skip, err = l.m.step(i)
		}
		if err != nil {
			return err
		}
	}
	if waitExec && l.PID != 0 {
		return l.awaitExec()
	}
	return nil
}

// ExeID is [ExeID] of the stub. It is not read from /proc: on Linux 6.1 that was seen to name the launcher's file for a moment behind the execve.
func (l *Launch) ExeID() string { return l.exe }

func (l *Launch) call(o *plan.Op, i int) error {
	switch o.Name {
	case "ack":
		return l.ack()
	case "await":
		return l.await(o)
	case "idmap":
		return l.writeMaps()
	case "oom":
		adj := sys.Itoa(int(int64(o.Args[0].V)))
		if err := sys.WriteFile("/proc/"+sys.Itoa(l.PID)+"/oom_score_adj", adj); err != nil {
			return &OpError{Index: i, Op: o, Errno: errno(err)}
		}
		return nil
	}
	return l.o.Call(l, o)
}

// clone starts the stub.
func (l *Launch) clone(p *plan.Program) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return wrap("socketpair", err)
	}
	l.chans = pair
	l.m.slots[plan.SlotChan] = uint64(pair[1])
	elf := Encode(p, l.m.slots, pair[1])
	exe, err := l.executable(elf)
	if err != nil {
		return err
	}
	defer unix.Close(exe)
	var st unix.Stat_t
	if err := unix.Fstat(exe, &st); err != nil {
		return wrap("fstat", err)
	}
	l.exe = fileID(&st)
	attr := l.attr(p, exe)
	argv := []string{p.Clone.Comm}
	boot.OwnSlack()
	pid, err := syscall.ForkExec("/proc/self/fd/"+sys.Itoa(exe), argv, attr)
	unix.Close(pair[1])
	l.chans[1] = -1
	if err == syscall.E2BIG { // for one short word: the execve was refused a page by the cgroup that it was born in
		return &DiedError{syscall.WaitStatus(unix.SIGKILL)}
	}
	if err != nil {
		return wrap("start the stub", err)
	}
	l.PID, l.PIDFD = pid, *attr.Sys.PidFD
	l.m.slots[plan.SlotPID] = uint64(pid)
	for _, s := range p.Keep { // they are the stub's now
		unix.Close(int(l.m.slots[s]))
	}
	return nil
}

func (l *Launch) executable(elf []byte) (int, error) {
	fd, err := sys.MemfdSealed("vitrun", elf)
	if err == nil || l.o.Fallback == "" {
		return fd, wrap("memfd_create", err)
	}
	if l.o.Warn != nil {
		l.o.Warn("memfd_create: " + err.Error() + ": the stub's file goes to " + l.o.Fallback)
	}
	fd, err = sys.TmpfileExec(l.o.Fallback, elf)
	return fd, wrap("open a file in "+l.o.Fallback, err)
}

// attr keeps each inherited fd at its own number, so that slots hold on both sides.
func (l *Launch) attr(p *plan.Program, exe int) *syscall.ProcAttr {
	keep := []int{0, 1, 2, exe, l.chans[1]}
	keep = append(keep, p.KeepFD...)
	for _, s := range p.Keep {
		if fd := int(l.m.slots[s]); fd > 0 {
			keep = append(keep, fd)
		}
	}
	top := 0
	for _, fd := range keep {
		top = max(top, fd)
	}
	files := make([]uintptr, top+1)
	for i := range files {
		files[i] = ^uintptr(0)
	}
	for _, fd := range keep {
		files[fd] = uintptr(fd)
	}
	c := &p.Clone
	pidfd := -1
	s := &syscall.SysProcAttr{Cloneflags: c.Flags, PidFD: &pidfd}
	if c.CgroupFD != 0 {
		s.UseCgroupFD, s.CgroupFD = true, int(l.m.slots[c.CgroupFD])
	}
	if len(c.UIDs) > 0 && !c.Late {
		s.UidMappings, s.GidMappings = sysMap(c.UIDs), sysMap(c.GIDs)
		s.GidMappingsEnableSetgroups = c.Setgroups
	}
	if c.Root {
		s.Credential = &syscall.Credential{NoSetGroups: !c.Setgroups}
	}
	return &syscall.ProcAttr{Env: []string{}, Files: files, Sys: s}
}

func sysMap(m []plan.IDMap) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(m))
	for i, x := range m {
		out[i] = syscall.SysProcIDMap{ContainerID: int(x.Inside), HostID: int(x.Outside), Size: int(x.Size)}
	}
	return out
}

// ack lets the stub go on after a read of one byte.
func (l *Launch) ack() error {
	err := unix.Sendto(l.chans[0], []byte{1}, unix.MSG_NOSIGNAL, nil)
	if err == unix.EPIPE || err == unix.ECONNRESET {
		return l.awaitExec() // it failed before it read: its record says why
	}
	return wrap("ack", err)
}

// await reads one record: the sign of life that op o waits for. A value other than 0 goes to the op's result slot.
// With Args[0] = 1 the value is the pid of a forked child that takes the stub's place.
func (l *Launch) await(o *plan.Op) error {
	rec, err := l.record()
	if err != nil {
		return err
	}
	if rec == nil {
		return l.died()
	}
	if o.Result != 0 {
		l.m.slots[o.Result] = rec.Value
	}
	if o.NArgs > 0 && o.Args[0].V == 1 {
		return l.replace(int(rec.Value))
	}
	return nil
}

// writeMaps writes the maps of a user namespace that the stub has unshared (user_namespaces(7)).
func (l *Launch) writeMaps() error {
	c, dir := &l.m.p.Clone, "/proc/"+sys.Itoa(l.PID)+"/"
	if !c.Setgroups {
		if err := sys.WriteFile(dir+"setgroups", "deny"); err != nil {
			return wrap("write setgroups", err)
		}
	}
	if err := sys.WriteFile(dir+"gid_map", mapText(c.GIDs)); err != nil {
		return wrap("linux.gidMappings: write gid_map", err)
	}
	return wrap("linux.uidMappings: write uid_map", sys.WriteFile(dir+"uid_map", mapText(c.UIDs)))
}

func mapText(m []plan.IDMap) string {
	s := ""
	for _, x := range m {
		s += sys.Utoa(uint64(x.Inside)) + " " + sys.Utoa(uint64(x.Outside)) + " " + sys.Utoa(uint64(x.Size)) + "\n"
	}
	return s
}

// replace makes pid the container's process; the old one is a half that exits on its own.
func (l *Launch) replace(pid int) error {
	unix.Close(l.PIDFD)
	var st syscall.WaitStatus
	if _, err := syscall.Wait4(l.PID, &st, 0, nil); err != nil {
		return wrap("wait for the forking half", err)
	}
	l.PID = pid
	l.m.slots[plan.SlotPID] = uint64(pid)
	fd, err := unix.PidfdOpen(pid, 0)
	l.PIDFD = fd
	return wrap("pidfd_open", err)
}

// awaitExec reads until end of file.
func (l *Launch) awaitExec() error {
	rec, err := l.record()
	if err != nil {
		return err
	}
	if rec != nil {
		return &OpError{Index: rec.Index, Errno: syscall.EPROTO}
	}
	// End of file: an execve closed the channel, or the stub died (Go itself cannot tell, exec_unix.go). An execve has a new exe file
	// before it closes fds; a dying process has none, and keeps its comm as a zombie. Comm alone does not tell: any program may call itself so.
	for {
		exe := ExeID(l.PID)
		if exe == "" && l.deadStub() {
			return l.died()
		}
		if exe != l.exe {
			l.Exec = true
			return nil
		}
		p := []unix.PollFd{{Fd: int32(l.PIDFD), Events: unix.POLLIN}}
		_, _ = unix.Poll(p, 1)
	}
}

// deadStub waits for the end of a process without an exe file, and tells whether it was still the stub.
func (l *Launch) deadStub() bool {
	p := []unix.PollFd{{Fd: int32(l.PIDFD), Events: unix.POLLIN}}
	for ExeID(l.PID) == "" {
		if n, _ := unix.Poll(p, 1); n > 0 {
			comm, err := sys.ReadFile("/proc/" + sys.Itoa(l.PID) + "/comm")
			return err == nil && string(comm) == StubComm+"\n"
		}
	}
	return false
}

// ExeID names the file that a process executes: device and inode. "" where it has none: it is ending.
func ExeID(pid int) string {
	var st unix.Stat_t
	if unix.Stat("/proc/"+sys.Itoa(pid)+"/exe", &st) != nil {
		return ""
	}
	return fileID(&st)
}

func fileID(st *unix.Stat_t) string { return sys.Utoa(uint64(st.Dev)) + ":" + sys.Utoa(st.Ino) }

// StubComm is the comm of a stub that has not executed the user's program.
const StubComm = "vitrun:[stub]"

func (l *Launch) record() (*OpError, error) {
	var b [plan.RecordLen]byte
	n, err := sys.Read(l.chans[0], b[:])
	if err == unix.ECONNRESET { // told once, ahead of what is queued: the stub died with our ack unread
		n, err = sys.Read(l.chans[0], b[:])
	}
	if err != nil {
		return nil, wrap("read a record", err)
	}
	if n == 0 {
		return nil, nil
	}
	if n != len(b) {
		return nil, errors.New("short record from the stub")
	}
	return ParseRecord(l.m.p, b[:])
}

// ParseRecord decodes a record; a failure is returned as the error.
func ParseRecord(p *plan.Program, b []byte) (*OpError, error) {
	e := &OpError{Index: int(le.Uint32(b)), Errno: syscall.Errno(le.Uint32(b[4:])), Value: le.Uint64(b[8:])}
	if e.Index < len(p.Ops) {
		e.Op = &p.Ops[e.Index]
	}
	if e.Errno != 0 {
		return nil, e
	}
	return e, nil
}

func (l *Launch) died() error {
	var st syscall.WaitStatus
	if _, err := syscall.Wait4(l.PID, &st, 0, nil); err != nil {
		return wrap("wait for the stub", err)
	}
	l.closePID()
	return &DiedError{st}
}

// abort kills and reaps the stub after an error. Where the parent failed first but the stub has a record, the parent's own
// error stays: it is the cause.
func (l *Launch) abort(err error) error {
	if l.PID == 0 {
		for _, s := range l.m.p.Keep {
			if fd := int(l.m.slots[s]); fd > 2 {
				unix.Close(fd)
			}
		}
	}
	if l.PID != 0 {
		_ = unix.Kill(l.PID, unix.SIGKILL)
		_, _ = syscall.Wait4(l.PID, nil, 0, nil)
		l.closePID()
	}
	return err
}

func (l *Launch) closePID() {
	if l.PIDFD >= 0 {
		unix.Close(l.PIDFD)
	}
	l.PID, l.PIDFD = 0, -1
}

func (l *Launch) closeChans() {
	for i, fd := range l.chans {
		if fd >= 0 {
			unix.Close(fd)
			l.chans[i] = -1
		}
	}
}

func errno(err error) syscall.Errno {
	e := syscall.EIO
	errors.As(err, &e)
	return e
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return &os.SyscallError{Syscall: what, Err: err}
}
