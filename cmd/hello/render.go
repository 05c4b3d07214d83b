package main

import (
	"math/bits"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// A page is the text report while it grows: headings, and rows of an aligned key and a value that wraps.
type page struct {
	b     []byte
	color bool
	width int
}

const keyWidth = 15

func (p *page) paint(code, s string) {
	if p.color {
		s = "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	p.b = append(p.b, s...)
}

func (p *page) heading(s, note string) {
	p.paint("1;36", s)
	if note != "" {
		p.paint("2", "  "+note)
	}
	p.b = append(p.b, '\n')
}

// row wraps at blanks and puts what follows below the value.
func (p *page) row(key, value string) {
	p.b = append(p.b, "  "...)
	p.paint("32", pad(key, keyWidth))
	col := 2 + keyWidth
	for i, w := range strings.Split(value, " ") {
		switch {
		case i == 0:
		case col+1+len(w) > p.width:
			p.b = append(append(p.b, '\n'), strings.Repeat(" ", 2+keyWidth)...)
			col = 2 + keyWidth
		default:
			p.b = append(p.b, ' ')
			col++
		}
		p.b = append(p.b, w...)
		col += len(w)
	}
	p.b = append(p.b, '\n')
}

func pad(s string, n int) string {
	return s + strings.Repeat(" ", max(n-len(s), 1))
}

func renderText(r *report, color bool, width int) []byte {
	p := &page{color: color, width: width}
	p.heading("hello from the inside", "what this container is, as the kernel tells it")
	p.process(r)
	p.namespaces(r.namespaces)
	p.cgroup(&r.cgroup)
	p.rights(r)
	p.network(r.links)
	p.mounts(r)
	return p.b
}

func (p *page) process(r *report) {
	p.heading("process", "")
	parent := strconv.Itoa(r.ppid)
	if r.ppid == 0 {
		parent = "0 (outside of this pid namespace)"
	}
	p.row("pid", strconv.Itoa(r.pid)+", parent "+parent)
	argv := make([]string, len(r.argv))
	for i, a := range r.argv {
		argv[i] = strconv.Quote(a)
	}
	p.row("argv", strings.Join(argv, " "))
	p.row("environment", strconv.Itoa(r.env)+" variables")
	p.row("user", identity())
	p.row("uid map", idMaps(r.uidMap))
	p.row("gid map", idMaps(r.gidMap))
	p.row("host name", r.hostname)
	p.row("domain name", r.domainname)
}

func idMaps(maps []idMap) string {
	var s []string
	for _, m := range maps {
		if m.inside == 0 && m.outside == 0 && m.size == 1<<32-1 {
			return "identity (no user namespace of its own, or a full map)"
		}
		u := func(n uint64) string { return strconv.FormatUint(n, 10) }
		s = append(s, u(m.inside)+" → "+u(m.outside)+" × "+u(m.size))
	}
	return orNone(strings.Join(s, ", "))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// namespaces prints four to a line.
func (p *page) namespaces(ns []namespace) {
	p.heading("namespaces", "inode numbers: the same number is the same namespace")
	for i, n := range ns {
		if i%4 == 0 {
			p.b = append(p.b, ' ')
		}
		inode := "-"
		if n.inode != 0 {
			inode = strconv.FormatUint(n.inode, 10)
		}
		p.b = append(p.b, ' ')
		p.paint("32", pad(n.name, 7))
		if i%4 == 3 || i == len(ns)-1 {
			p.b = append(append(p.b, inode...), '\n')
		} else {
			p.b = append(p.b, pad(inode, 13)...)
		}
	}
}

func (p *page) cgroup(c *cgroup) {
	p.heading("cgroup", orNone(c.version))
	var order []string
	for _, h := range c.paths {
		if h.controllers == "" {
			h.controllers = "unified"
		}
		order = append(order, h.controllers+":"+h.path)
	}
	if same := samePath(c.paths); same != "" && len(c.paths) > 1 {
		order = []string{same, "in all", strconv.Itoa(len(c.paths)), "hierarchies"}
	}
	p.row("path", orNone(strings.Join(order, " ")))
	p.row("memory", c.memory.text(func(l limit) string { return bytes(l.max) }, func(l limit) string { return "in use: " + bytes(l.used) }))
	p.row("cpu", c.cpu.text(func(l limit) string {
		return strconv.FormatFloat(float64(l.max)/float64(max(l.used, 1)), 'g', 4, 64) + " CPUs: " +
			strconv.FormatInt(l.max, 10) + " of every " + strconv.FormatInt(l.used, 10) + " µs"
	}, nil))
	p.row("pids", c.pids.text(func(l limit) string { return strconv.FormatInt(l.max, 10) },
		func(l limit) string { return "in use: " + strconv.FormatInt(l.used, 10) }))
	cpus := c.cpus
	if cpus == "" {
		cpus = notVisible
	}
	p.row("cpuset", cpus)
}

const notVisible = "not visible from here"

func (l limit) text(value, used func(limit) string) string {
	if l.unknown {
		return notVisible
	}
	s := "unlimited"
	if l.max >= 0 {
		s = value(l)
	}
	if used != nil && l.used > 0 {
		s += ", " + used(l)
	}
	return s
}

func samePath(ps []cgroupPath) string {
	for _, p := range ps {
		if p.path != ps[0].path {
			return ""
		}
	}
	if len(ps) == 0 {
		return ""
	}
	return ps[0].path
}

func bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, u := float64(n)/1024, 0
	for f >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	return strconv.FormatFloat(f, 'g', 4, 64) + " " + units[u:u+1] + "iB"
}

func (p *page) rights(r *report) {
	p.heading("rights", "")
	for i, c := range r.caps {
		p.row(c.name, capsText(r.caps[:i], c))
	}
	nnp := "no"
	if r.noNewPrivs {
		nnp = "yes"
	}
	seccomp := orNone(r.seccomp)
	if r.filters > 0 {
		seccomp += ", " + strconv.Itoa(r.filters) + " loaded"
	}
	p.row("no new privs", nnp)
	p.row("seccomp", seccomp)
}

// capsText names an earlier set that is the same instead of repeating it.
func capsText(before []capSet, c capSet) string {
	for _, b := range before {
		if c.bits != 0 && b.bits == c.bits {
			return "as " + b.name
		}
	}
	known := strings.Fields(capabilityNames)
	all := uint64(1)<<len(known) - 1
	switch missing := all &^ c.bits; {
	case c.bits == 0:
		return "none"
	case missing == 0:
		return "all " + strconv.Itoa(len(known))
	case bits.OnesCount64(missing) < 4:
		return "all " + strconv.Itoa(len(known)) + " but " + shortNames(missing)
	}
	return strconv.Itoa(bits.OnesCount64(c.bits)) + ": " + shortNames(c.bits)
}

func shortNames(set uint64) string {
	return strings.ToLower(strings.ReplaceAll(strings.Join(capNames(set), " "), "CAP_", ""))
}

func (p *page) network(links []link) {
	p.heading("network", "")
	if len(links) == 0 {
		p.row("links", notVisible)
	}
	for _, l := range links {
		state := "down"
		if l.up {
			state = "up"
		}
		s := state + ", mtu " + strconv.FormatUint(uint64(l.mtu), 10)
		if l.mac != "" && l.name != "lo" {
			s += ", " + l.mac
		}
		p.row(l.name, strings.Join(append([]string{s}, l.addrs...), " "))
	}
}

// isTerminal honours NO_COLOR too: both only decide about colour.
func isTerminal(fd int) bool {
	var t [64]byte
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TCGETS, uintptr(unsafe.Pointer(&t)))
	_, plain := syscall.Getenv("NO_COLOR")
	return errno == 0 && !plain
}

func width(fd int) int {
	var ws [4]uint16 // rows, columns, pixels
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&ws)))
	if errno == 0 && ws[1] >= 60 {
		return int(ws[1])
	}
	return 110
}
