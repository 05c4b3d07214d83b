package spec

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

type edit func(*specs.Spec)

func TestValidateRefuses(t *testing.T) {
	join := func(s *specs.Spec, typ specs.LinuxNamespaceType, path string) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: typ, Path: path})
	}
	without := func(s *specs.Spec, typ specs.LinuxNamespaceType) {
		var out []specs.LinuxNamespace
		for _, ns := range s.Linux.Namespaces {
			if ns.Type != typ {
				out = append(out, ns)
			}
		}
		s.Linux.Namespaces = out
	}
	mapped := func(s *specs.Spec, m ...specs.LinuxIDMapping) {
		join(s, specs.UserNamespace, "")
		s.Linux.UIDMappings, s.Linux.GIDMappings = m, m
	}
	sysctl := func(k string) edit { return func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{k: "1"} } }
	res := func(s *specs.Spec) *specs.LinuxResources { return s.Linux.Resources }
	for _, tc := range []struct {
		want string
		edit edit
	}{
		{`ociVersion: must not be empty`, func(s *specs.Spec) { s.Version = "" }},
		{`ociVersion: must be a semantic version, got "1.0"`, func(s *specs.Spec) { s.Version = "1.0" }},
		{`ociVersion: must be a semantic version, got "1.0.0-"`, func(s *specs.Spec) { s.Version = "1.0.0-" }},
		{`ociVersion: version 2.0.0 is not supported, want 1.x`, func(s *specs.Spec) { s.Version = "2.0.0" }},
		{`process: must not be empty`, func(s *specs.Spec) { s.Process = nil }},
		{`root: must not be empty`, func(s *specs.Spec) { s.Root = nil }},
		{`root.path: must not be empty`, func(s *specs.Spec) { s.Root.Path = "" }},
		{`process.cwd: must not be empty`, func(s *specs.Spec) { s.Process.Cwd = "" }},
		{`process.cwd: must be an absolute path, got "x"`, func(s *specs.Spec) { s.Process.Cwd = "x" }},
		{`process.args: must not be empty`, func(s *specs.Spec) { s.Process.Args = nil }},
		{`process.args[0]: executable path is empty`, func(s *specs.Spec) { s.Process.Args = []string{""} }},
		{`process.args[1]: must not hold a NUL byte`, func(s *specs.Spec) { s.Process.Args = []string{"a", "b\x00"} }},
		{`process.env[0]: missing '=' in "A"`, func(s *specs.Spec) { s.Process.Env = []string{"A"} }},
		{`process.env[1]: name must not be empty in "=b"`, func(s *specs.Spec) { s.Process.Env = []string{"A=", "=b"} }},
		{`process.consoleSize: height and width must be at most 65535`, func(s *specs.Spec) { s.Process.ConsoleSize = &specs.Box{Height: 1 << 16} }},
		{`process.oomScoreAdj: 1001 is out of range (-1000 to 1000)`, func(s *specs.Spec) { s.Process.OOMScoreAdj = new(1001) }},
		{`process.user.uid: 4294967295 is not an id`, func(s *specs.Spec) { s.Process.User.UID = noID }},
		{`process.user.additionalGids[1]: 4294967295 is not an id`, func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{1, noID} }},
		{`process.user.umask: 512 is out of range (0 to 511, octal 777)`, func(s *specs.Spec) { s.Process.User.Umask = new(uint32(512)) }},
		{`process.rlimits[0].type: unknown resource limit "NOFILE"`, func(s *specs.Spec) { s.Process.Rlimits[0].Type = "NOFILE" }},
		{`process.rlimits[1].type: RLIMIT_NOFILE is set twice`, func(s *specs.Spec) { s.Process.Rlimits = append(s.Process.Rlimits, s.Process.Rlimits[0]) }},
		{`process.rlimits[0].soft: 2000 is above the hard limit 1024`, func(s *specs.Spec) { s.Process.Rlimits[0].Soft = 2000 }},
		{`process.capabilities.bounding[3]: unknown capability "CAP_FOO"`, func(s *specs.Spec) {
			s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_FOO")
		}},
		{`process.capabilities.ambient[0]: unknown capability "cap_kill"`, func(s *specs.Spec) { s.Process.Capabilities.Ambient = []string{"cap_kill"} }},
		{`linux.namespaces[6].type: unknown namespace "net"`, func(s *specs.Spec) { join(s, "net", "") }},
		{`linux.namespaces[6].type: second namespace of type "pid"`, func(s *specs.Spec) { join(s, specs.PIDNamespace, "") }},
		{`linux.namespaces[6].path: must be an absolute path, got "x"`, func(s *specs.Spec) { join(s, specs.UserNamespace, "x") }},
		{`linux.rootfsPropagation: unknown propagation "rprivat"`, func(s *specs.Spec) { s.Linux.RootfsPropagation = "rprivat" }},
		{`linux.personality.domain: unknown domain "BSD"`, func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "BSD"} }},
		{`linux.uidMappings: no user namespace in linux.namespaces`, func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} }},
		{`linux.uidMappings: a new user namespace needs a mapping`, func(s *specs.Spec) { mapped(s) }},
		{`linux.uidMappings[0]: size must not be 0`, func(s *specs.Spec) { mapped(s, specs.LinuxIDMapping{}) }},
		{`linux.uidMappings[0]: ends past the largest id 4294967294`, func(s *specs.Spec) { mapped(s, specs.LinuxIDMapping{HostID: 2, Size: noID}) }},
		{`linux.uidMappings[1]: overlaps an earlier mapping`, func(s *specs.Spec) {
			mapped(s, specs.LinuxIDMapping{Size: 10}, specs.LinuxIDMapping{ContainerID: 9, HostID: 20, Size: 1})
		}},
		{`process.user.uid: 5 is not mapped by linux.uidMappings`, func(s *specs.Spec) {
			mapped(s, specs.LinuxIDMapping{Size: 5})
			s.Process.User.UID = 5
		}},
		{`hostname: unable to set hostname without a private UTS namespace`, func(s *specs.Spec) { without(s, specs.UTSNamespace) }},
		{`domainname: unable to set domainname without a private UTS namespace`, func(s *specs.Spec) {
			without(s, specs.UTSNamespace)
			s.Hostname, s.Domainname = "", "d"
		}},
		{`hostname: longer than 64 bytes`, func(s *specs.Spec) { s.Hostname = strings.Repeat("h", 65) }},
		{`linux.timeOffsets: no time namespace in linux.namespaces`, func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}} }},
		{`linux.timeOffsets: the offsets of a joined time namespace cannot change`, func(s *specs.Spec) {
			join(s, specs.TimeNamespace, "/x")
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}}
		}},
		{`linux.timeOffsets["realtime"]: unknown clock`, func(s *specs.Spec) {
			join(s, specs.TimeNamespace, "")
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {}}
		}},
		{`linux.netDevices: unable to move network devices without a private NET namespace`, func(s *specs.Spec) {
			without(s, specs.NetworkNamespace)
			netDevice(s, "eth1", "")
		}},
		{`linux.netDevices: invalid network device name "a/b"`, func(s *specs.Spec) { netDevice(s, "a/b", "") }},
		{`linux.netDevices: invalid network device name "eth%d"`, func(s *specs.Spec) { netDevice(s, "eth%d", "") }},
		{`linux.netDevices["eth1"].name: invalid network device name "sixteen-letters!"`, func(s *specs.Spec) { netDevice(s, "eth1", "sixteen-letters!") }},
		{`linux.netDevices["eth1"].name: invalid network device name "e%d%d"`, func(s *specs.Spec) { netDevice(s, "eth1", "e%d%d") }},
		{`linux.netDevices["eth2"].name: "net0" is the name of eth1 too`, func(s *specs.Spec) {
			netDevice(s, "eth1", "net0")
			netDevice(s, "eth2", "net0")
		}},
		{`mounts[1].options[4]: idmap is not supported yet`, func(s *specs.Spec) { s.Mounts[1].Options = append(s.Mounts[1].Options, "idmap") }},
		{`mounts[2].destination: must not be empty`, func(s *specs.Spec) { s.Mounts[2].Destination = "" }},
		{`mounts[0].type: must not be empty`, func(s *specs.Spec) { s.Mounts[0].Type = "" }},
		{`mounts[0].source: a bind mount needs a source`, func(s *specs.Spec) { s.Mounts[0] = specs.Mount{Destination: "/a", Options: []string{"rbind"}} }},
		{`mounts[0].options: a bind mount takes no option of a file system, got "mode=1"`, func(s *specs.Spec) {
			s.Mounts[0] = specs.Mount{Destination: "/a", Source: "/a", Options: []string{"bind", "mode=1"}}
		}},
		{`mounts[0].options: tmpcopyup needs a tmpfs, got "proc"`, func(s *specs.Spec) { s.Mounts[0].Options = []string{"tmpcopyup"} }},
		{`linux.maskedPaths[0]: must be an absolute path, got "proc"`, func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"proc"} }},
		{`linux.maskedPaths: unable to restrict sys entries without a private MNT namespace`, func(s *specs.Spec) { without(s, specs.MountNamespace) }},
		{`linux.sysctl["vm.swappiness"]: not in a separate kernel namespace`, sysctl("vm.swappiness")},
		{`linux.sysctl["kernel.hostname"]: conflicts with the field hostname`, sysctl("kernel.hostname")},
		{`linux.sysctl["net/../vm/x"]: not the name of a sysctl`, sysctl("net/../vm/x")},
		{`linux.sysctl["net.ipv4.ip_forward"]: not allowed in the host's network namespace`, func(s *specs.Spec) {
			sysctl("net.ipv4.ip_forward")(s)
			without(s, specs.NetworkNamespace)
		}},
		{`linux.sysctl["fs.mqueue.msg_max"]: not allowed in the host's ipc namespace`, func(s *specs.Spec) {
			sysctl("fs.mqueue.msg_max")(s)
			without(s, specs.IPCNamespace)
		}},
		{`linux.devices[0].path: must be an absolute path, got "null"`, func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "null", Type: "c"}} }},
		{`linux.devices[0].type: want c, u, b or p, got "x"`, func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "x"}} }},
		{`linux.devices[0].major: 4096 is out of range (0 to 4095)`, func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "b", Major: 4096}}
		}},
		{`linux.resources.devices[0].access: want some of r, w and m, got "x"`, func(s *specs.Spec) { res(s).Devices[0].Access = "x" }},
		{`linux.resources.devices[0].type: want a, b or c, got "p"`, func(s *specs.Spec) { res(s).Devices[0].Type = "p" }},
		{`linux.resources.memory.limit: -2 is below -1 (no limit)`, func(s *specs.Spec) { res(s).Memory = &specs.LinuxMemory{Limit: new(int64(-2))} }},
		{`linux.resources.memory.swap: memory and swap together (1) must not be below memory.limit (2)`, func(s *specs.Spec) {
			res(s).Memory = &specs.LinuxMemory{Limit: new(int64(2)), Swap: new(int64(1))}
		}},
		{`linux.resources.cpu.cpus: not a list of numbers and ranges: "3-1"`, func(s *specs.Spec) { res(s).CPU = &specs.LinuxCPU{Cpus: "3-1"} }},
		{`linux.resources.unified["a/b"]: want the name of a cgroup v2 file, such as memory.high`, func(s *specs.Spec) { res(s).Unified = map[string]string{"a/b": ""} }},
		{`hooks.createRuntime[0].path: must be an absolute path, got "x"`, func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "x"}}} }},
		{`hooks.poststop[1].timeout: 0 is not above 0 (seconds)`, func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/x"}, {Path: "/x", Timeout: new(0)}}}
		}},
		{`linux.intelRdt: not supported yet`, func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} }},
		{`linux.resources.blockIO: not supported yet`, func(s *specs.Spec) { res(s).BlockIO = &specs.LinuxBlockIO{LeafWeight: new(uint16(10))} }},
		{`linux.seccomp: SCMP_ACT_NOTIFY: not supported yet`, func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{Syscalls: []specs.LinuxSyscall{{Action: specs.ActNotify}}}
		}},
		{`mounts[].uidMappings: not supported yet`, func(s *specs.Spec) { s.Mounts[0].UIDMappings = []specs.LinuxIDMapping{{Size: 1}} }},
		{`windows: not supported yet`, func(s *specs.Spec) { s.Windows = &specs.Windows{} }},
	} {
		s := Example()
		tc.edit(s)
		if err := Validate(s, ValidateOptions{}); err == nil || err.Error() != tc.want {
			t.Errorf("have %v\nwant %s", err, tc.want)
		}
	}
}

func TestValidateOptions(t *testing.T) {
	s := Example()
	s.Linux.RootfsPropagation = "rprivate"
	if err := Validate(s, ValidateOptions{}); err != nil {
		t.Error(err)
	}
	if err, want := Validate(s, ValidateOptions{NoPivot: true}), "linux.rootfsPropagation: rprivate is not safe without pivot_root"; err == nil || err.Error() != want {
		t.Error(err)
	}
	s = ExampleRootless(1000, 1000)
	if err := Validate(s, ValidateOptions{Rootless: true}); err != nil {
		t.Error(err)
	}
	s.Process.User.AdditionalGids = []uint32{0}
	if err, want := Validate(s, ValidateOptions{Rootless: true}), "process.user.additionalGids: cannot set any additional groups in a rootless container"; err == nil || err.Error() != want {
		t.Error(err)
	}
	p := &specs.Process{Cwd: "/"}
	if err := ValidateProcess(p); err == nil || err.Error() != "exec args cannot be empty" {
		t.Error(err)
	}
	p.Args = []string{"sh"}
	if err := ValidateProcess(p); err != nil {
		t.Error(err)
	}
	p.SelinuxLabel = "x"
	if err := ValidateProcess(p); err == nil || err.Error() != "process.selinuxLabel: not supported yet" {
		t.Error(err)
	}
}

func netDevice(s *specs.Spec, host, inside string) {
	if s.Linux.NetDevices == nil {
		s.Linux.NetDevices = map[string]specs.LinuxNetDevice{}
	}
	s.Linux.NetDevices[host] = specs.LinuxNetDevice{Name: inside}
}

func TestNetDevices(t *testing.T) {
	s := Example()
	for host, inside := range map[string]string{"eth1": "", "eth2": "net%d", "eth3": "net%d", "fifteen-letters": "%d"} {
		netDevice(s, host, inside)
	}
	if err := Validate(s, ValidateOptions{}); err != nil {
		t.Error(err)
	}
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = []specs.LinuxIDMapping{{Size: 1}}, []specs.LinuxIDMapping{{Size: 1}}
	const want = "linux.netDevices: network devices are not supported for rootless containers"
	if err := Validate(s, ValidateOptions{Rootless: true}); err == nil || err.Error() != want {
		t.Errorf("rootless: %v", err)
	}
}

// Every line of the table must be set by something: no two share a field.
func TestUnsupportedTable(t *testing.T) {
	seen := map[string]bool{}
	v := &sections{Spec: &specs.Spec{}}
	v.fill()
	for _, u := range unsupported {
		if seen[u.field] || u.used(v) {
			t.Error(u.field)
		}
		seen[u.field] = true
	}
}

func TestValidateAccepts(t *testing.T) {
	docker := Example() // dockerd always sends these
	docker.Linux.Resources.BlockIO, docker.Linux.Resources.Network = &specs.LinuxBlockIO{Weight: new(uint16)}, &specs.LinuxNetwork{}
	if err := Validate(docker, ValidateOptions{}); err != nil {
		t.Error(err)
	}
	for _, f := range []string{"runc-1.1.json", "runc-1.1-rootless.json"} {
		b, err := os.ReadFile(filepath.Join("testdata", f))
		if err != nil {
			t.Fatal(err)
		}
		s, w, err := Decode(b)
		if err != nil || len(w) > 0 {
			t.Fatal(f, w, err)
		}
		if err := Validate(s, ValidateOptions{}); err != nil {
			t.Error(f, err)
		}
	}
}

// TestExample holds the examples against runc's, changed where today's runc or vitrun differ.
func TestExample(t *testing.T) {
	for _, tc := range []struct {
		file string
		have *specs.Spec
	}{{"runc-1.1.json", Example()}, {"runc-1.1-rootless.json", ExampleRootless(0, 0)}} {
		b, err := os.ReadFile(filepath.Join("testdata", tc.file))
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		want.Version, want.Hostname = Version, "vitrun"
		want.Process.Capabilities.Ambient = nil
		want.Linux.MaskedPaths = append(want.Linux.MaskedPaths, "/sys/devices/virtual/tpm")
		has := map[specs.LinuxNamespaceType]bool{specs.CgroupNamespace: true}
		for _, ns := range want.Linux.Namespaces {
			has[ns.Type] = true
		}
		for _, ns := range tc.have.Linux.Namespaces {
			delete(has, ns.Type)
		}
		if len(has) > 0 {
			t.Error(tc.file, has)
		}
		want.Linux.Namespaces = tc.have.Linux.Namespaces
		if have, want := EncodeIndent(tc.have), EncodeIndent(want); !bytes.Equal(have, want) {
			t.Errorf("%s: have %s\nwant %s", tc.file, have, want)
		}
	}
	if Version != specs.Version {
		t.Errorf("Version is %s, specs-go's %s", Version, specs.Version)
	}
}

func TestNormalise(t *testing.T) {
	s := &specs.Spec{
		Process: &specs.Process{Env: []string{"A=1", "B=2", "A=3"}, Cwd: "/a//b/.."},
		Mounts:  []specs.Mount{{Destination: "x/../../y/"}, {Destination: "/", Type: "bind", Options: []string{"ro"}}},
		Linux: &specs.Linux{
			MaskedPaths: []string{"/proc/a", "/proc/b", "/proc//a"},
			Sysctl:      map[string]string{"net/ipv4/conf/eth0.1/forwarding": "1"},
		},
	}
	Normalise(s)
	check := func(have, want any) {
		t.Helper()
		if !reflect.DeepEqual(have, want) {
			t.Errorf("have %v, want %v", have, want)
		}
	}
	check(s.Process.Env, []string{"B=2", "A=3"})
	check(s.Process.Cwd, "/a")
	check(s.Mounts[0].Destination, "/y")
	check(s.Mounts[1].Destination, "/")
	check(s.Mounts[1].Options, []string{"ro", "bind"})
	check(s.Linux.MaskedPaths, []string{"/proc/b", "/proc/a"})
	check(s.Linux.Sysctl, map[string]string{"net.ipv4.conf.eth0/1.forwarding": "1"})
	if s.Linux.Resources.Memory == nil || s.Hooks == nil || s.Root == nil || s.Process.Capabilities == nil {
		t.Error("a section is nil")
	}
	once := Encode(s)
	Normalise(s)
	check(string(Encode(s)), string(once))

	var many []string
	for range 3 {
		for i := range 50 {
			many = append(many, "K"+string(rune('0'+i))+"=v")
		}
	}
	s.Process.Env = many
	Normalise(s)
	check(s.Process.Env, many[:50])
}
