package compile

import (
	"os"
	"slices"
	"strings"
	"testing"

	"vitro/internal/plan"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"": ".", "/": ".", "..": ".", "/../..": ".", "/a/..": ".", "a": "a", "//a//b/": "a/b", "/a/./b": "a/b", "/a/../b": "b", "/a/b/../../../c": "c", "/..a/b..": "..a/b..",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct {
		env  []string
		home string
		want string
		path string
	}{
		{nil, "/root", "HOME=/root", ""},
		{nil, "", "", ""},
		{[]string{"A=1", "A=2"}, "/", "A=2 HOME=/", ""},
		{[]string{"HOME="}, "/h", "HOME=/h", ""},
		{[]string{"HOME=/x", "HOME=/y"}, "/h", "HOME=/y", ""},
		{[]string{"HOME=/x", "HOME="}, "/h", "HOME=/h", ""},
		{[]string{"PATH=/a", "PATH=/b", "AB=1", "A="}, "", "PATH=/b AB=1 A=", "/b"},
		{[]string{"NOEQUALS", "A=B=C"}, "", "NOEQUALS A=B=C", ""},
	} {
		if got := strings.Join(environment(c.env, c.home), " "); got != c.want {
			t.Errorf("environment(%q, %q) = %q, want %q", c.env, c.home, got, c.want)
		}
		if got := pathOf(c.env); got != c.path {
			t.Errorf("pathOf(%q) = %q, want %q", c.env, got, c.path)
		}
	}
}

// Every combination of new and joined namespaces, of late user namespace and cgroup: each new one is made exactly once, by the clone, by the stub's unshare or
// by what follows it; and the clone never makes what must come later.
func TestAtClone(t *testing.T) {
	flags := []int{unix.CLONE_NEWNS, unix.CLONE_NEWPID, unix.CLONE_NEWNET, unix.CLONE_NEWIPC, unix.CLONE_NEWUTS, unix.CLONE_NEWUSER, unix.CLONE_NEWCGROUP, unix.CLONE_NEWTIME}
	for n := range 6561 { // 3^8: absent, new, joined
		var ns namespaces
		for k, rest := 0, n; k < len(flags); k, rest = k+1, rest/3 {
			switch rest % 3 {
			case 1:
				ns.fresh |= flags[k]
			case 2:
				ns.joins |= flags[k]
			}
		}
		for bits := range 4 {
			ns.late, ns.inGroup = bits&1 != 0, bits&2 != 0
			if ns.late && !ns.isNew(unix.CLONE_NEWUSER) {
				continue
			}
			at := ns.atClone()
			switch {
			case at&^ns.fresh != 0:
				t.Fatalf("%+v: the clone makes %#x, which is not new", ns, at&^ns.fresh)
			case at&unix.CLONE_NEWTIME != 0:
				t.Fatalf("%+v: time at the clone: its offsets could not be written", ns)
			case at&unix.CLONE_NEWCGROUP != 0 && !ns.inGroup:
				t.Fatalf("%+v: cgroup before the cgroups are joined", ns)
			case at&unix.CLONE_NEWUSER != 0 && at&^(unix.CLONE_NEWUSER|unix.CLONE_NEWPID) != 0:
				t.Fatalf("%+v: %#x would belong to nobody", ns, at)
			case (ns.late || ns.joins&unix.CLONE_NEWUSER != 0) && at != 0:
				t.Fatalf("%+v: %#x is made outside of the user namespace", ns, at)
			}
			if forks, want := (&c{ns: ns}).forks(), ns.joins&unix.CLONE_NEWPID != 0 || ns.isNew(unix.CLONE_NEWPID) && at&unix.CLONE_NEWPID == 0; forks != want {
				t.Fatalf("%+v: forks %v", ns, forks)
			}
		}
	}
}

func TestMapped(t *testing.T) {
	m := []specs.LinuxIDMapping{{ContainerID: 1000, HostID: 5, Size: 2}, {ContainerID: 10, HostID: 9, Size: 1}}
	for id, want := range map[uint32]int{1000: 1000, 1001: 1001, 1002: 1000, 10: 10, 0: 1000} {
		if got := mapped(m, id); got != want {
			t.Errorf("mapped(%d) = %d, want %d", id, got, want)
		}
	}
	if got := mapped(append(m, specs.LinuxIDMapping{Size: 1}), 1000); got != 0 {
		t.Errorf("0 is mapped, got %d", got)
	}
}

func TestDefaultPropagation(t *testing.T) {
	for p, want := range map[string]uint64{
		"": unix.MS_SLAVE, "slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE, "shared": 0, "rshared": 0,
		"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE, "unbindable": unix.MS_PRIVATE, "runbindable": unix.MS_PRIVATE,
	} {
		if got := (&c{spec: &specs.Spec{Linux: &specs.Linux{RootfsPropagation: p}}}).defaultPropagation(); got != want {
			t.Errorf("%q: %#x, want %#x", p, got, want)
		}
	}
}

// A missing mount point is made component by component, each on the fd of the one before.
func TestTargetOps(t *testing.T) {
	for _, c := range []struct {
		path  string
		dir   bool
		calls string
	}{
		{"/", true, "openat2"},
		{"/a", true, "openat2 mkdirat openat2"},
		{"/a", false, "openat2 mknodat openat2"},
		{"a/b/../c", true, "openat2 mkdirat openat2 mkdirat openat2 close"},
		{"/a/b/c", false, "openat2 mkdirat openat2 mkdirat openat2 close mknodat openat2 close"},
	} {
		b := newC()
		to := b.Slot()
		found := b.target(c.path, c.dir, 0, to)
		var calls []string
		for k := range b.Ops {
			calls = append(calls, b.Ops[k].Verb())
		}
		if got := strings.Join(calls, " "); got != c.calls {
			t.Errorf("%s: %s, want %s", c.path, got, c.calls)
		}
		if o := b.Ops[found]; int(o.OnOK) != len(b.Ops)-1 || o.Result != to {
			t.Errorf("%s: a target that is there skips %d of %d ops", c.path, o.OnOK, len(b.Ops)-1)
		}
		if !slices.ContainsFunc(b.Ops, func(o plan.Op) bool { return o.Result == to }) {
			t.Errorf("%s: nothing opens the target", c.path)
		}
	}
}

func newC() *c { return &c{Builder: plan.NewBuilder(16), root: 3} }

// No skip of any plan leaves its doer's list.
func TestSkipsStayInside(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			p, err := Container(g.make(t))
			must(t, err)
			for k := range p.Ops {
				o, left := &p.Ops[k], 0
				for _, later := range p.Ops[k+1:] {
					if (later.Do == plan.Stub) == (o.Do == plan.Stub) {
						left++
					}
				}
				for _, e := range o.Cases[:o.NCases] {
					if e.Skip != plan.Retry && int(e.Skip) > left {
						t.Errorf("op %d skips %d of %d", k, e.Skip, left)
					}
				}
				if int(o.OnOK) > left {
					t.Errorf("op %d skips %d of %d", k, o.OnOK, left)
				}
			}
		})
	}
}

// What the compiler itself refuses, with nothing of the host looked at.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		change func(s *specs.Spec)
		want   string
	}{
		{func(s *specs.Spec) { userNS(s, 0, 1, 1); s.Linux.UIDMappings = nil }, "linux.uidMappings: a new user namespace needs uidMappings and gidMappings"},
		{func(s *specs.Spec) { dropNS(s, specs.MountNamespace); s.Mounts, s.Root.Readonly = nil, true }, "root.readonly: needs a mount namespace in linux.namespaces"},
		{func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "z"}} }, `linux.devices[0].type: unknown device type "z"`},
		{func(s *specs.Spec) { s.Process.Args = nil }, "process.args: must name an executable"},
		{func(s *specs.Spec) { addMount(s, "/proc", "bind", "/tmp", "bind") }, "mounts[2].destination: /proc cannot be mounted because it is inside /proc"},
		{func(s *specs.Spec) { s.Process.Capabilities.Ambient = []string{"X"} }, `process.capabilities.ambient[0]: unknown capability "X"`},
	} {
		s := slim()
		c.change(s)
		if _, err := Container(input(s)); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

func TestBehindLinks(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/there/in", 0o755))
	for name, to := range map[string]string{
		"there/in/up": "../../../../gone", "abs": "/a/../b/", "loop": "loop", "host": "/etc", "chain": "abs/c", "good": "there", "back": "/", "dot": "./gone",
	} {
		must(t, os.Symlink(to, dir+"/"+name))
	}
	root, err := unix.Open(dir, cloexecDir, 0)
	must(t, err)
	defer unix.Close(root)
	for path, want := range map[string]string{
		"there/new": "there/new", "there/in/up/x": "gone/x", "abs": "b", "abs/x/y": "b/x/y", "loop": "loop", "host/passwd": "etc/passwd", "chain/d": "b/c/d",
		"good/new": "there/new", "back/new": "new", "dot": "gone", "there": "there",
	} {
		if got := behindLinks(root, path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
