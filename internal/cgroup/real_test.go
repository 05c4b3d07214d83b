package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vitro/internal/plan"
	"vitro/internal/stub"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// real is a group of this host, removed at the end. Its name is absolute, so that no test depends on where it runs.
func real(t *testing.T, l *Layout, sub string) *Group {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("needs root to make cgroups")
	}
	g, err := l.Group("/vitro-test-"+strconv.Itoa(os.Getpid())+sub, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(g.Kill(), g.Undo()); err != nil && !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
		for _, dir := range g.made {
			if exists(dir) {
				t.Error("left behind: " + dir)
			}
		}
	})
	return g
}

func detect(t *testing.T) *Layout {
	t.Helper()
	l, err := Detect()
	if err != nil {
		t.Skip("needs a cgroup mount: ", err)
	}
	return l
}

// do plans and runs the parent's ops, and those of the join for pid (0: none).
func do(g *Group, r *specs.LinuxResources, pid int) error {
	b := plan.NewBuilder(128)
	if err := g.Plan(b, r, false); err != nil {
		return err
	}
	if pid != 0 {
		b.Copy(plan.Parent, plan.Addr(plan.SlotPID), b.Words(uint64(pid)), 8)
		g.Join(b)
	}
	l, err := stub.Run(b.Program, false, stub.Options{})
	if g.FD != 0 && err == nil {
		unix.Close(int(l.Slot(g.FD)))
	}
	return err
}

func TestLimitsV1(t *testing.T) {
	l := detect(t)
	if l.Mode == V2 {
		t.Skip("needs cgroup v1")
	}
	g := real(t, l, "/limits")
	r := fullResources()
	r.CPU.Mems, r.Memory.Swappiness = "", ptr(uint64(10))
	if err := do(g, r, 0); err != nil {
		t.Fatal(err)
	}
	want := []struct{ controller, file, value string }{
		{"memory", "memory.limit_in_bytes", "67108864"},
		{"memory", "memory.memsw.limit_in_bytes", "100663296"},
		{"memory", "memory.soft_limit_in_bytes", "33554432"},
		{"memory", "memory.swappiness", "10"},
		{"cpu", "cpu.shares", "512"},
		{"cpu", "cpu.cfs_quota_us", "50000"},
		{"cpu", "cpu.cfs_period_us", "200000"},
		{"cpu", "cpu.cfs_burst_us", "1000"},
		{"cpuset", "cpuset.cpus", "0"},
		{"pids", "pids.max", "20"},
	}
	check := func() {
		t.Helper()
		for _, w := range want {
			if got, err := readLine(g.find(w.controller).path + "/" + w.file); got != w.value {
				t.Errorf("%s: %q, want %q, %v", w.file, got, w.value, err)
			}
		}
	}
	check()
	root, _ := readLine("/sys/fs/cgroup/cpuset/cpuset.mems")
	if mems, _ := readLine(g.find("cpuset").path + "/cpuset.mems"); mems != root {
		t.Errorf("cpuset.mems %q, want the root's %q", mems, root)
	}
	list, _ := readLine(g.find("devices").path + "/devices.list")
	if !strings.HasPrefix(list, "b 7:* rw\nc *:* m\nb *:* m\nc 1:3 rwm\n") || strings.Count(list, "\n") != 11 {
		t.Errorf("devices.list:\n%s", list)
	}

	// The same group again: lower, then higher limits than the old ones.
	for _, k := range []int64{1, 4} {
		again, err := l.Group(g.places[0].path[g.places[0].mount:], "")
		if err != nil {
			t.Fatal(err)
		}
		r.Memory.Limit, r.Memory.Swap = ptr(k*(16<<20)), ptr(k*(24<<20))
		r.CPU.Quota, r.CPU.Burst = ptr(k*20000), ptr(uint64(k*10000))
		if err := do(again, r, 0); err != nil {
			t.Fatal(err)
		}
		want[0].value, want[1].value = strconv.Itoa(int(k*(16<<20))), strconv.Itoa(int(k*(24<<20)))
		want[5].value, want[7].value = strconv.Itoa(int(k*20000)), strconv.Itoa(int(k*10000))
		check()
	}
}

func TestKernelRefusal(t *testing.T) {
	l := detect(t)
	if l.Mode == V2 {
		t.Skip("needs cgroup v1")
	}
	g := real(t, l, "/refused")
	err := do(g, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(1))}}, 0)
	want := "linux.resources.cpu.quota (" + g.find("cpu").path + "/cpu.cfs_quota_us): write 1: invalid argument"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// child starts a shell that runs script after the call of release, so that it can be placed first.
func child(t *testing.T, script string) (c *exec.Cmd, release func()) {
	t.Helper()
	c = exec.Command("/bin/sh", "-c", "read x; "+script)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return c, func() { in.Write([]byte("\n")) }
}

// until waits for a state that is on its way.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 2000 {
		if f() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

func TestJoinFreezeKillRemove(t *testing.T) {
	l := detect(t)
	if l.Mode == V2 {
		t.Skip("needs cgroup v1: on v2 the clone joins")
	}
	variants := map[string]func(*Group) *Group{
		"cgroup.kill": func(g *Group) *Group { return FromPaths(g.Paths()) },
		"freezer": func(g *Group) *Group {
			return FromPaths(slices.DeleteFunc(g.Paths(), func(p Path) bool { return p.Controller == "" }))
		},
		"no freezer": func(g *Group) *Group {
			return FromPaths(slices.DeleteFunc(g.Paths(), func(p Path) bool { return p.Controller == "" || p.Controller == "freezer" }))
		},
	}
	for name, variant := range variants {
		t.Run(name, func(t *testing.T) {
			g := real(t, l, "-join/a")
			// Forks until the limit stops it; every process does the same.
			c, release := child(t, `f() { f & f & sleep 60; }; f`)
			if err := do(g, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(20))}}, c.Process.Pid); err != nil {
				t.Fatal(err)
			}
			own, _ := os.ReadFile("/proc/" + strconv.Itoa(c.Process.Pid) + "/cgroup")
			if n := strings.Count(string(own), g.places[0].path[g.places[0].mount:]+"\n"); n != len(l.Hierarchies) {
				t.Errorf("in %d of %d hierarchies:\n%s", n, len(l.Hierarchies), own)
			}
			if _, err := l.Group(g.places[0].path[g.places[0].mount:], ""); err != nil {
				t.Error(err)
			}
			release()
			until(t, "a bomb", func() bool { p, _ := g.Procs(true); return len(p) > 10 })
			v := variant(g)
			if name != "no freezer" {
				freezeThaw(t, l, v)
				if err := v.Freeze(); err != nil { // a frozen group is killed as well
					t.Fatal(err)
				}
			}
			if err := v.Kill(); err != nil {
				t.Fatal(err)
			}
			c.Wait()
			if err := FromPaths(g.Paths()).Remove(); err != nil {
				t.Fatal(err)
			}
			if n, err := g.Procs(true); g.Exists() || len(n) != 0 || err != nil {
				t.Error(n, err)
			}
		})
	}
}

func freezeThaw(t *testing.T, l *Layout, g *Group) {
	t.Helper()
	if err := g.Freeze(); err != nil {
		t.Fatal(err)
	}
	if ok, err := g.Frozen(); !ok || err != nil {
		t.Fatal("not frozen", err)
	}
	if err := g.Thaw(); err != nil {
		t.Fatal(err)
	}
	if ok, err := g.Frozen(); ok || err != nil {
		t.Fatal("frozen", err)
	}
}

func TestNotEmptyAndFrozen(t *testing.T) {
	l := detect(t)
	if l.Mode == V2 {
		t.Skip("needs cgroup v1: on v2 the clone joins")
	}
	g := real(t, l, "-full")
	c, _ := child(t, "sleep 60")
	if err := do(g, nil, c.Process.Pid); err != nil {
		t.Fatal(err)
	}
	second := func() *Group {
		again, err := l.Group(g.places[0].path[g.places[0].mount:], "")
		if err != nil {
			t.Fatal(err)
		}
		return again
	}
	if err := do(second(), nil, 0); err == nil || err.Error() != "container's cgroup is not empty: 1 process(es) found" {
		t.Error(err)
	}
	if err := second().Undo(); err != nil || !g.Exists() {
		t.Error("Undo of a second start touched the first", err)
	}
	if err := errors.Join(g.Kill(), c.Process.Kill()); err != nil {
		t.Error(err)
	}
	c.Wait()
	if err := g.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := do(second(), nil, 0); err == nil || err.Error() != "container's cgroup unexpectedly frozen" {
		t.Error(err)
	}
	if err := g.Thaw(); err != nil {
		t.Error(err)
	}
}

// unified is the host's v2 tree as if it were the only one. Nothing is enabled in it: its root is not the test's to change.
func unified(t *testing.T) *Layout {
	l := detect(t)
	h := l.Hierarchies[len(l.Hierarchies)-1]
	if h.Controllers != "" {
		t.Skip("needs a cgroup2 mount")
	}
	return &Layout{Mode: V2, Hierarchies: []Hierarchy{h}}
}

func TestDeviceProgram(t *testing.T) {
	l := unified(t)
	dir := t.TempDir()
	node := func(major, minor uint32) string {
		path := dir + "/" + strconv.Itoa(int(major)) + "." + strconv.Itoa(int(minor))
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(major, minor))); err != nil && err != unix.EEXIST {
			t.Skip("needs mknod: ", err)
		}
		return path
	}
	zero, kmsg := node(1, 5), node(1, 11)
	n := func(v int64) *int64 { return &v }
	type try struct {
		flags string // of the shell's redirection
		path  string
		ok    bool
	}
	cases := map[string]struct {
		rules []specs.LinuxDeviceCgroup
		tries []try
	}{
		"default": {nil, []try{{"<", zero, true}, {"<>", zero, true}, {"<", kmsg, false}}},
		"read only": {
			[]specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "c", Major: n(1), Minor: n(11), Access: "r"}},
			[]try{{"<", kmsg, true}, {">", kmsg, false}, {"<>", kmsg, false}, {"<", zero, true}},
		},
		"all": {[]specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, []try{{"<", kmsg, true}, {"<>", zero, true}}},
		"all but writes": {
			[]specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}, {Type: "c", Major: n(1), Minor: n(11), Access: "w"}},
			[]try{{"<", kmsg, true}, {">", kmsg, false}, {"<>", kmsg, false}},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			g := real(t, l, "-dev")
			if err := do(g, &specs.LinuxResources{Devices: c.rules}, 0); err != nil {
				t.Fatal(err)
			}
			fd, err := unix.Open(g.places[0].path, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			for _, x := range c.tries {
				sh := exec.Command("/bin/sh", "-c", "exec 3"+x.flags+" "+x.path)
				sh.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
				if out, err := sh.CombinedOutput(); (err == nil) != x.ok {
					t.Errorf("%s %s: %v %s", x.flags, x.path, err, out)
				}
			}
		})
	}
}

func TestV2KillAndThreads(t *testing.T) {
	l := unified(t)
	g := real(t, l, "-v2/a/b")
	if err := do(g, nil, 0); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(g.places[0].path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	sleep := exec.Command("sleep", "60")
	sleep.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	if pids, err := FromPaths(g.Paths()).Procs(false); !slices.Equal(pids, []int{sleep.Process.Pid}) {
		t.Error(pids, err)
	}
	freezeThaw(t, l, g)
	if err := g.Kill(); err != nil {
		t.Error(err)
	}
	if err := sleep.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Error(err)
	}

	// A group below a threaded one has to be threaded, too.
	parent := g.places[0].path
	until(t, "an empty group", func() bool { e, _ := readLine(parent + "/cgroup.events"); return strings.HasPrefix(e, "populated 0") })
	if err := write(parent+"/cgroup.type", "threaded"); err != nil {
		t.Skip("needs threaded cgroups: ", err)
	}
	below := real(t, l, "-v2/a/b/c")
	if err := do(below, nil, 0); err != nil {
		t.Fatal(err)
	}
	if kind, _ := readLine(below.places[0].path + "/cgroup.type"); kind != "threaded" {
		t.Error(kind)
	}
	err = do(below, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(1 << 20))}}, 0)
	if want := "linux.resources.memory: cannot enter cgroup " + below.places[0].path + ": its parent is threaded, which excludes the memory controller"; err == nil || err.Error() != want {
		t.Error(err)
	}
}

// Enabling all at once fails for the unknown one; each alone, the known one is enabled (if the host gives it to us).
func TestEnable(t *testing.T) {
	l := unified(t)
	top := real(t, l, "-enable")
	if err := do(top, nil, 0); err != nil {
		t.Fatal(err)
	}
	l = &Layout{Mode: V2, Hierarchies: []Hierarchy{{Mount: top.places[0].path}}, Available: "nosuch"}
	given, _ := readLine(top.places[0].path + "/cgroup.controllers")
	if given != "" {
		l.Available += " " + given
	}
	g, err := l.Group("/a/b", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Undo() })
	if err := do(g, nil, 0); err != nil {
		t.Fatal(err)
	}
	if got, err := readLine(g.places[0].path + "/cgroup.controllers"); got != given || err != nil {
		t.Errorf("got %q, want %q, %v", got, given, err)
	}
	err = do(g, &specs.LinuxResources{Unified: map[string]string{"nosuch.max": "1"}}, 0)
	want := "linux.resources.unified[nosuch.max] (" + g.places[0].path + "/nosuch.max): openat: no such file or directory"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// BenchmarkStart is a start's share: the folders, no limits, and their removal.
func BenchmarkStart(b *testing.B) {
	if unix.Geteuid() != 0 {
		b.Skip("needs root to make cgroups")
	}
	for b.Loop() {
		l, err := Detect()
		if err != nil {
			b.Fatal(err)
		}
		g, err := l.Group("/vitro-bench-cgroup-"+strconv.Itoa(os.Getpid()), "")
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(do(g, nil, 0), g.Undo()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	for b.Loop() {
		l, err := Detect()
		if err != nil {
			b.Fatal(err)
		}
		g, err := l.Group("/vitro-bench-cgroup", "")
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Plan(plan.NewBuilder(128), nil, false); err != nil {
			b.Fatal(err)
		}
	}
}
