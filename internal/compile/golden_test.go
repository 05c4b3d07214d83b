package compile

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"vitro/internal/cgroup"
	"vitro/internal/plan"
	"vitro/internal/spec"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden")

// plain is the default spec with neither terminal nor read-only root.
func plain() *specs.Spec {
	s := spec.Example()
	s.Process.Terminal, s.Root.Readonly = false, false
	return s
}

// slim is plain with little in it, for cases whose point is elsewhere.
func slim() *specs.Spec {
	s := plain()
	s.Mounts, s.Process.Rlimits = s.Mounts[:2], nil
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
	return s
}

// input has the facts of a host on which nothing is special: stdin is /dev/null, root calls.
func input(s *specs.Spec) *Input {
	return &Input{Spec: s, ID: "c1", Bundle: "/b", StateDir: "/run/vitrun/c1", ConsoleFD: -1, RootFD: -1, Facts: Facts{
		Rootfs: "/b/rootfs", Home: "/root", StdioNull: [3]bool{true}, StdioOpen: [3]bool{true, true, true},
	}}
}

func ns(s *specs.Spec, t specs.LinuxNamespaceType, path string) {
	dropNS(s, t)
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
}

// hybrid and v2 are cgroup layouts as data. The mount points are below the test's own folder, so that nothing of this host shows.
func hybrid(t *testing.T) *cgroup.Group {
	t.Chdir(t.TempDir())
	must(t, os.MkdirAll("cgroup/cpuset", 0o755))
	must(t, os.WriteFile("cgroup/cpuset/cpuset.cpus", []byte("0-1\n"), 0o644))
	must(t, os.WriteFile("cgroup/cpuset/cpuset.mems", []byte("0\n"), 0o644))
	return group(t, &cgroup.Layout{Mode: cgroup.Hybrid, Hierarchies: []cgroup.Hierarchy{
		{Controllers: "cpuset", Mount: "cgroup/cpuset"},
		{Controllers: "cpu,cpuacct", Mount: "cgroup/cpu,cpuacct"},
		{Controllers: "memory", Mount: "cgroup/memory"},
		{Controllers: "devices", Mount: "cgroup/devices"},
		{Controllers: "pids", Mount: "cgroup/pids"},
		{Controllers: "name=systemd", Mount: "cgroup/systemd"},
		{Controllers: "", Mount: "cgroup/unified"},
	}})
}

func v2(t *testing.T) *cgroup.Group {
	t.Chdir(t.TempDir())
	must(t, os.Mkdir("cgroup", 0o755))
	return group(t, &cgroup.Layout{Mode: cgroup.V2, Available: "cpu memory pids", Hierarchies: []cgroup.Hierarchy{{Mount: "cgroup"}}})
}

func group(t *testing.T, l *cgroup.Layout) *cgroup.Group {
	t.Helper()
	g, err := l.Group("/vitro/c1", "c1")
	must(t, err)
	return g
}

func everyHook(s *specs.Spec) {
	h := []specs.Hook{{Path: "/bin/true"}}
	//lint:ignore SA1019 prestart is deprecated, and used
	s.Hooks = &specs.Hooks{Prestart: h, CreateRuntime: h, CreateContainer: h, StartContainer: h, Poststart: h, Poststop: h} //nolint:staticcheck // prestart is deprecated, and used
}

// goldens are the starts whose printed plans are held in testdata; TestOrder asks the same ones for what must come before what.
var goldens = []struct {
	name string
	make func(t *testing.T) *Input
}{
	{"run", func(*testing.T) *Input { return input(plain()) }},
	{"create", func(*testing.T) *Input {
		in := input(plain())
		in.Create = true
		return in
	}},
	{"apparmor", func(*testing.T) *Input {
		s := slim()
		s.Process.ApparmorProfile = "docker-default"
		in := input(s)
		in.Facts.AppArmor = true
		return in
	}},
	{"readonly-tty", func(*testing.T) *Input {
		s := spec.Example()
		s.Process.ConsoleSize = &specs.Box{Height: 24, Width: 80}
		s.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{5}}
		s.Process.Cwd = "/work/dir"
		in := input(s)
		in.Create, in.ConsoleFD = true, 9
		return in
	}},
	{"userns-root", func(*testing.T) *Input {
		s := plain()
		userNS(s, 0, 100000, 65536)
		addMount(s, "/data", "bind", "/srv/data", "rbind", "ro", "rprivate")
		in := input(s)
		in.Facts.SourceDir = []bool{7: true}
		return in
	}},
	{"userns-1000", func(*testing.T) *Input {
		s := slim()
		userNS(s, 1000, 2000, 1)
		s.Process.User = specs.User{UID: 1000, GID: 1000}
		adj := 100
		s.Process.OOMScoreAdj = &adj
		return input(s)
	}},
	{"userns-limits", func(*testing.T) *Input {
		s := slim()
		userNS(s, 0, 100000, 65536)
		adj := -500
		s.Process.OOMScoreAdj = &adj
		s.Process.Rlimits = plain().Process.Rlimits
		in := input(s)
		in.Facts.Raises = true
		return in
	}},
	{"userns-join-net", func(*testing.T) *Input {
		s := slim()
		userNS(s, 0, 100000, 65536)
		ns(s, specs.NetworkNamespace, "/run/netns/n1")
		return input(s)
	}},
	{"join-net", func(*testing.T) *Input {
		s := slim()
		ns(s, specs.NetworkNamespace, "/run/netns/n1")
		return input(s)
	}},
	{"join-pid-user", func(*testing.T) *Input {
		s := slim()
		ns(s, specs.PIDNamespace, "/proc/100/ns/pid")
		ns(s, specs.UserNamespace, "/proc/100/ns/user")
		return input(s)
	}},
	{"detached-root", func(*testing.T) *Input {
		in := input(slim())
		in.Facts.Rootfs = "/proc/self/fd/18"
		return in
	}},
	{"no-pivot", func(*testing.T) *Input {
		in := input(slim())
		in.NoPivot, in.NoKeyring = true, true
		return in
	}},
	{"chroot", func(*testing.T) *Input {
		s := slim()
		dropNS(s, specs.MountNamespace)
		s.Mounts = nil
		return input(s)
	}},
	{"netdevices", func(*testing.T) *Input {
		s := slim()
		s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/true"}}}
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth1": {Name: "net0"}}
		return input(s)
	}},
	{"hooks", func(*testing.T) *Input {
		s := slim()
		everyHook(s)
		s.Root.Readonly = true
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = []string{"/proc/kcore"}, []string{"/proc/sys"}
		in := input(s)
		in.Create = true
		return in
	}},
	{"seccomp-nnp", func(*testing.T) *Input {
		in := input(slim())
		in.Create, in.Facts.Program = true, make([]byte, 8*128)
		return in
	}},
	{"seccomp", func(*testing.T) *Input {
		s := slim()
		s.Process.NoNewPrivileges = false
		in := input(s)
		in.Create, in.Facts.Program, in.Facts.SecFlags = true, make([]byte, 8*128), unix.SECCOMP_FILTER_FLAG_LOG
		return in
	}},
	{"sysctl-rlimits-devices-ambient", func(*testing.T) *Input {
		s := slim()
		adj, mode, id := 100, os.FileMode(0o640), uint32(7)
		s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel/shmmni": "4000"}
		s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 2048}, {Type: "RLIMIT_CORE", Soft: 0, Hard: ^uint64(0)}}
		s.Process.OOMScoreAdj = &adj
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: &mode, UID: &id, GID: &id}, {Path: "/opt/loop", Type: "b", Major: 7}, {Path: "/dev/null", Type: "c", Major: 1, Minor: 3}}
		caps := []string{"CAP_NET_BIND_SERVICE"}
		s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: caps, Ambient: caps}
		s.Process.User.UID = 1000
		return input(s)
	}},
	{"time", func(*testing.T) *Input {
		s := slim()
		ns(s, specs.TimeNamespace, "")
		s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 5, Nanosecs: 7}, "boottime": {Secs: -3}}
		return input(s)
	}},
	{"cgroup-hybrid", func(t *testing.T) *Input {
		in := input(limited())
		in.Group = hybrid(t)
		return in
	}},
	{"cgroup-v2", func(t *testing.T) *Input {
		in := input(limited())
		in.Group, in.Facts.V2 = v2(t), true
		return in
	}},
	{"cgroup-v2-delegated", func(t *testing.T) *Input {
		s := slim()
		userNS(s, 0, 100000, 65536)
		addMount(s, "/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "rw")
		in := input(s)
		in.Group, in.Facts.V2 = v2(t), true
		return in
	}},
	{"tmpcopyup", func(*testing.T) *Input {
		s := slim()
		addMount(s, "/etc", "tmpfs", "tmpfs", "tmpcopyup", "nosuid", "mode=0700")
		addMount(s, "/var/lib", "tmpfs", "tmpfs", "sync", "lazytime")
		addMount(s, "/var/lib", "tmpfs", "", "remount", "async", "rw", "size=1m")
		return input(s)
	}},
	{"binds", func(*testing.T) *Input {
		s := slim()
		addMount(s, "/a", "bind", "/srv/a", "bind", "ro", "nosuid", "rshared")
		addMount(s, "/b", "bind", "b", "rbind", "rro", "slave")
		addMount(s, "/etc/hosts", "bind", "/srv/hosts", "bind", "rw", "exec")
		addMount(s, "/self", "bind", "/proc/self/ns/net", "bind")
		addMount(s, "/a", "", "", "remount", "bind", "noexec")
		s.Linux.RootfsPropagation = "rshared"
		in := input(s)
		in.Facts.SourceDir = []bool{2: true, 3: true, 6: true}
		return in
	}},
}

// limited has a cgroup mount and limits.
func limited() *specs.Spec {
	s := slim()
	s.Mounts = append(s.Mounts, spec.Example().Mounts[6])
	mem, quota, period, pids := int64(64<<20), int64(50000), uint64(100000), int64(100)
	s.Linux.Resources = &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: &mem},
		CPU:     &specs.LinuxCPU{Quota: &quota, Period: &period},
		Pids:    &specs.LinuxPids{Limit: &pids},
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}},
	}
	return s
}

func TestGolden(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			compare(t, g.name, func() (*plan.Program, error) { return Container(g.make(t)) })
		})
	}
}

// compare holds a program against its golden file. Numbers of system calls and sizes of structs are those of amd64.
func compare(t *testing.T, name string, compile func() (*plan.Program, error)) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("the goldens are of amd64")
	}
	file, err := filepath.Abs("testdata/" + name + ".golden") // the test may change its folder
	must(t, err)
	p, err := compile()
	must(t, err)
	var got bytes.Buffer
	must(t, p.Render(&got))
	if *update {
		must(t, os.WriteFile(file, got.Bytes(), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the plan has changed; read the difference, then run with -update:\n%s", diff(want, got.Bytes()))
	}
}

// diff shows the first lines that differ.
func diff(want, got []byte) string {
	w, g := bytes.Split(want, []byte("\n")), bytes.Split(got, []byte("\n"))
	for k := range min(len(w), len(g)) {
		if !bytes.Equal(w[k], g[k]) {
			return "-" + string(w[k]) + "\n+" + string(g[k])
		}
	}
	return "one is longer"
}

// execInput is an exec into a container with its own namespaces of every kind but user.
func execInput() *ExecInput {
	p := plain().Process
	p.Rlimits = nil
	f := input(plain()).Facts
	return &ExecInput{Process: p, PID: 100, PIDFD: 8, ID: "c1", StateDir: "/run/vitrun/c1", ConsoleFD: -1, Facts: ExecFacts{
		Namespaces: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP, Facts: f,
	}}
}

var execGoldens = []struct {
	name   string
	change func(in *ExecInput)
}{
	{"exec", func(*ExecInput) {}},
	{"exec-tty", func(in *ExecInput) {
		in.Process.Terminal, in.ConsoleFD = true, 9
		in.Process.User = specs.User{UID: 1000, GID: 1000}
		in.Facts.Facts.Program = make([]byte, 8*128)
		in.CgroupDir = "/sys/fs/cgroup/vitro/c1"
	}},
	{"exec-userns", func(in *ExecInput) {
		in.Facts.Namespaces |= unix.CLONE_NEWUSER
		in.Process.Rlimits = plain().Process.Rlimits
	}},
	{"exec-chroot", func(in *ExecInput) { in.Facts.Namespaces, in.Facts.Chroot = 0, true }},
}

func TestGoldenExec(t *testing.T) {
	for _, g := range execGoldens {
		t.Run(g.name, func(t *testing.T) {
			in := execInput()
			g.change(in)
			compare(t, g.name, func() (*plan.Program, error) { return Exec(in) })
		})
	}
}
