package explain

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"vitro/internal/cgroup"
	"vitro/internal/sys"
)

// Cgroup is where a process is in every hierarchy, and what limits it there (cgroups(7)).
type Cgroup struct {
	Mode      string // v1, hybrid, v2
	Paths     []CgroupPath
	Limits    []Limit
	OOMKills  *int64     `json:",omitempty"` // in its memory cgroup; nil: not counted by this kernel
	Throttled *int64     `json:",omitempty"` // periods in which the CPU quota was used up
	Pressure  []Pressure `json:",omitempty"` // of its cgroup on v2
	Freezer   string     // frozen, thawed, freezing, unknown
	Devices   []string   `json:",omitempty"` // v1: rules of devices.list
	DevicesV2 int        // programs that check devices on v2, up the tree
}

// CgroupPath is a place in one hierarchy.
type CgroupPath struct {
	Controllers string // "cpu,cpuacct", "name=systemd"; "" is v2
	Path        string // as /proc/PID/cgroup has it
	Folder      string `json:",omitempty"` // "": the hierarchy is not mounted here, or the path is out of sight
}

// Limit is one thing that can be limited.
type Limit struct {
	What      string // "memory"
	File      string // "memory.limit_in_bytes"
	Own       string // content of the container's own file
	Unlimited bool   // nothing up the tree limits it
	Value     int64  `json:",omitempty"` // the effective one: bytes, a count, or millicores for CPU time
	Text      string // the same for people
	From      string `json:",omitempty"` // cgroup that it comes from
	Use       string `json:",omitempty"` // for people
}

// Pressure is a line of *.pressure (Documentation/accounting/psi.rst): percent of the time that something waited.
type Pressure struct {
	What, Kind           string // cpu, some
	Avg10, Avg60, Avg300 string
}

// limitDef is a limit of a controller; files of v1 and v2 with those of its use.
type limitDef struct {
	what, controller, v1, use1, v2, use2 string
	unit                                 unit
}

type unit uint8

const (
	bytesUnit unit = iota
	countUnit
	quotaUnit  // cpu.max, cpu.cfs_quota_us
	weightUnit // a share of what siblings have, too: nothing to add up, no smallest
	setUnit    // cpusets: the kernel has the effective one in a file of its own
	linesUnit  // one line for a device
)

var limitDefs = []limitDef{
	{"memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max", "memory.current", bytesUnit},
	{"memory before reclaim", "memory", "memory.soft_limit_in_bytes", "", "memory.high", "", bytesUnit},
	{"memory and swap", "memory", "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes", "", "", bytesUnit},
	{"swap", "memory", "", "", "memory.swap.max", "memory.swap.current", bytesUnit},
	{"kernel memory", "memory", "memory.kmem.limit_in_bytes", "memory.kmem.usage_in_bytes", "", "", bytesUnit},
	{"TCP buffers", "memory", "memory.kmem.tcp.limit_in_bytes", "memory.kmem.tcp.usage_in_bytes", "", "", bytesUnit},
	{"pids", "pids", "pids.max", "pids.current", "pids.max", "pids.current", countUnit},
	{"CPU time", "cpu", "cpu.cfs_quota_us", "", "cpu.max", "", quotaUnit},
	{"CPU weight", "cpu", "cpu.shares", "", "cpu.weight", "", weightUnit},
	{"CPUs", "cpuset", "cpuset.effective_cpus", "", "cpuset.cpus.effective", "", setUnit},
	{"memory nodes", "cpuset", "cpuset.effective_mems", "", "cpuset.mems.effective", "", setUnit},
	{"I/O weight", "io", "blkio.weight", "", "io.weight", "", weightUnit},
	{"I/O", "io", "", "", "io.max", "", linesUnit},
	{"reads, bytes/s", "blkio", "blkio.throttle.read_bps_device", "", "", "", linesUnit},
	{"writes, bytes/s", "blkio", "blkio.throttle.write_bps_device", "", "", "", linesUnit},
	{"reads/s", "blkio", "blkio.throttle.read_iops_device", "", "", "", linesUnit},
	{"writes/s", "blkio", "blkio.throttle.write_iops_device", "", "", "", linesUnit},
	{"RDMA", "rdma", "rdma.max", "rdma.current", "rdma.max", "rdma.current", linesUnit},
	{"misc", "misc", "misc.max", "misc.current", "misc.max", "misc.current", linesUnit},
}

// unlimitedV1 is a page less than 2^63: what memory.limit_in_bytes has from the start.
const unlimitedV1 = 1<<63 - 1 - 1<<20

// tree is a process's place in one hierarchy with the folders above it, lowest first.
type tree struct {
	controllers []string
	v2          bool
	mount       string
	paths       []string // cgroup paths: "/a/b", "/a", "/"
}

func (t *tree) file(i int, name string) (string, bool) {
	b, err := sys.ReadFile(t.mount + t.paths[i] + "/" + name)
	return strings.TrimSpace(string(b)), err == nil
}

// cgroup is nil where no cgroups are mounted.
func (m *machine) cgroup(t *target) *Cgroup {
	l, err := cgroup.Detect()
	if err != nil {
		return nil
	}
	out := &Cgroup{Mode: map[cgroup.Mode]string{cgroup.V1: "v1", cgroup.Hybrid: "hybrid", cgroup.V2: "v2"}[l.Mode], Freezer: "unknown"}
	var trees []tree
	for _, g := range t.p.Cgroups {
		p := CgroupPath{Controllers: g.Controllers, Path: g.Path}
		if tr, ok := m.place(l, t.hostMounts, g); ok {
			p.Folder = tr.mount + strings.TrimSuffix(tr.paths[0], "/")
			trees = append(trees, tr)
		}
		out.Paths = append(out.Paths, p)
	}
	for _, tr := range trees {
		for _, d := range limitDefs {
			if lim, ok := tr.limit(d); ok {
				out.Limits = append(out.Limits, lim)
			}
		}
		out.Limits = append(out.Limits, tr.hugetlb()...)
		out.state(&tr)
	}
	out.cpuUse(trees)
	order := map[string]int{}
	for i, d := range limitDefs {
		order[d.what] = i - len(limitDefs)
	}
	slices.SortStableFunc(out.Limits, func(a, b Limit) int { return order[a.What] - order[b.What] })
	return out
}

// cpuUse: cpuacct may be a hierarchy of its own.
func (c *Cgroup) cpuUse(trees []tree) {
	i := slices.IndexFunc(c.Limits, func(l Limit) bool { return l.What == "CPU time" && l.Use == "" })
	for _, t := range trees {
		if i >= 0 && slices.Contains(t.controllers, "cpuacct") {
			c.Limits[i].Use = t.use(limitDef{unit: quotaUnit}, "")
		}
	}
}

// place finds the folder of a line of /proc/PID/cgroup. A path that begins with /.. is above our cgroup namespace.
func (m *machine) place(l *cgroup.Layout, mounts []Mount, g CgroupLine) (tree, bool) {
	for _, h := range l.Hierarchies {
		if h.Controllers != g.Controllers {
			continue
		}
		root := "/"
		for i := range mounts {
			if mounts[i].Point == h.Mount {
				root = mounts[i].Root
			}
		}
		rest, ok := below(root, g.Path)
		if !ok || strings.HasPrefix(g.Path, "/..") || strings.HasSuffix(g.Path, " (deleted)") {
			return tree{}, false
		}
		rest = "/" + strings.Trim(rest, "/")
		t := tree{controllers: strings.Split(g.Controllers, ","), v2: g.Controllers == "", mount: h.Mount}
		for p := rest; ; p = filepath.Dir(p) {
			if t.paths = append(t.paths, p); p == "/" {
				return t, true
			}
		}
	}
	return tree{}, false
}

// limit reads one limit up the tree. Without the file at the process's own place the controller is not there.
func (t *tree) limit(d limitDef) (Limit, bool) {
	file, use := d.v1, d.use1
	if t.v2 {
		file, use = d.v2, d.use2
	}
	has := t.v2 || slices.Contains(t.controllers, d.controller) || d.controller == "io" && slices.Contains(t.controllers, "blkio")
	if file == "" || !has {
		return Limit{}, false
	}
	lim := Limit{What: d.what, File: file}
	seen := false
	for i, p := range t.paths {
		text, ok := t.file(i, file)
		if !ok {
			continue
		}
		if i == 0 {
			lim.Own = text
		}
		if !seen {
			seen, lim.Unlimited = true, d.unit != setUnit && d.unit != weightUnit
		}
		if d.unit == setUnit || d.unit == weightUnit {
			lim.Text, lim.From = text, t.setFrom(d, i)
			break
		}
		if d.unit == linesUnit {
			if text != "" && lim.Text == "" && !onlyMax(text) {
				lim.Unlimited, lim.Text, lim.From = false, strings.ReplaceAll(text, "\n", "; "), p
			}
			continue
		}
		if n, ok := t.number(d.unit, i, text); ok && (lim.Unlimited || n < lim.Value) {
			lim.Unlimited, lim.Value, lim.From = false, n, p
		}
	}
	if !seen { // the root has no files of most limits
		lim.Unlimited = t.root(d)
		if !lim.Unlimited {
			return lim, false
		}
	}
	switch {
	case lim.Unlimited:
		lim.Text = "unlimited"
	case lim.Text == "":
		lim.Text = d.unit.text(lim.Value)
	}
	lim.Use = t.use(d, use)
	return lim, true
}

// root: the process is in the root of a hierarchy that has the controller.
func (t *tree) root(d limitDef) bool {
	if len(t.paths) > 1 || d.unit == setUnit || d.unit == weightUnit {
		return false
	}
	all, _ := t.file(0, "cgroup.controllers")
	return !t.v2 && slices.Contains(t.controllers, d.controller) && d.controller == "pids" ||
		t.v2 && slices.Contains(strings.Fields(all), d.controller)
}

func onlyMax(text string) bool {
	for _, f := range strings.Fields(text) {
		if k, v, ok := strings.Cut(f, "="); ok && v != "max" && k != "" {
			return false
		}
	}
	return strings.Contains(text, "max")
}

// setFrom is the cgroup whose own cpuset makes the effective one: the lowest that names any.
func (t *tree) setFrom(d limitDef, _ int) string {
	if d.unit == weightUnit {
		return t.paths[0]
	}
	name := map[string]string{"CPUs": "cpuset.cpus", "memory nodes": "cpuset.mems"}[d.what]
	for i, p := range t.paths {
		if text, ok := t.file(i, name); ok && text != "" {
			return p
		}
	}
	return "/"
}

// number reads a limit; false means that there is none.
func (t *tree) number(u unit, i int, text string) (int64, bool) {
	first, rest, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(first, 10, 64)
	if err != nil || n < 0 { // max, -1
		return 0, false
	}
	switch u {
	case bytesUnit:
		return n, n < unlimitedV1
	case quotaUnit:
		if !t.v2 {
			rest, _ = t.file(i, "cpu.cfs_period_us")
		}
		if period, _ := strconv.ParseInt(rest, 10, 64); period > 0 {
			return n * 1000 / period, true
		}
		return 0, false
	}
	return n, true
}

func (u unit) text(n int64) string {
	switch u {
	case bytesUnit:
		return Bytes(n)
	case quotaUnit:
		return strconv.FormatFloat(float64(n)/1000, 'f', -1, 64) + " CPUs"
	}
	return strconv.FormatInt(n, 10)
}

// Bytes formats a number of bytes.
func Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	s := strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0")
	return s + " " + units[i]
}

func (t *tree) use(d limitDef, name string) string {
	if d.unit == quotaUnit {
		if usec, ok := t.stat("cpu.stat", "usage_usec"); ok {
			return fmt.Sprintf("%.2f s", float64(usec)/1e6)
		}
		if text, ok := t.file(0, "cpuacct.usage"); ok {
			n, _ := strconv.ParseInt(text, 10, 64)
			return fmt.Sprintf("%.2f s", float64(n)/1e9)
		}
		return ""
	}
	if name == "" {
		return ""
	}
	text, ok := t.file(0, name)
	n, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil {
		return strings.ReplaceAll(text, "\n", "; ")
	}
	return d.unit.text(n)
}

// hugetlb has a limit for each size of pages.
func (t *tree) hugetlb() (out []Limit) {
	if !t.v2 && !slices.Contains(t.controllers, "hugetlb") {
		return nil
	}
	entries, _ := os.ReadDir(t.mount + t.paths[0])
	for _, e := range entries {
		size, ok := strings.CutPrefix(e.Name(), "hugetlb.")
		size, file, _ := strings.Cut(size, ".")
		if !ok || file != "max" && file != "limit_in_bytes" {
			continue
		}
		d := limitDef{"huge pages of " + size, "hugetlb", e.Name(), "hugetlb." + size + ".usage_in_bytes", e.Name(), "hugetlb." + size + ".current", bytesUnit}
		if l, ok := t.limit(d); ok {
			out = append(out, l)
		}
	}
	return out
}

// stat is a line of a file like memory.events.
func (t *tree) stat(file, key string) (int64, bool) {
	text, ok := t.file(0, file)
	if !ok {
		return 0, false
	}
	for line := range strings.Lines(text) {
		if k, v, _ := strings.Cut(strings.TrimSpace(line), " "); k == key {
			n, err := strconv.ParseInt(v, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// state adds what is no limit: OOM kills, pressure, freezer, devices.
func (c *Cgroup) state(t *tree) {
	for _, f := range []string{"memory.events", "memory.oom_control"} {
		if n, ok := t.stat(f, "oom_kill"); ok {
			c.OOMKills = &n
		}
	}
	if n, ok := t.stat("cpu.stat", "nr_throttled"); ok {
		c.Throttled = &n
	}
	if s, ok := t.file(0, "freezer.state"); ok {
		c.Freezer = strings.ToLower(s)
	} else if slices.Contains(t.controllers, "freezer") {
		c.Freezer = "thawed" // the root has no file, and cannot be frozen
	}
	if n, ok := t.stat("cgroup.events", "frozen"); ok && (c.Freezer == "unknown" || n == 1) {
		c.Freezer = [...]string{"thawed", "frozen"}[n&1]
	}
	if s, ok := t.file(0, "devices.list"); ok {
		for line := range strings.Lines(s) {
			c.Devices = append(c.Devices, strings.TrimSpace(line))
		}
	}
	if !t.v2 {
		return
	}
	for i := range t.paths {
		c.DevicesV2 += devicePrograms(t.mount + t.paths[i])
	}
	for _, what := range []string{"cpu", "memory", "io"} {
		text, _ := t.file(0, what+".pressure")
		for line := range strings.Lines(text) {
			if f := strings.Fields(line); len(f) >= 4 {
				after := func(s string) string { _, v, _ := strings.Cut(s, "="); return v }
				c.Pressure = append(c.Pressure, Pressure{what, f[0], after(f[1]), after(f[2]), after(f[3])})
			}
		}
	}
}

// devicePrograms counts the BPF programs of one folder that check device access.
func devicePrograms(folder string) int {
	fd, err := unix.Open(folder, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	return attachedPrograms(fd)
}

// Group is a cgroup of the machine.
type Group struct {
	Controllers string // "cpu,cpuacct", "name=systemd", "" for v2
	Path        string // escaped by Safe: it may be stored and compared as text
	Processes   int    // in it, not below
	Containers  []string
}

// Snapshot is all cgroups at one time.
type Snapshot struct{ Groups []Group }

// Change is a cgroup that came or went.
type Change struct {
	Sign string // "+" or "-"
	Group
}

// maxGroups bounds what is read of a machine.
const maxGroups = 100000

// Groups lists the machine's cgroups, hierarchy by hierarchy.
func Groups(known []Container) (*Snapshot, error) {
	m, err := scan(known, true)
	if err != nil {
		return nil, err
	}
	l, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	count := map[CgroupLine][]*Process{}
	for _, p := range m.all {
		for _, g := range p.Cgroups {
			count[g] = append(count[g], p)
		}
	}
	s := &Snapshot{}
	for _, h := range l.Hierarchies {
		fd, err := unix.Open(h.Mount, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("cgroups: %s: %w", h.Mount, err)
		}
		s.walk(fd, h.Controllers, "", count)
		unix.Close(fd)
	}
	return s, nil
}

// walk goes by fd: a path of nested cgroups may be longer than PATH_MAX.
func (s *Snapshot) walk(dir int, controllers, p string, count map[CgroupLine][]*Process) {
	g := Group{Controllers: controllers, Path: Safe("/"+strings.TrimPrefix(p, "/"), 0)}
	ps := count[CgroupLine{controllers, "/" + strings.TrimPrefix(p, "/")}]
	for g.Processes = len(ps); len(ps) > 0; ps = ps[1:] {
		if c := ps[0].Container; c != "" && !slices.Contains(g.Containers, c) {
			g.Containers = append(g.Containers, c)
		}
	}
	if s.Groups = append(s.Groups, g); len(s.Groups) >= maxGroups {
		return
	}
	fd, err := openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), p)
	entries, _ := f.ReadDir(-1)
	f.Close()
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if sub, err := openat(dir, e.Name(), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW); err == nil {
			s.walk(sub, controllers, p+"/"+e.Name(), count)
			unix.Close(sub)
		}
	}
}

// Since compares with an older snapshot: what was added, and what removed.
func (s *Snapshot) Since(old *Snapshot) (out []Change) {
	type key struct{ controllers, path string }
	index := func(s *Snapshot) map[key]bool {
		m := map[key]bool{}
		for _, g := range s.Groups {
			m[key{g.Controllers, g.Path}] = true
		}
		return m
	}
	before, now := index(old), index(s)
	for _, g := range old.Groups {
		if !now[key{g.Controllers, g.Path}] {
			out = append(out, Change{"-", g})
		}
	}
	for _, g := range s.Groups {
		if !before[key{g.Controllers, g.Path}] {
			out = append(out, Change{"+", g})
		}
	}
	return out
}

// ParseSnapshot reads what JSON wrote of a Snapshot.
func ParseSnapshot(b []byte) (*Snapshot, error) {
	s := &Snapshot{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("no snapshot of cgroups: %w", err)
	}
	if len(s.Groups) == 0 { // a machine has the roots at least
		return nil, errors.New("no snapshot of cgroups: it has no Groups")
	}
	for i := range s.Groups {
		for _, t := range []*string{&s.Groups[i].Controllers, &s.Groups[i].Path} {
			if strings.ContainsFunc(*t, func(r rune) bool { return !unicode.IsPrint(r) || blank(r) }) {
				return nil, fmt.Errorf("no snapshot of cgroups: groups[%d] has characters that are not escaped", i)
			}
		}
	}
	return s, nil
}
