package cgroup

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"

	"vitro/internal/plan"
	"vitro/internal/sys"

	"golang.org/x/sys/unix"
)

// Group is a container's place in every hierarchy.
type Group struct {
	Mode     Mode
	UserNS   bool      // the caller is in a user namespace of somebody's
	FD       plan.Slot // v2, after Plan: the folder's fd, for CLONE_INTO_CGROUP; 0 where there is no group (rootless)
	Warnings []string  // after Plan: settings that were left out

	places    []place
	made      []string // folders that a start makes, parents first
	skipped   []string // controllers whose folder cannot be made by a rootless caller
	cpuset    []level  // v1: folders whose cpuset files are to be filled
	available string   // v2: cgroup.controllers of the mount's root
	enable    string   // v2: controllers to be enabled on the way down
	thread    bool     // v2: the parent is threaded, the group has to be
	noDev     bool     // device rules cannot be set here
	procs     int      // processes that are already in the group
	frozen    bool
}

type place struct {
	controllers string
	path        string // absolute
	base        int    // path[:base] is the mount point or the own folder: not made by us
	mount       int    // path[:mount] is the mount point
	existed     bool
}

// level is a cpuset folder and what its parent has.
type level struct{ path, cpus, mems string }

// Group places a container: an absolute cgroupsPath starts at each mount's root, a relative one (or id, when it is empty)
// at this process's own folder; on v2 at the parent of that, which may have controllers to give (cgroups(7),
// "no internal processes"). It looks at what is there, and makes nothing. The caller adds the field's name to an error.
func (l *Layout) Group(cgroupsPath, id string) (*Group, error) {
	rel := cgroupsPath
	if rel == "" {
		rel = id
	}
	sub, err := clean(rel)
	if err != nil {
		return nil, err
	}
	g := &Group{Mode: l.Mode, UserNS: l.UserNS, noDev: l.Rootless, places: make([]place, 0, len(l.Hierarchies))}
	for i := range l.Hierarchies {
		h := &l.Hierarchies[i]
		base := h.Mount
		if rel[0] != '/' {
			base += h.Own
			if l.Mode == V2 && h.Own != "" {
				base = base[:strings.LastIndexByte(base, '/')]
			}
		}
		g.places = append(g.places, place{controllers: h.Controllers, path: base + sub, base: len(base), mount: len(h.Mount)})
	}
	for i := 0; i < len(g.places); i++ {
		if g.look(&g.places[i], l.Rootless && cgroupsPath == "") {
			continue
		}
		g.skipped = append(g.skipped, g.places[i].controllers)
		g.places = append(g.places[:i], g.places[i+1:]...)
		i--
	}
	if l.Mode == V2 && len(g.places) > 0 {
		g.lookV2(l.Available)
	}
	return g, g.lookInside()
}

// clean is path as "/a/b", without empty and "." parts.
func clean(path string) (string, error) {
	for rest := path; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		if part == ".." {
			return "", errors.New(path + ": must not contain \"..\"")
		}
		if strings.IndexByte(part, 0) >= 0 || strings.IndexByte(part, '\n') >= 0 {
			return "", errors.New("must not contain a NUL or a newline")
		}
	}
	out := ""
	for part := range strings.SplitSeq(path, "/") {
		if part != "" && part != "." {
			out += "/" + part
		}
	}
	if out == "" {
		return "", errors.New(path + ": names no folder below the root")
	}
	return out, nil
}

// look notes what of p is there. It is false where a rootless caller cannot make the folder.
func (g *Group) look(p *place, optional bool) bool {
	existing, first := p.path[:p.base], len(g.made)
	for end := p.base; end < len(p.path); {
		end = next(p.path, end)
		if dir := p.path[:end]; first < len(g.made) || !exists(dir) {
			g.made = append(g.made, dir)
		} else {
			existing = dir
		}
	}
	p.existed = first == len(g.made)
	if optional && unix.Faccessat(unix.AT_FDCWD, existing, unix.W_OK, unix.AT_EACCESS) != nil {
		g.made = g.made[:first]
		return false
	}
	if has(p.controllers, "cpuset") {
		g.lookCpuset(p, len(existing))
	}
	return true
}

// lookCpuset notes the folders below the mount point whose cpuset files are empty, or will be (behind path[:existing]), and
// what they get.
func (g *Group) lookCpuset(p *place, existing int) {
	cpus, mems := "", ""
	for end := p.mount; ; end = next(p.path, end) {
		dir, c, m := p.path[:end], "", ""
		if end <= existing {
			c, _ = readLine(dir + "/cpuset.cpus")
			m, _ = readLine(dir + "/cpuset.mems")
		}
		if end > p.mount && (c == "" || m == "") {
			g.cpuset = append(g.cpuset, level{dir, cpus, mems})
		}
		if c != "" {
			cpus = c
		}
		if m != "" {
			mems = m
		}
		if end == len(p.path) {
			return
		}
	}
}

// lookV2 notes which controllers are to be enabled, and whether the parent is threaded.
func (g *Group) lookV2(available string) {
	g.available = available
	p := &g.places[0]
	parent := p.path[:strings.LastIndexByte(p.path, '/')]
	enabled, _ := readLine(parent + "/cgroup.subtree_control")
	for c := range strings.FieldsSeq(available) {
		if !hasField(enabled, c) {
			g.enable = available
		}
	}
	kind, _ := readLine(parent + "/cgroup.type")
	g.thread = kind == "threaded" || kind == "domain threaded" || kind == "domain invalid"
}

// lookInside counts processes and looks for a freeze, in a folder that is there already.
func (g *Group) lookInside() error {
	for i := range g.places {
		if g.places[i].existed {
			pids, err := g.Procs(true)
			if err != nil {
				return err
			}
			g.procs = len(pids)
			g.frozen, err = g.Frozen()
			return err
		}
	}
	return nil
}

// Path is one entry of state.json's cgroup_paths.
type Path struct {
	Controller string // "memory", "name=systemd", "" for the v2 tree
	Path       string
}

// Paths lists the folders, one entry for each controller, as runc's cgroup_paths does.
func (g *Group) Paths() []Path {
	out := make([]Path, 0, 16)
	for i := range g.places {
		for c := range strings.SplitSeq(g.places[i].controllers, ",") {
			out = append(out, Path{c, g.places[i].path})
		}
	}
	return out
}

// FromPaths is the inverse of Paths: a Group to be looked into, killed and removed.
func FromPaths(paths []Path) *Group {
	g := &Group{Mode: V2}
	for _, p := range paths {
		if p.Controller != "" {
			g.Mode = V1
		}
		if at := slices.IndexFunc(g.places, func(x place) bool { return x.path == p.Path }); at >= 0 {
			g.places[at].controllers += "," + p.Controller
			continue
		}
		g.places = append(g.places, place{controllers: p.Controller, path: p.Path, existed: true})
	}
	if g.Mode == V1 && g.find("") != nil {
		g.Mode = Hybrid
	}
	return g
}

// V1Mount is a hierarchy as a container with a cgroup mount sees it.
type V1Mount struct {
	Controllers string   // options of the mount: "cpu,cpuacct", "none,name=systemd" is written "name=systemd"; "" for cgroup2
	Name        string   // folder below /sys/fs/cgroup: "cpu,cpuacct", "systemd", "unified"
	Symlinks    []string // names that lead to it: "cpu", "cpuacct"
	HostPath    string   // the container's folder, for a bind mount where it has no cgroup namespace
}

// Mounts lists the hierarchies of a v1 or hybrid host; on v2 the one tree.
func (g *Group) Mounts() []V1Mount {
	out := make([]V1Mount, 0, len(g.places))
	for i := range g.places {
		p := &g.places[i]
		m := V1Mount{Controllers: p.controllers, HostPath: p.path, Name: p.path[:p.mount]}
		m.Name = m.Name[strings.LastIndexByte(m.Name, '/')+1:]
		if strings.IndexByte(p.controllers, ',') >= 0 {
			for c := range strings.SplitSeq(p.controllers, ",") {
				if c != m.Name {
					m.Symlinks = append(m.Symlinks, c)
				}
			}
		}
		out = append(out, m)
	}
	return out
}

// find is the place of a controller, nil where there is none.
func (g *Group) find(controller string) *place {
	for i := range g.places {
		if has(g.places[i].controllers, controller) {
			return &g.places[i]
		}
	}
	return nil
}

// has looks a name up in a list with commas.
func has(list, name string) bool {
	for c := range strings.SplitSeq(list, ",") {
		if c == name {
			return true
		}
	}
	return false
}

// hasField looks a name up in a list with spaces.
func hasField(list, name string) bool {
	for c := range strings.FieldsSeq(list) {
		if c == name {
			return true
		}
	}
	return false
}

// next is the end of the path element behind path[:end].
func next(path string, end int) int {
	if n := strings.IndexByte(path[end+1:], '/'); n >= 0 {
		return end + 1 + n
	}
	return len(path)
}

func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }

// readLine reads a small cgroup file, whose content comes in one read(2).
func readLine(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var b [4096]byte
	n, err := sys.Read(fd, b[:])
	return string(bytes.TrimSpace(b[:max(n, 0)])), err
}

func failed(op, path string, err error) error {
	return &os.PathError{Op: op, Path: path, Err: err}
}
