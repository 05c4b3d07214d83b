package explain

import (
	"slices"
	"strings"
	"testing"
)

// A first process that has given up its rights does not hide those of its children.
func TestStrongestProcess(t *testing.T) {
	const hostUser, hostNet, own = 1, 2, 3
	all := CapSet(1<<len(capabilities) - 1)
	child := func(change func(*Process)) *Process {
		p := &Process{PID: 2, PPID: 1, State: "S (sleeping)", Seccomp: 2, NoNewPrivs: true, UID: [4]uint32{0, 1000}}
		p.NS[KindUser], p.NS[KindNet], p.NS[KindMnt] = hostUser, own, own
		change(p)
		return p
	}
	for _, c := range []struct {
		child *Process
		want  string // "": no finding more than without it
	}{
		{child(func(*Process) {}), ""},
		{child(func(p *Process) { p.Caps.Permitted = all }), "nearly every capability, in the host's user namespace: it may do what root of the host may. (Its process 2.)"},
		{child(func(p *Process) { p.Caps.Permitted, p.NS[KindUser] = all, own }), ""},
		{child(func(p *Process) { p.Caps.Permitted, p.State = all, "Z (zombie)" }), ""},
		{child(func(p *Process) { p.Caps.Bounding = all }), ""},
		{child(func(p *Process) { p.Caps.Bounding, p.NoNewPrivs = setOf("SYS_MODULE"), false }), "It can load a module into the host's kernel. (Its process 2.)"},
		{child(func(p *Process) { p.NoNewPrivs = false }), "more rights than they have. (Its process 2.)"},
		{child(func(p *Process) { p.Seccomp = 0 }), "a bug in a rare one is a way out. (Its process 2.)"},
		{child(func(p *Process) { p.UID[1] = 0 }), "Its root is the host's root"},
		{child(func(p *Process) { p.NS[KindNet] = hostNet }), "It has the host's network"},
		{child(func(p *Process) { p.NS[KindMnt] = 9 }), "1 of its processes have other mounts than those judged here."},
	} {
		f := &Facts{
			PID: 1, Processes: []*Process{{PID: 1, State: "S (sleeping)"}, c.child},
			Namespaces:   []Namespace{{Kind: "mnt", Inode: own}, {Kind: "net", Inode: own}, {Kind: "user", Inode: hostUser, Host: true}},
			Users:        &Users{IDs: []IDPair{{}, {What: "uid, effective", Outside: 1000}}},
			Capabilities: &Capabilities{Seccomp: "filter", NoNewPrivs: true},
		}
		f.host[KindUser], f.host[KindNet] = hostUser, hostNet
		got := findings(f)
		f.Processes = f.Processes[:1]
		if strings.HasPrefix(c.child.State, "S") {
			of := *c.child
			of.PID, of.thread = 1, 2
			f.Threads = []*Process{&of}
			for i, g := range findings(f) {
				if want := strings.ReplaceAll(got[i].What, "Its process 2", "Thread 2 of its process 1"); g.What != want {
					t.Errorf("of a thread: %q, want %q", g.What, want)
				}
			}
			f.Threads = nil
		}
		alone := findings(f)
		got = slices.DeleteFunc(got, func(g Finding) bool {
			return slices.ContainsFunc(alone, func(a Finding) bool { return a.What == g.What })
		})
		if c.want == "" && len(got) > 0 || c.want != "" && !slices.ContainsFunc(got, func(g Finding) bool { return strings.Contains(g.What, c.want) }) {
			t.Errorf("found more: %v, want %q", got, c.want)
		}
	}
}
