package cgroup

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vitro/internal/plan"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite golden files")

func ptr[T any](v T) *T { return &v }

const v1Mountinfo = `22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:28 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd
32 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 master:3 - cgroup cgroup rw,cpu,cpuacct
33 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 22 0:30 /x /srv/bind\040mount rw - cgroup cgroup rw,memory
`

const v1Own = `12:memory:/user.slice
11:cpu,cpuacct:/
3:hugetlb:/
1:name=systemd:/user.slice/s1.scope
0::/user.slice/s1.scope
`

func TestParse(t *testing.T) {
	v1 := []Hierarchy{
		{"memory", "/sys/fs/cgroup/memory", "/user.slice"},
		{"cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", ""},
		{"name=systemd", "/sys/fs/cgroup/systemd", "/user.slice/s1.scope"},
	}
	unified := Hierarchy{"", "/sys/fs/cgroup/unified", "/user.slice/s1.scope"}
	cases := map[string]struct {
		mounts, own string
		mode        Mode
		want        []Hierarchy
	}{
		"v1":                {v1Mountinfo, v1Own, V1, v1},
		"hybrid":            {v1Mountinfo + "35 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", v1Own, Hybrid, append(slices.Clone(v1), unified)},
		"v2":                {"30 22 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n", "0::/a/b\n", V2, []Hierarchy{{"", "/sys/fs/cgroup", "/a/b"}}},
		"v2 and a v1 mount": {"30 22 0:27 / /sys/fs/cgroup rw - cgroup2 none rw\n31 22 0:9 / /run/vpn rw - cgroup none rw,net_cls\n", "2:net_cls:/\n0::/\n", V2, []Hierarchy{{"", "/sys/fs/cgroup", ""}}},
		"inside a container": {
			"31 30 0:28 /docker/c1 /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n32 30 0:29 /docker/c1 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n33 30 0:30 /docker/c1 /sys/fs/cgroup/rdma ro - cgroup cgroup rw,rdma\n",
			"3:pids:/docker/c1/sub\n2:cpu:/docker/c1\n1:rdma:/docker/c11\n", V1,
			[]Hierarchy{{"pids", "/sys/fs/cgroup/pids", "/sub"}, {"cpu", "/sys/fs/cgroup/cpu", ""}, {"rdma", "/sys/fs/cgroup/rdma", ""}},
		},
		"escaped": {`30 22 0:27 / /mnt/c\040\134g rw - cgroup2 x rw` + "\n", "0::/../..\n", V2, []Hierarchy{{"", `/mnt/c \g`, ""}}},
		"nothing": {"22 1 254:0 / / rw - ext4 /dev/vda rw\n", v1Own, V1, nil},
		"broken":  {" - cgroup\n - cgroup2\n - cgroup  \n1 - cgroup2 x\n", "::\n:\n\n0", V1, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := parse([]byte(c.mounts), []byte(c.own))
			if l.Mode != c.mode || !slices.Equal(l.Hierarchies, c.want) {
				t.Errorf("got %d %q", l.Mode, l.Hierarchies)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(v1Mountinfo), []byte(v1Own))
	f.Fuzz(func(t *testing.T, mounts, own []byte) {
		for _, h := range parse(mounts, own).Hierarchies {
			if strings.HasPrefix(h.Own, "/..") {
				t.Errorf("%q", h)
			}
		}
	})
}

// A layout below a folder that is not there: every fact is "no".
func layout(m Mode, names ...string) *Layout {
	l := &Layout{Mode: m}
	for _, n := range names {
		h := Hierarchy{Controllers: n, Mount: "/no/" + strings.TrimPrefix(n, "name="), Own: "/own"}
		if n == "" {
			h.Mount = "/no/unified"
		}
		l.Hierarchies = append(l.Hierarchies, h)
	}
	if m == V2 {
		l.Available = "cpuset cpu io memory pids"
	}
	return l
}

var v1Names = []string{"name=systemd", "pids", "devices", "memory", "cpuset", "cpu,cpuacct"}

func TestPlaces(t *testing.T) {
	cases := []struct {
		path   string
		layout *Layout
		want   string
	}{
		{"", layout(V1, "pids"), "/no/pids/own/c1"},
		{"a/./b//", layout(V1, "pids"), "/no/pids/own/a/b"},
		{"/a//b", layout(V1, "pids"), "/no/pids/a/b"},
		{"", layout(V2, ""), "/no/unified/c1"},
		{"/machine.slice/x:y:z", layout(V2, ""), "/no/unified/machine.slice/x:y:z"},
	}
	for _, c := range cases {
		g, err := c.layout.Group(c.path, "c1")
		if err != nil || g.places[0].path != c.want {
			t.Errorf("%q: %v, %v", c.path, g, err)
		}
	}
	for path, want := range map[string]string{
		"/a/../b": `/a/../b: must not contain ".."`,
		"..":      `..: must not contain ".."`,
		"/":       "/: names no folder below the root",
		"a\nb":    "must not contain a NUL or a newline",
	} {
		if _, err := layout(V2, "").Group(path, "c1"); err == nil || err.Error() != want {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestRootlessSkips(t *testing.T) {
	l := layout(V1, v1Names...)
	l.Rootless = true
	g, err := l.Group("", "c1")
	if err != nil || len(g.places) != 0 || len(g.made) != 0 {
		t.Fatal(g, err)
	}
	b := plan.NewBuilder(8)
	if err := g.Plan(b, &specs.LinuxResources{}, false); err != nil || len(b.Ops) != 0 {
		t.Error(err, len(b.Ops))
	}
	err = g.Plan(b, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1 << 20))}}, false)
	if err == nil || err.Error() != "linux.resources.memory.limit: cannot set memory limit: container could not join or create cgroup" {
		t.Error(err)
	}
	if g, err = l.Group("/named", "c1"); err != nil || len(g.places) != len(v1Names) {
		t.Error("a named path is not optional", err)
	}
}

func TestPathsAndMounts(t *testing.T) {
	g, err := layout(Hybrid, append(v1Names, "")...).Group("/x", "c1")
	if err != nil {
		t.Fatal(err)
	}
	paths := g.Paths()
	if !slices.Contains(paths, Path{"cpuacct", "/no/cpu,cpuacct/x"}) || !slices.Contains(paths, Path{"", "/no/unified/x"}) || len(paths) != 8 {
		t.Error(paths)
	}
	back := FromPaths(paths)
	if back.Mode != Hybrid || !slices.Equal(back.Paths(), paths) || len(back.places) != 7 {
		t.Error(back.Paths())
	}
	slices.SortFunc(paths, func(a, b Path) int { return strings.Compare(a.Controller, b.Controller) })
	if sorted := FromPaths(paths); len(sorted.places) != 7 {
		t.Error(sorted.places)
	}
	want := `[{name=systemd systemd [] /no/systemd/x} {pids pids [] /no/pids/x} {devices devices [] /no/devices/x} {memory memory [] /no/memory/x} ` +
		`{cpuset cpuset [] /no/cpuset/x} {cpu,cpuacct cpu,cpuacct [cpu cpuacct] /no/cpu,cpuacct/x} { unified [] /no/unified/x}]`
	if got := fmt.Sprint(g.Mounts()); got != want {
		t.Error(got)
	}
}

func fullResources() *specs.LinuxResources {
	return &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "b", Major: ptr(int64(7)), Access: "rw"}},
		Memory:  &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(96 << 20)), Reservation: ptr(int64(32 << 20))},
		CPU: &specs.LinuxCPU{
			Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(200000)), Burst: ptr(uint64(1000)),
			Idle: ptr(int64(0)), Cpus: "0", Mems: "0",
		},
		Pids:    &specs.LinuxPids{Limit: ptr(int64(20))},
		BlockIO: &specs.LinuxBlockIO{}, Network: &specs.LinuxNetwork{}, // empty ones, as dockerd sends them
	}
}

func TestGolden(t *testing.T) {
	v1 := fullResources()
	v1.Memory.Swappiness, v1.Memory.DisableOOMKiller = ptr(uint64(0)), ptr(true)
	v1.CPU.RealtimePeriod, v1.CPU.RealtimeRuntime = ptr(uint64(1000000)), ptr(int64(950000))
	v2 := fullResources()
	v2.Unified = map[string]string{"memory.high": "1000000", "io.weight": "default 50"}
	unlimited := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(-1))}, Pids: &specs.LinuxPids{Limit: ptr(int64(-1))},
		CPU:     &specs.LinuxCPU{Quota: ptr(int64(-1))},
		Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}},
	}
	cases := map[string]struct {
		l *Layout
		r *specs.LinuxResources
		p string
	}{
		"v1":           {layout(V1, v1Names...), v1, ""},
		"v1-unlimited": {layout(V1, v1Names...), unlimited, "/a/b"},
		"hybrid":       {layout(Hybrid, "devices", "cpuset", ""), nil, "/a"},
		"v2":           {layout(V2, ""), v2, "/a/b"},
		"v2-unlimited": {layout(V2, ""), unlimited, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			g, err := c.l.Group(c.p, "c1")
			if err != nil {
				t.Fatal(err)
			}
			for i := range g.cpuset { // as if the root had these
				g.cpuset[i].cpus, g.cpuset[i].mems = "0-1", "0"
			}
			b := plan.NewBuilder(64)
			if err := g.Plan(b, c.r, false); err != nil {
				t.Fatal(err)
			}
			g.Join(b)
			got, file := render(b.Program), filepath.Join("testdata", name+".golden")
			if *update {
				os.WriteFile(file, []byte(got), 0o644)
			}
			if want, _ := os.ReadFile(file); string(want) != got {
				t.Errorf("%s differs (-update rewrites it):\n%s", file, got)
			}
		})
	}
}

// render prints the steps: a write with its text and file, everything else with its object.
func render(p *plan.Program) string {
	var s strings.Builder
	for i := range p.Ops {
		o := &p.Ops[i]
		switch {
		case o.Kind == plan.Syscall && (o.Nr == unix.SYS_CLOSE || o.Nr == unix.SYS_OPENAT && o.Args[2].V&unix.O_DIRECTORY == 0):
			continue
		case o.Kind == plan.Syscall && o.Nr == unix.SYS_WRITE:
			text := "PID"
			if a := o.Args[1]; a.Kind == plan.RO {
				text = string(p.Data[a.V : a.V+o.Args[2].V])
			}
			fmt.Fprintf(&s, "%d %s: write %s < %q", o.Do, o.Field, o.Object, text)
		default:
			what := o.What
			if what == "" {
				what = o.Verb()
			}
			fmt.Fprintf(&s, "%d %s: %s %s", o.Do, o.Field, what, o.Object)
		}
		for _, c := range o.Cases[:o.NCases] {
			fmt.Fprintf(&s, " [%d: %d]", c.Errno, c.Skip)
		}
		if o.OnOK > 0 {
			fmt.Fprintf(&s, " [ok: %d]", o.OnOK)
		}
		s.WriteByte('\n')
	}
	return s.String()
}

func TestRefused(t *testing.T) {
	mem := func(m specs.LinuxMemory) *specs.LinuxResources { return &specs.LinuxResources{Memory: &m} }
	cpu := func(c specs.LinuxCPU) *specs.LinuxResources { return &specs.LinuxResources{CPU: &c} }
	dev := func(d ...specs.LinuxDeviceCgroup) *specs.LinuxResources { return &specs.LinuxResources{Devices: d} }
	one := ptr(int64(1))
	cases := []struct {
		mode Mode
		r    *specs.LinuxResources
		want string
	}{
		{V1, mem(specs.LinuxMemory{Limit: ptr(int64(-2))}), "memory.limit: invalid value -2"},
		{V1, mem(specs.LinuxMemory{Swap: one}), "memory.swap: unable to set swap limit without memory limit"},
		{V2, mem(specs.LinuxMemory{Limit: ptr(int64(2)), Swap: one}), "memory.swap: memory+swap limit should be >= memory limit"},
		{V1, mem(specs.LinuxMemory{Swappiness: ptr(uint64(101))}), "memory.swappiness: invalid memory swappiness value: 101 (valid range is 0-100)"},
		{V2, mem(specs.LinuxMemory{Swappiness: ptr(uint64(1))}), "memory.swappiness: not supported on cgroup v2"},
		{V2, &specs.LinuxResources{Unified: map[string]string{"rdma.max": "1"}}, "unified[rdma.max]: the rdma controller is not available here (cgroup.controllers: cpuset cpu io memory pids)"},
		{V2, mem(specs.LinuxMemory{DisableOOMKiller: ptr(true)}), "memory.disableOOMKiller: not supported on cgroup v2"},
		{V1, mem(specs.LinuxMemory{UseHierarchy: ptr(false)}), "memory.useHierarchy: false is not supported: accounting is always hierarchical"},
		{V1, cpu(specs.LinuxCPU{Shares: ptr(uint64(1))}), "cpu.shares: the minimum allowed cpu-shares is 2"},
		{V1, cpu(specs.LinuxCPU{Shares: ptr(uint64(1 << 20))}), "cpu.shares: the maximum allowed cpu-shares is 262144"},
		{V2, cpu(specs.LinuxCPU{RealtimeRuntime: one}), "cpu.realtimeRuntime: not supported on cgroup v2"},
		{V1, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(-5))}}, "pids.limit: invalid value -5"},
		{V1, &specs.LinuxResources{Unified: map[string]string{"a": "b"}}, "unified: invalid configuration: cannot use unified on cgroup v1"},
		{V2, &specs.LinuxResources{Unified: map[string]string{"../a": "b"}}, "unified[../a]: must be a file name (no slashes)"},
		{V2, &specs.LinuxResources{Unified: map[string]string{"..": "b"}}, "unified[..]: must be a file name (no slashes)"},
		{V1, &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{}}}, "hugepageLimits: not supported"},
		{V1, &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(10))}}, "blockIO: not supported"},
		{V1, dev(specs.LinuxDeviceCgroup{Type: "p", Access: "r"}), `devices[0].type: invalid device type "p"`},
		{V1, dev(specs.LinuxDeviceCgroup{}), `devices[0].access: invalid device access ""`},
		{V1, dev(specs.LinuxDeviceCgroup{Type: "c", Access: "rx"}), `devices[0].access: invalid device access "rx"`},
		{V1, dev(specs.LinuxDeviceCgroup{Allow: true, Access: "r"}), `devices[0]: a rule for all devices must have access "rwm" and no numbers`},
		{V1, dev(specs.LinuxDeviceCgroup{Type: "c", Access: "r", Major: ptr(int64(1 << 40))}), "devices[0]: invalid device number"},
		{
			V2, dev(specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "rw"}, specs.LinuxDeviceCgroup{Type: "c", Access: "w", Major: one}),
			`devices[1]: cannot punch a hole in the wildcard rule "c *:* rw"`,
		},
	}
	for _, c := range cases {
		l := layout(c.mode, v1Names...)
		if c.mode == V2 {
			l = layout(V2, "")
		}
		g, err := l.Group("", "c1")
		if err != nil {
			t.Fatal(err)
		}
		if err = g.Plan(plan.NewBuilder(64), c.r, false); err == nil || err.Error() != "linux.resources."+c.want {
			t.Errorf("got  %v\nwant linux.resources.%s", err, c.want)
		}
	}
	g := &Group{Mode: V1, procs: 3}
	if err := g.Plan(plan.NewBuilder(1), nil, false); err == nil || err.Error() != "container's cgroup is not empty: 3 process(es) found" {
		t.Error(err)
	}
	g.frozen = true
	if err := g.Plan(plan.NewBuilder(1), nil, true); err == nil || err.Error() != "container's cgroup unexpectedly frozen" {
		t.Error(err)
	}
}

func TestKernelMemoryWarns(t *testing.T) {
	g, _ := layout(V1, v1Names...).Group("", "c1")
	//lint:ignore SA1019 the point
	err := g.Plan(plan.NewBuilder(64), &specs.LinuxResources{Memory: &specs.LinuxMemory{Kernel: ptr(int64(5))}}, false)
	if err != nil || len(g.Warnings) != 1 {
		t.Error(err, g.Warnings)
	}
}

func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{2: 1, 1024: 100, 262144: 10000, 1 << 30: 10000, 512: 59, 2048: 174, 3: 2} {
		if got := weight(shares); got != want {
			t.Errorf("%d: got %d, want %d", shares, got, want)
		}
	}
}

func TestRuleSet(t *testing.T) {
	s := &ruleSet{}
	for _, r := range []struct {
		e     exception
		allow bool
	}{
		{exception{'c', accRead, 1, 3}, true},
		{exception{'c', accWrite, 1, 3}, true}, // merged
		{exception{'c', accRead, 1, 5}, true},
		{exception{'c', accAll, 1, 5}, false}, // gone
		{exception{'b', accAll, 8, 0}, false}, // was not there
		{exception{'b', accAll, 7, anyNumber}, true},
		{exception{'b', accMknod, 7, anyNumber}, false},
	} {
		if msg := s.apply(r.e, r.allow); msg != "" {
			t.Error(msg)
		}
	}
	got := ""
	for i := range s.list {
		got += s.list[i].String() + "; "
	}
	if got != "c 1:3 rw; b 7:* rw; " {
		t.Error(got)
	}
}
