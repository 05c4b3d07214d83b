package main

// A report is what the kernel says about this process. Empty strings and nil slices mean "not visible from here".
type report struct {
	pid, ppid  int
	argv       []string
	env        int
	uid, gid   int
	groups     []int
	uidMap     []idMap
	gidMap     []idMap
	namespaces []namespace
	cgroup     cgroup
	caps       [5]capSet
	noNewPrivs bool
	seccomp    string // disabled, strict, filter
	filters    int
	hostname   string
	domainname string
	links      []link
	mounts     []mount // mounts[root] is the root filesystem
	root       int     // -1 if mountinfo has no entry for /
}

type idMap struct{ inside, outside, size uint64 }

type namespace struct {
	name  string
	inode uint64 // 0: this kernel has no such namespace
}

// A limit holds both numbers in the unit of its field; max < 0 means unlimited, unknown means the file is not there.
type limit struct {
	unknown   bool
	max, used int64
}

type cgroup struct {
	version string // v1, v2, hybrid, or "" if no cgroup is visible
	paths   []cgroupPath
	memory  limit  // bytes
	cpu     limit  // max: microseconds of each period; used: the period
	pids    limit  // tasks
	cpus    string // effective list, such as 0-3
}

// A cgroupPath is one line of /proc/self/cgroup; dir is its folder in this mount namespace, if one is mounted.
type cgroupPath struct{ controllers, path, dir string }

type capSet struct {
	name string
	bits uint64
}

type link struct {
	name, mac string
	up        bool
	mtu       uint32
	addrs     []string
}

type mount struct {
	target, source, fstype, root string
	options, super               string
	readonly                     bool
}

func collect() *report {
	r := &report{root: -1}
	r.process()
	r.status()
	r.namespaces = readNamespaces()
	r.mounts = parseMountinfo(read("/proc/self/mountinfo"))
	for i, m := range r.mounts {
		if m.target == "/" {
			r.root = i // the last one is on top
		}
	}
	r.cgroup = readCgroup(read("/proc/self/cgroup"), r.mounts)
	r.links = readLinks()
	return r
}

func (r *report) json() object {
	o := object{
		{"pid", r.pid},
		{"ppid", r.ppid},
		{"argv", r.argv},
		{"environment", r.env},
		{"uid", r.uid},
		{"gid", r.gid},
		{"groups", r.groups},
		{"uidMap", idMapsJSON(r.uidMap)},
		{"gidMap", idMapsJSON(r.gidMap)},
	}
	var ns object
	for _, n := range r.namespaces {
		if n.inode != 0 {
			ns = append(ns, member{n.name, n.inode})
		}
	}
	var caps object
	for _, c := range r.caps {
		caps = append(caps, member{c.name, capNames(c.bits)})
	}
	o = append(o, member{"namespaces", ns}, member{"cgroup", r.cgroup.json()}, member{"capabilities", caps},
		member{"noNewPrivileges", r.noNewPrivs}, member{"seccomp", object{{"mode", r.seccomp}, {"filters", r.filters}}})
	if r.root >= 0 {
		o = append(o, member{"rootfs", r.mounts[r.root].json()})
	}
	links := make([]object, len(r.links))
	for i, l := range r.links {
		links[i] = object{{"name", l.name}, {"up", l.up}, {"mtu", uint64(l.mtu)}, {"mac", l.mac}, {"addresses", l.addrs}}
	}
	mounts := make([]object, len(r.mounts))
	for i, m := range r.mounts {
		mounts[i] = m.json()
	}
	return append(o, member{"hostname", r.hostname}, member{"domainname", r.domainname}, member{"links", links}, member{"mounts", mounts})
}

func idMapsJSON(ms []idMap) []object {
	o := make([]object, len(ms))
	for i, m := range ms {
		o[i] = object{{"inside", m.inside}, {"outside", m.outside}, {"size", m.size}}
	}
	return o
}

func (m mount) json() object {
	return object{
		{"target", m.target},
		{"source", m.source},
		{"type", m.fstype},
		{"root", m.root},
		{"options", m.options},
		{"superOptions", m.super},
		{"readonly", m.readonly},
	}
}

func (c cgroup) json() object {
	paths := make([]object, len(c.paths))
	for i, p := range c.paths {
		paths[i] = object{{"controllers", p.controllers}, {"path", p.path}, {"folder", p.dir}}
	}
	return object{
		{"version", c.version},
		{"paths", paths},
		{"memory", c.memory.json("limit", "usage")},
		{"cpu", c.cpu.json("quota", "period")},
		{"pids", c.pids.json("limit", "current")},
		{"cpus", c.cpus},
	}
}

// json gives null for a limit that is not visible and the word for one that is not set.
func (l limit) json(max, used string) any {
	if l.unknown {
		return nil
	}
	if l.max < 0 {
		return object{{max, "unlimited"}, {used, uint64(l.used)}}
	}
	return object{{max, uint64(l.max)}, {used, uint64(l.used)}}
}
