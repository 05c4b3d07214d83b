package explain

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Views in the order in which they are printed.
var Views = []string{"processes", "namespaces", "cgroup", "capabilities", "mounts", "users", "network", "security"}

// Options say what to explain. The functions and lists come from who knows more than the kernel: the engine.
type Options struct {
	PID        int      // any process of the container; its init shows most
	Name       string   // what the container is called; "": as its cgroup says
	Views      []string // nil: all
	Containers []Container
	Layers     func(lowerdirs []string) []Layer // lower folders of an overlay, topmost first; nil: unknown
	Volumes    []string                         // folders of volumes
}

// Facts is all that is known of a container; a view that was not asked for is nil.
type Facts struct {
	PID          int
	Name         string `json:",omitempty"`
	Command      string
	Hostname     string        `json:",omitempty"`
	Basis        string        // how the processes were found that belong to it
	Processes    []*Process    `json:",omitempty"`
	Threads      []*Process    `json:",omitempty"` // with rights that the first thread of their process does not have; PIDs are their ids
	Unread       int           `json:"UnreadThreads,omitempty"`
	Namespaces   []Namespace   `json:",omitempty"`
	Cgroup       *Cgroup       `json:",omitempty"`
	Capabilities *Capabilities `json:",omitempty"`
	Mounts       *Mounts       `json:",omitempty"`
	Users        *Users        `json:",omitempty"`
	Network      *Network      `json:",omitempty"`
	Security     []Finding     `json:",omitempty"`

	host [Kinds]uint64 // namespaces of the host
}

// target is the process that is explained, held by fd.
type target struct {
	p     *Process
	dir   proc
	root  int // its root folder, O_PATH; -1: not to be had
	procs []*Process
	has   map[int]bool
	basis string

	uids, gids                             IDMap
	usersIn, groupsIn, usersOut, groupsOut names
	mounts, hostMounts                     []Mount
}

// Gather reads the facts of one container. It changes nothing and starts nothing.
func Gather(o Options) (*Facts, error) {
	for _, v := range o.Views {
		if !slices.Contains(Views, v) {
			return nil, fmt.Errorf("--view: %q is not one of %s", v, strings.Join(Views, ", "))
		}
	}
	var bits chan *Securebits
	if o.wants("capabilities") {
		bits = make(chan *Securebits, 1)
		go func() { bits <- readSecurebits(o.PID) }() // while the processes are read
	}
	m, err := scan(o.Containers, false)
	if err != nil {
		return nil, err
	}
	t, err := m.target(o.PID)
	if err != nil {
		return nil, err
	}
	defer t.close()
	f := &Facts{PID: o.PID, Name: o.Name, Basis: t.basis, host: m.host}
	if f.Name == "" {
		f.Name = t.p.Container
	}
	m.gather(t, o, f)
	if bits != nil {
		got := <-bits
		if f.Capabilities != nil {
			f.Capabilities.Securebits = got
		}
	}
	f.Command = t.p.Command
	return f, nil
}

func (o *Options) wants(view string) bool { return o.Views == nil || slices.Contains(o.Views, view) }

func (m *machine) gather(t *target, o Options, f *Facts) {
	want := func(v string) bool { return o.wants(v) || o.wants("security") }
	var wg sync.WaitGroup
	if want("network") {
		wg.Go(func() { f.Network = m.network(t) })
	}
	if want("capabilities") {
		wg.Go(func() { c := m.capabilities(t); f.Capabilities = &c })
	}
	wg.Go(func() { f.Hostname = hostname(t.dir) })
	readCommands(t.procs)
	t.loadNames()
	f.Processes = m.tree(t)
	if want("capabilities") {
		f.Threads, f.Unread = threads(f.Processes)
	}
	if want("namespaces") {
		f.Namespaces = m.namespaces(t)
	}
	if want("cgroup") {
		f.Cgroup = m.cgroup(t)
	}
	if want("mounts") {
		f.Mounts = m.explainMounts(t, o)
	}
	if want("users") {
		u := m.users(t)
		f.Users = &u
	}
	wg.Wait()
	if o.wants("security") {
		f.Security = findings(f)
	}
	f.only(o)
}

// only forgets what was gathered for the findings alone.
func (f *Facts) only(o Options) {
	drop := func(v string) bool { return !o.wants(v) }
	if drop("processes") {
		f.Processes = nil
	}
	if drop("namespaces") {
		f.Namespaces = nil
	}
	if drop("cgroup") {
		f.Cgroup = nil
	}
	if drop("capabilities") {
		f.Capabilities, f.Threads, f.Unread = nil, nil, 0
	}
	if drop("mounts") {
		f.Mounts = nil
	}
	if drop("users") {
		f.Users = nil
	}
	if drop("network") {
		f.Network = nil
	}
}

func (m *machine) target(pid int) (*target, error) {
	dir, err := openProc(pid)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, noProcess(err))
	}
	p, err := dir.process(new(make([]byte, 1<<16)), true, maxGroupIDs)
	if err != nil {
		dir.close()
		return nil, fmt.Errorf("process %d: %w", pid, noProcess(err))
	}
	if strings.HasPrefix(p.State, "Z") {
		dir.close()
		if dir, p, err = threadOf(p, maxGroupIDs); err != nil {
			return nil, err
		}
	}
	if old := m.pid[pid]; old != nil {
		p.Container, old.NS = old.Container, p.NS // its first thread may have ended since
	}
	t := &target{p: p, dir: dir, has: map[int]bool{}}
	t.uids, t.gids = parseIDMap(dir.text("uid_map")), parseIDMap(dir.text("gid_map"))
	if t.root, err = openat(dir.fd, "root", unix.O_PATH|unix.O_DIRECTORY); err != nil {
		t.root = -1
	}
	b, err := dir.read("mountinfo")
	if err != nil {
		t.close()
		return nil, fmt.Errorf("process %d: mounts: %w", pid, noProcess(err))
	}
	t.mounts = parseMounts(string(b))
	if self, err := openProc(m.self.PID); err == nil {
		t.hostMounts = parseMounts(self.text("mountinfo"))
		self.close()
	}
	m.members(t)
	return t, nil
}

// threadOf finds a thread that lives in a process whose first one has ended, to look through; the process stays what it is.
func threadOf(leader *Process, groups int) (proc, *Process, error) {
	tasks, _ := os.ReadDir("/proc/" + strconv.Itoa(leader.PID) + "/task")
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil || tid == leader.PID {
			continue
		}
		fd, err := unix.Open("/proc/"+strconv.Itoa(leader.PID)+"/task/"+t.Name(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		dir := proc{tid, fd}
		if p, err := dir.process(new(make([]byte, 1<<13)), true, groups); err == nil && !strings.HasPrefix(p.State, "Z") {
			p.thread, p.PID, p.PIDs, p.Name, p.State = tid, leader.PID, leader.PIDs, leader.Name, strings.TrimSuffix(p.State, ")")+", its first thread has ended)"
			return dir, p, nil
		}
		dir.close()
	}
	return proc{}, nil, fmt.Errorf("process %d has ended, and its parent has not asked for its status: of a zombie there is nothing to explain", leader.PID)
}

func (t *target) close() {
	if t.root >= 0 {
		unix.Close(t.root)
	}
	t.dir.close()
}

func noProcess(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return errors.New("no such process")
	}
	return err
}

func (t *target) userNS(m *machine) bool { return t.p.NS[KindUser] != m.host[KindUser] }

// members finds the processes that belong to t: those of its pid namespace and the ones below, or of its cgroup where it
// is not everybody's, or else its descendants.
func (m *machine) members(t *target) {
	depth := len(t.p.PIDs)
	switch {
	case t.p.NS[KindPID] != m.host[KindPID] && t.p.NS[KindPID] != m.self.NS[KindPID]:
		t.basis = "pid namespace"
		t.add(m, func(p *Process) bool {
			return p.NS[KindPID] == t.p.NS[KindPID] || len(p.PIDs) > depth && t.has[p.PPID] || t.p.Container != "" && p.Container == t.p.Container
		})
	case t.p.Container != "":
		t.basis = "cgroup"
		t.add(m, func(p *Process) bool { return p.Container == t.p.Container })
	default:
		t.basis = "descent"
		t.add(m, func(p *Process) bool { return p.PID == t.p.PID || t.has[p.PPID] })
	}
}

// add takes processes until no more are found: a child may have a lower pid than its parent.
func (t *target) add(m *machine, belongs func(*Process) bool) {
	for more := true; more; {
		more = false
		for _, p := range m.all {
			if !t.has[p.PID] && (p.PID == t.p.PID || belongs(p)) {
				t.has[p.PID], more = true, true
				if p.PID == t.p.PID {
					p = t.p
				}
				t.procs = append(t.procs, p)
			}
		}
	}
}

// tree puts the processes of the container in order, children behind their parents, and finds out who they are.
func (m *machine) tree(t *target) (out []*Process) {
	maps := map[uint64]IDMap{t.p.NS[KindUser]: t.uids}
	children := map[int][]*Process{}
	for _, p := range t.procs {
		parent := p.PPID
		if !t.has[parent] {
			parent = 0
		}
		children[parent] = append(children[parent], p)
	}
	var walk func(pid, depth int)
	walk = func(pid, depth int) {
		list := children[pid]
		slices.SortFunc(list, func(a, b *Process) int { return a.PID - b.PID })
		for _, p := range list {
			p.Depth = depth
			own, ok := maps[p.NS[KindUser]]
			if !ok {
				if dir, err := openProc(p.PID); err == nil {
					own = parseIDMap(dir.text("uid_map"))
					dir.close()
				}
				maps[p.NS[KindUser]] = own
			}
			p.InsideUID = own.inside(p.UID[1])
			p.UserInside, p.UserOutside = t.usersIn[p.InsideUID], t.usersOut[p.UID[1]]
			out = append(out, p)
			walk(p.PID, depth+1)
		}
	}
	walk(0, 0)
	return out
}

// patience is how long one command line may take. A process can put its arguments on memory that a program of its own
// serves (userfaultfd, FUSE), and let the reader wait for ever. On a busy or emulated machine 30 ms are not enough for an honest one.
const patience = 100 * time.Millisecond

// readCommands fills in Command; a process that keeps us waiting is named by its comm.
func readCommands(ps []*Process) {
	type result struct {
		i    int
		text string
	}
	for from, stalls := 0, 0; from < len(ps); {
		pids := make([]int, 0, len(ps)-from)
		for _, p := range ps[from:] {
			p.Command = "[" + p.Name + "]"
			pids = append(pids, cmp.Or(p.thread, p.PID)) // a thread's folder is in /proc, too
		}
		if stalls == 3 {
			return
		}
		ch := make(chan result, len(pids))
		go func(from int) {
			for i, pid := range pids {
				ch <- result{from + i, commandLine(pid)}
			}
			close(ch)
		}(from)
		timer := time.NewTimer(patience)
	results:
		for {
			select {
			case r, ok := <-ch:
				if !ok {
					return
				}
				if from = r.i + 1; r.text != "" {
					ps[r.i].Command = r.text
				}
				timer.Reset(patience)
			case <-timer.C:
				from, stalls = from+1, stalls+1
				break results
			}
		}
	}
}

func commandLine(pid int) string {
	dir, err := openProc(pid)
	if err != nil {
		return ""
	}
	defer dir.close()
	b := dir.head("cmdline", maxCommand)
	return strings.TrimRight(strings.ReplaceAll(string(b), "\x00", " "), " ")
}

// hostname asks the UTS namespace.
func hostname(dir proc) string {
	fd, err := openat(dir.fd, "ns/uts", unix.O_RDONLY)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	name := ""
	inThread(func() {
		var u unix.Utsname
		if unix.Setns(fd, unix.CLONE_NEWUTS) == nil && unix.Uname(&u) == nil {
			name = unix.ByteSliceToString(u.Nodename[:])
		}
	})
	return name
}

// CapsOf lists processes with capabilities: those of containers, or with all every process that has one. A thread whose sets
// are not those of the first one of its process follows it; unread is how many threads were not looked at.
func CapsOf(known []Container, all bool) (out []*Process, unread int, err error) {
	m, err := scan(known, all)
	if err != nil {
		return nil, 0, err
	}
	for _, p := range m.all {
		if p.PID == os.Getpid() || p.Kernel && !all {
			continue
		}
		if p.Container != "" || all && p.Caps.Permitted|p.Caps.Effective != 0 {
			out = append(out, p)
		}
	}
	others, unread := threads(out)
	for _, t := range others {
		p := m.pid[t.PID]
		if t.Caps != p.Caps || t.UID != p.UID {
			i := slices.Index(out, p) + 1
			out = slices.Insert(out, i, t)
		}
	}
	users := hostNames("etc/passwd")
	for _, p := range out {
		p.UserOutside = users[p.UID[1]]
	}
	readCommands(out)
	return out, unread, nil
}
