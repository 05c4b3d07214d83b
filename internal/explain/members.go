package explain

import (
	"cmp"
	"fmt"
	"strings"
)

// A container is judged by the strongest of its processes: the one that is explained, its first, may have given up on
// purpose what its children kept.

// members finds the processes beside the explained one, and what they have of the host's.
func (j *judge) members() {
	mounts, first := 0, 0
	for _, p := range j.f.Processes {
		if p.PID != j.f.PID && !p.Kernel && !strings.HasPrefix(p.State, "Z") {
			j.all = append(j.all, p)
		}
	}
	j.all = append(j.all, j.f.Threads...)
	for _, p := range j.all {
		j.root = j.root || p.NS[KindUser] == j.f.host[KindUser] && p.UID[1] == 0
		for kind, name := range kinds {
			if ns := p.NS[kind]; ns != 0 && ns == j.f.host[kind] {
				j.host[name] = true
			}
		}
		if own := j.namespace("mnt"); own != 0 && p.NS[KindMnt] != 0 && p.NS[KindMnt] != own {
			if mounts++; first == 0 {
				first = cmp.Or(p.thread, p.PID)
			}
		}
	}
	if mounts > 0 && (j.f.Mounts == nil || j.f.Mounts.Root.Entry != "host") {
		j.add(Medium, fmt.Sprintf("%d of its processes have other mounts than those judged here.", mounts), fmt.Sprintf("look: vitro explain %d", first))
	}
	if n := j.f.Unread; n > 0 {
		j.add(Low, fmt.Sprintf("%d of its threads were not read: they may have more rights than those judged here.", n), "--pids-limit")
	}
}

// namespace is the explained process's, 0 if it is not known.
func (j *judge) namespace(kind string) uint64 {
	for _, n := range j.f.Namespaces {
		if n.Kind == kind {
			return n.Inode
		}
	}
	return 0
}

func (j *judge) find(is func(*Process) bool) *Process {
	for _, p := range j.all {
		if is(p) {
			return p
		}
	}
	return nil
}

// by says which process it is, where it is not the explained one.
func by(p *Process) string {
	if p.thread != 0 {
		return fmt.Sprintf(" (Thread %d of its process %d.)", p.thread, p.PID)
	}
	return fmt.Sprintf(" (Its process %d.)", p.PID)
}

// has: a capability that a process of it has, or can get by exec of a set-user-ID program. In a user namespace of its own
// it counts for nothing that belongs to the host.
func (j *judge) has(name string) bool { ok, _ := j.who(name); return ok }

// who is has, and says which process if it is not the explained one.
func (j *judge) who(name string) (ok bool, process string) {
	if c := j.f.Capabilities; c != nil && !c.UserNS && j.holds(name) {
		return true, ""
	}
	p := j.find(func(p *Process) bool {
		return p.NS[KindUser] == j.f.host[KindUser] && reach(p.Caps, p.NoNewPrivs).has(name)
	})
	if p == nil {
		return false, ""
	}
	return true, by(p)
}

// holds is has of the explained process, for what belongs to its user namespace.
func (j *judge) holds(name string) bool {
	c := j.f.Capabilities
	return c != nil && reach(c.Sets, c.NoNewPrivs).has(name)
}

// reach is what a process has, and what exec may give it.
func reach(c CapSets, noNewPrivs bool) CapSet {
	if noNewPrivs {
		return c.Permitted
	}
	return c.Permitted | c.Bounding
}

// most is the largest number of capabilities that one process has in the host's user namespace.
func (j *judge) most() (n int, process string) {
	if c := j.f.Capabilities; c != nil && !c.UserNS {
		n = c.Sets.Permitted.count()
	}
	for _, p := range j.all {
		if got := p.Caps.Permitted.count(); got > n && p.NS[KindUser] == j.f.host[KindUser] {
			n, process = got, by(p)
		}
	}
	return n, process
}
