package main

import (
	"strconv"
	"strings"
)

const maxMountRows = 16

// mounts prints the root filesystem, then the others as a table. What a runtime mounts only to hide or to protect
// a path of /proc and /sys goes into one row each, and so do v1 hierarchies: --json has every mount.
func (p *page) mounts(r *report) {
	p.heading("root filesystem", "")
	if r.root < 0 {
		p.row("type", notVisible)
	} else {
		m := r.mounts[r.root]
		access := "read-write"
		if m.readonly {
			access = "read-only"
		}
		p.row("type", m.fstype+" from "+m.source+", "+access)
		p.row("options", m.options+" "+clip(m.super, 200))
	}
	var masked, protected, v1 []string
	var rows [][]string
	for i, m := range r.mounts {
		switch {
		case i == r.root:
		case m.fstype == "cgroup":
			v1 = append(v1, m.target[strings.LastIndexByte(m.target, '/')+1:])
		case isKernelPath(m.target) && (m.root == "/null" || m.fstype == "tmpfs"):
			masked = append(masked, m.target)
		case strings.HasPrefix(m.target, "/proc/") && m.fstype == "proc" && m.readonly:
			protected = append(protected, m.target)
		default:
			rows = append(rows, []string{m.target, m.fstype, clip(m.source, 40), m.options})
		}
	}
	p.heading("mounts", strconv.Itoa(len(r.mounts)))
	p.table(rows)
	for _, row := range []struct {
		key  string
		list []string
	}{{"cgroup v1", v1}, {"masked", masked}, {"read-only", protected}} {
		if row.list != nil {
			p.row(row.key, strings.Join(row.list, " "))
		}
	}
}

func isKernelPath(target string) bool {
	return strings.HasPrefix(target, "/proc/") || strings.HasPrefix(target, "/sys/") && !strings.HasPrefix(target, "/sys/fs/cgroup")
}

func (p *page) table(rows [][]string) {
	more := 0
	if len(rows) > maxMountRows {
		rows, more = rows[:maxMountRows], len(rows)-maxMountRows
	}
	var widths [4]int
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell)+2)
		}
	}
	for _, row := range rows {
		p.b = append(p.b, "  "...)
		p.paint("32", pad(row[0], max(widths[0], keyWidth)))
		p.b = append(p.b, pad(row[1], widths[1])+pad(row[2], widths[2])+row[3]+"\n"...)
	}
	if more > 0 {
		p.row("", "and "+strconv.Itoa(more)+" more: hello --json prints all")
	}
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n-1] + "…"
}
