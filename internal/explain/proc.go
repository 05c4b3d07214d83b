package explain

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vitro/internal/sys"
)

// Process is one process as /proc shows it to us. Texts are as the kernel has them: print them through Safe.
type Process struct {
	PID        int
	PPID       int
	PIDs       []int  // its pid in each pid namespace, ours first, its own last (NSpid)
	Name       string // comm
	State      string // "S (sleeping)"
	Threads    int
	UID        [4]uint32 // real, effective, saved, file system; as this process's user namespace sees them
	GID        [4]uint32
	Groups     []uint32 `json:",omitempty"` // supplementary ones; of a process that is not the one explained, at most keptGroups
	MoreGroups int      `json:",omitempty"` // that were left out
	Caps       CapSets
	NoNewPrivs bool
	Seccomp    int           // 0 off, 1 strict, 2 filter
	Filters    int           // number of seccomp filters; -1: the kernel (before 5.9) does not say
	Kernel     bool          `json:",omitempty"` // a kernel thread
	NS         [Kinds]uint64 // inode by kind; 0: may not be read
	Cgroups    []CgroupLine  `json:"-"`
	Command    string        // arguments with a space between, or [comm]
	Container  string        `json:",omitempty"`
	thread     int           // one that lives, by which it is read after its first thread's end

	// Set for the processes of a container only.
	InsideUID   uint32 // effective, in its user namespace
	UserInside  string `json:",omitempty"` // name by the container's /etc/passwd
	UserOutside string `json:",omitempty"`
	Depth       int    // in the tree
}

// CgroupLine is a line of /proc/PID/cgroup.
type CgroupLine struct{ Controllers, Path string }

// maxCommand bounds what is read of a command line, in bytes.
const maxCommand = 1024

// proc is /proc/PID by fd: what is read through it is of one process, even if the pid is used again.
type proc struct{ pid, fd int }

// checkProc refuses to take anything but procfs for the truth.
func checkProc() error {
	var st unix.Statfs_t
	if err := unix.Statfs("/proc", &st); err != nil || st.Type != unix.PROC_SUPER_MAGIC {
		return errors.New("/proc is not a proc file system")
	}
	return nil
}

func openProc(pid int) (proc, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return proc{pid, fd}, err
}

func (p proc) close() { unix.Close(p.fd) }

func (p proc) read(name string) ([]byte, error) {
	fd, err := unix.Openat(p.fd, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return sys.ReadFD(fd)
}

// text is read without the last line end; "" if it cannot be read.
func (p proc) text(name string) string {
	b, err := p.read(name)
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(b), "\n\x00")
}

// head reads at most n bytes.
func (p proc) head(name string, n int) []byte {
	fd, err := unix.Openat(p.fd, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	b := make([]byte, n)
	n, err = sys.Read(fd, b)
	if err != nil {
		return nil
	}
	return b[:n]
}

func (p proc) readlink(name string) string {
	var b [256]byte
	n, err := unix.Readlinkat(p.fd, name, b[:])
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// ns is the inode of a namespace link like ns/pid: "pid:[4026531836]".
func (p proc) ns(name string) uint64 {
	var b [64]byte
	n, err := unix.Readlinkat(p.fd, name, b[:])
	if err != nil {
		return 0
	}
	var inode uint64
	for _, d := range b[bytes.IndexByte(b[:n], '[')+1 : n] {
		if d >= '0' && d <= '9' {
			inode = 10*inode + uint64(d-'0')
		}
	}
	return inode
}

// A process's supplementary groups are kept up to a number: all that the kernel allows of the explained one, few of others.
const maxGroupIDs, keptGroups = 65536, 256

// into reads a file to its end into buf, which grows, by one call where it is large enough. A process may have 65,536 supplementary groups, and in status its
// capabilities come behind them: what is cut off would be hidden.
func (p proc) into(buf *[]byte, name string) ([]byte, error) {
	fd, err := unix.Openat(p.fd, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for n := 0; ; {
		more, err := sys.Read(fd, (*buf)[n:])
		if n += max(more, 0); err != nil || n < len(*buf) {
			return (*buf)[:n], err
		}
		*buf = append(*buf, make([]byte, 3*len(*buf))...)
	}
}

// process reads all but the command line. A kernel thread's namespaces are those of the first one, and not read unless
// kernel says so.
func (p proc) process(buf *[]byte, kernel bool, groups int) (*Process, error) {
	b, err := p.into(buf, "status")
	if err != nil {
		return nil, err
	}
	out := parseStatus(b, groups)
	if out.PID != p.pid { // a thread's id, or nonsense
		return nil, unix.ESRCH
	}
	out.Kernel = out.Kernel || out.PID == 2 && out.PPID == 0 || out.PPID == 2
	if out.Kernel && out.PID != 2 && !kernel {
		return out, nil
	}
	dead := strings.HasPrefix(out.State, "Z")
	for i := range kinds {
		if !dead || i == KindPID || i == KindUser { // a zombie has left the others
			out.NS[i] = p.ns(nsFiles[i])
		}
	}
	b, _ = p.into(buf, "cgroup") // a zombie has none
	out.Cgroups = parseCgroups(string(b))
	return out, nil
}

// statusKeys are read; the others are not worth a string.
var statusKeys = []string{
	"Name", "State", "Pid", "PPid", "Tgid", "Uid", "Gid", "Groups", "NSpid", "Kthread", "Threads",
	"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters",
}

// parseStatus reads /proc/PID/status; the kernel escapes line ends and backslashes in Name (proc_pid_status(5)).
func parseStatus(b []byte, groups int) *Process {
	p := &Process{Filters: -1}
	for line := range bytes.Lines(b) {
		k, v, _ := bytes.Cut(line, []byte(":"))
		if !slices.Contains(statusKeys, string(k)) {
			continue
		}
		if string(k) == "Groups" { // up to 700 KB
			p.parseGroups(v, groups)
			continue
		}
		val := strings.Trim(string(v), " \t\n")
		switch string(k) {
		case "Name":
			p.Name = unescapeName(strings.TrimPrefix(strings.TrimSuffix(string(v), "\n"), "\t"))
		case "State":
			p.State = val
		case "Pid":
			p.PID = atoi(val)
		case "PPid":
			p.PPID = atoi(val)
		case "Tgid":
			if atoi(val) == 0 {
				return p
			}
		case "Uid":
			p.UID = four(val)
		case "Gid":
			p.GID = four(val)
		case "NSpid":
			for _, n := range strings.Fields(val) {
				p.PIDs = append(p.PIDs, atoi(n))
			}
		case "Kthread":
			p.Kernel = val == "1"
		case "Threads":
			p.Threads = atoi(val)
		case "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb":
			n, _ := strconv.ParseUint(val, 16, 64)
			p.Caps.set(string(k[3:]), CapSet(n))
		case "NoNewPrivs":
			p.NoNewPrivs = val == "1"
		case "Seccomp":
			p.Seccomp = atoi(val)
		case "Seccomp_filters":
			p.Filters = atoi(val)
		}
	}
	return p
}

func (p *Process) parseGroups(b []byte, limit int) {
	for b = bytes.TrimLeft(b, " \t"); len(p.Groups) < limit; {
		word, rest, more := bytes.Cut(b, []byte(" "))
		if n, err := strconv.ParseUint(string(word), 10, 32); err == nil {
			p.Groups = append(p.Groups, uint32(n))
		}
		if b = rest; !more {
			return
		}
	}
	p.MoreGroups = bytes.Count(b, []byte(" ")) // each has one behind it
}

func unescapeName(s string) string {
	return strings.NewReplacer(`\n`, "\n", `\\`, `\`).Replace(s)
}

func parseCgroups(text string) (out []CgroupLine) {
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if names, path, ok := strings.Cut(rest, ":"); ok {
			out = append(out, CgroupLine{names, path})
		}
	}
	return out
}

func atoi(s string) int {
	n, _ := strconv.ParseInt(s, 10, 64)
	return int(n)
}

func four(s string) (out [4]uint32) {
	for i, f := range strings.Fields(s) {
		if i < 4 {
			n, _ := strconv.ParseUint(f, 10, 32)
			out[i] = uint32(n)
		}
	}
	return out
}

// machine is every process at one time.
type machine struct {
	all  []*Process
	pid  map[int]*Process
	self *Process
	host [Kinds]uint64 // the host's namespaces
}

// Container is a name for the processes of an init; it is how explain hears of vitro's and vitrun's containers.
type Container struct {
	Name string
	PID  int
}

// aliveBy reads a process whose first thread has ended by another that lives: only its pid, its name and its user namespace are
// still to be had otherwise, and it would pass for a zombie, which has and does nothing.
func aliveBy(p *Process) *Process {
	if p == nil || p.Threads < 2 || !strings.HasPrefix(p.State, "Z") {
		return p
	}
	dir, by, err := threadOf(p, keptGroups)
	if err != nil {
		return p
	}
	dir.close()
	return by
}

// scan reads all processes, and of kernel threads all but the namespaces unless kernel says so. Processes that end meanwhile
// are left out.
func scan(known []Container, kernel bool) (*machine, error) {
	if err := checkProc(); err != nil {
		return nil, err
	}
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	found := make([]*Process, len(names))
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(runtime.GOMAXPROCS(0), 4) {
		wg.Go(func() {
			buf := make([]byte, 8192)
			for i := int(next.Add(1) - 1); i < len(names); i = int(next.Add(1) - 1) {
				pid, err := strconv.Atoi(names[i].Name())
				if err != nil {
					continue
				}
				if p, err := openProc(pid); err == nil {
					found[i], _ = p.process(&buf, kernel, keptGroups) // nil: it has ended
					p.close()
					found[i] = aliveBy(found[i])
				}
			}
		})
	}
	wg.Wait()
	m := &machine{pid: make(map[int]*Process, len(names))}
	for _, p := range found {
		if p != nil {
			m.all = append(m.all, p)
			m.pid[p.PID] = p
		}
	}
	slices.SortFunc(m.all, func(a, b *Process) int { return a.PID - b.PID })
	m.self = m.pid[os.Getpid()]
	if m.self == nil {
		return nil, fmt.Errorf("process %d is not in /proc: it is of another pid namespace", os.Getpid())
	}
	m.host = m.hostNamespaces()
	for _, p := range m.all {
		if p.Kernel && p.NS[KindPID] == 0 {
			p.NS = m.host
		}
	}
	m.nameContainers(known)
	return m, nil
}

// hostNamespaces are those of pid 1, or where they may not be read those of the kernel's threads; else our own.
func (m *machine) hostNamespaces() (out [Kinds]uint64) {
	for _, p := range []*Process{m.pid[1], m.pid[2], m.self} {
		for i := range out {
			if out[i] == 0 && p != nil && (p.PID != 2 || p.Kernel) {
				out[i] = p.NS[i]
			}
		}
	}
	return out
}

// nameContainers gives each process the name of its container: a known init's by cgroup or pid namespace, else what the
// cgroup's path says (docker, podman, containerd, CRI-O name it after the container).
func (m *machine) nameContainers(known []Container) {
	inits := map[uint64]string{}
	groups := map[string]string{}
	for _, c := range known {
		p := m.pid[c.PID]
		if p == nil {
			continue
		}
		if ns := p.NS[KindPID]; ns != 0 && ns != m.host[KindPID] {
			inits[ns] = c.Name
		}
		for _, g := range p.Cgroups {
			if g.Path != "/" && m.ownCgroup(g) {
				groups[g.Controllers+":"+g.Path] = c.Name
			}
		}
	}
	for _, p := range m.all {
		if p.Kernel {
			continue
		}
		if p.Container = inits[p.NS[KindPID]]; p.Container != "" {
			continue
		}
		for _, g := range p.Cgroups {
			if p.Container = groups[g.Controllers+":"+g.Path]; p.Container != "" {
				break
			}
		}
		if p.Container == "" {
			p.Container = containerOfCgroups(p.Cgroups)
		}
	}
}

// ownCgroup: no init but a container's own is in its group; a group that we are in, too, names nothing.
func (m *machine) ownCgroup(g CgroupLine) bool { return !slices.Contains(m.self.Cgroups, g) }

// containerOfCgroups finds "docker 0123456789ab" in a path like /system.slice/docker-<64 hex>.scope or /docker/<64 hex>.
func containerOfCgroups(lines []CgroupLine) string {
	for _, l := range lines {
		parts := strings.Split(l.Path, "/")
		for i := 1; i < len(parts); i++ {
			name := strings.TrimSuffix(parts[i], ".scope")
			engine := parts[i-1]
			id := name
			if j := strings.LastIndexByte(name, '-'); j >= 0 {
				engine, id = name[:j], name[j+1:]
			}
			if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" || strings.HasSuffix(engine, "conmon") {
				continue
			}
			switch strings.TrimSuffix(engine, ".slice") {
			case "libpod", "libpod_parent":
				engine = "podman"
			case "cri-containerd":
				engine = "containerd"
			case "crio":
				engine = "cri-o"
			case "vitro":
				engine = "vitro"
			case "docker":
				engine = "docker"
			default:
				engine = "container"
			}
			return engine + " " + id[:12]
		}
	}
	return ""
}
