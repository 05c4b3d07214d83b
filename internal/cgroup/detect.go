package cgroup

import (
	"bytes"
	"errors"
	"strings"

	"vitro/internal/sys"

	"golang.org/x/sys/unix"
)

// Mode is how the host mounts cgroups.
type Mode uint8

const (
	V1     Mode = iota + 1 // v1 hierarchies only
	Hybrid                 // v1 hierarchies with the controllers, and a cgroup2 tree without
	V2                     // cgroup2 on /sys/fs/cgroup; v1 mounts elsewhere (a VPN's net_cls) are left alone
)

// Hierarchy is one mounted tree.
type Hierarchy struct {
	Controllers string // as in /proc/PID/cgroup: "cpu,cpuacct", "name=systemd", "" for v2
	Mount       string // mount point
	Own         string // this process's folder below Mount: "" or "/a/b"
}

// Layout is what Detect found.
type Layout struct {
	Mode        Mode
	Hierarchies []Hierarchy // in the order of /proc/self/cgroup; v2 is the last
	Available   string      // v2: cgroup.controllers of the mount's root, "cpu memory pids"
	Rootless    bool        // not root, or root of a user namespace
	UserNS      bool        // in a user namespace: device rules cannot be set
}

const defaultMount = "/sys/fs/cgroup"

// InitUserNS is the inode of the host's own user namespace in /proc/PID/ns (PROC_USER_INIT_INO).
const InitUserNS = 0xEFFFFFFD

// Detect reads /proc/self/mountinfo and /proc/self/cgroup.
func Detect() (*Layout, error) {
	mounts, err := sys.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, failed("read", "/proc/self/mountinfo", err)
	}
	own, err := sys.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, failed("read", "/proc/self/cgroup", err)
	}
	l := parse(mounts, own)
	if len(l.Hierarchies) == 0 {
		return nil, errors.New("cgroups: no cgroup hierarchy is mounted")
	}
	var st unix.Stat_t
	l.UserNS = unix.Stat("/proc/self/ns/user", &st) == nil && st.Ino != InitUserNS
	l.Rootless = l.UserNS || unix.Geteuid() != 0
	if l.Mode == V2 {
		p, err := sys.ReadFile(l.Hierarchies[0].Mount + "/cgroup.controllers")
		if err != nil {
			return nil, failed("read", l.Hierarchies[0].Mount+"/cgroup.controllers", err)
		}
		l.Available = string(bytes.TrimSpace(p))
	}
	return l, nil
}

// parse makes a Layout of the two files.
func parse(mountinfo, own []byte) *Layout {
	l := &Layout{Hierarchies: make([]Hierarchy, 0, 16)}
	mounts := make([]mount, 0, 16)
	unified := -1
	for line := range bytes.Lines(mountinfo) {
		m, ok := parseMount(line)
		if !ok {
			continue
		}
		if m.v2 && (unified < 0 || m.point == defaultMount) {
			unified = len(mounts)
		}
		mounts = append(mounts, m)
	}
	pure := unified >= 0 && mounts[unified].point == defaultMount
	var v2 *Hierarchy
	for line := range bytes.Lines(own) {
		_, rest, ok1 := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(":"))
		names, path, ok2 := bytes.Cut(rest, []byte(":"))
		switch {
		case !ok1 || !ok2:
		case len(names) == 0:
			if unified >= 0 {
				v2 = &Hierarchy{Mount: mounts[unified].point, Own: below(mounts[unified].root, string(path))}
			}
		case !pure:
			first, _, _ := bytes.Cut(names, []byte(","))
			if m := find(mounts, first); m != nil {
				l.Hierarchies = append(l.Hierarchies, Hierarchy{string(names), m.point, below(m.root, string(path))})
			}
		}
	}
	switch {
	case v2 != nil && len(l.Hierarchies) == 0:
		l.Mode = V2
	case v2 != nil:
		l.Mode = Hybrid
	default:
		l.Mode = V1
	}
	if v2 != nil {
		l.Hierarchies = append(l.Hierarchies, *v2)
	}
	return l
}

// mount is a line of mountinfo with type cgroup or cgroup2.
type mount struct {
	root, point string
	options     []byte // of the superblock; the controllers are among them
	v2          bool
}

// parseMount reads "36 35 0:31 /root /point rw,… [tag…] - cgroup source rw,cpu" (proc_pid_mountinfo(5)).
func parseMount(line []byte) (m mount, ok bool) {
	left, right, ok := bytes.Cut(line, []byte(" - cgroup"))
	if !ok {
		return m, false
	}
	right, m.v2 = bytes.CutPrefix(right, []byte("2"))
	if len(right) == 0 || right[0] != ' ' {
		return m, false
	}
	_, m.options, _ = bytes.Cut(right[1:], []byte(" "))
	m.options = bytes.TrimSuffix(m.options, []byte("\n"))
	for range 3 {
		_, left, _ = bytes.Cut(left, []byte(" "))
	}
	root, left, _ := bytes.Cut(left, []byte(" "))
	point, _, ok := bytes.Cut(left, []byte(" "))
	m.root, m.point = unescape(root), unescape(point)
	return m, ok
}

// find is the first mount that has the controller: a later one is a bind mount of it.
func find(mounts []mount, controller []byte) *mount {
	for i := range mounts {
		rest := mounts[i].options
		for more := !mounts[i].v2; more; {
			var o []byte
			if o, rest, more = bytes.Cut(rest, []byte(",")); bytes.Equal(o, controller) {
				return &mounts[i]
			}
		}
	}
	return nil
}

// below is a process's folder as seen through a mount of root. Outside of it (a mount that an outer container
// made, without a cgroup namespace), it is the mount point itself.
func below(root, path string) string {
	if root != "/" {
		rest, ok := strings.CutPrefix(path, root)
		if !ok || rest != "" && rest[0] != '/' {
			return ""
		}
		path = rest
	}
	if path == "/" || strings.HasPrefix(path, "/..") {
		return ""
	}
	return path
}

// unescape undoes the octal escapes of mountinfo: \040 is a space.
func unescape(p []byte) string {
	if bytes.IndexByte(p, '\\') < 0 {
		return string(p)
	}
	out := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		if p[i] == '\\' && i+3 < len(p) && octal(p[i+1]) && octal(p[i+2]) && octal(p[i+3]) {
			out = append(out, (p[i+1]-'0')<<6|(p[i+2]-'0')<<3|(p[i+3]-'0'))
			i += 3
			continue
		}
		out = append(out, p[i])
	}
	return string(out)
}

func octal(c byte) bool { return c >= '0' && c <= '7' }
