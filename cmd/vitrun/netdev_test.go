package main

import (
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ownNet puts the test's thread into a network namespace of its own, which is the host's for what the test starts.
// The thread is not unlocked: it ends with the test (or subtest).
func ownNet(t *testing.T, commands string) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("needs network namespaces:", err)
	}
	ip(t, commands)
}

// ip runs lines of ip(8) in the thread's namespace.
func ip(t *testing.T, commands string) string {
	t.Helper()
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(commands)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ip: %v\n%s", err, out)
	}
	return string(out)
}

// devices is a bundle whose process shows the links and addresses, with netDevices.
func devices(t *testing.T, nd map[string]specs.LinuxNetDevice, f func(*specs.Spec)) string {
	return bundle(t, func(s *specs.Spec) {
		s.Process.Args = []string{"busybox", "ip", "addr"}
		s.Linux.NetDevices = nd
		if f != nil {
			f(s)
		}
	})
}

const hostSide = `link add vd0 address 02:00:00:00:00:01 mtu 1400 type veth peer name vp0
link set vp0 up
link set vd0 multicast on up
addr add 192.0.2.1/24 brd + dev vd0 label vd0:x
addr add 192.0.2.2/24 dev vd0
addr add 198.51.100.1 peer 198.51.100.9/32 dev vd0
addr add 10.9.9.9/24 scope link dev vd0
addr add 192.0.2.77/24 valid_lft 1000 preferred_lft 1000 dev vd0
addr add 2001:db8::1/64 dev vd0 nodad
link add ve0 type veth peer name ve1
link set lo up
`

func TestNetDevices(t *testing.T) {
	for _, c := range []struct {
		name string
		f    func(*specs.Spec)
	}{
		{"root", nil},
		{"user namespace", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			m := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
			s.Linux.UIDMappings, s.Linux.GIDMappings = m, m
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := name(t)
			root, dir := newRoot(t, id), devices(t, map[string]specs.LinuxNetDevice{"vd0": {Name: "net%d"}, "ve0": {}}, c.f)
			must(t, os.Chown(dir+"/rootfs", 100000, 100000))
			ownNet(t, hostSide)
			out, code := vitrun(t, root, "run", "--bundle", dir, id)
			for _, want := range []string{
				"lo: <LOOPBACK,UP,LOWER_UP>", "net0@", ": <BROADCAST,MULTICAST,UP,LOWER_UP", "mtu 1400", "02:00:00:00:00:01",
				"inet 192.0.2.1/24 brd 192.0.2.255 scope global net0", "inet 192.0.2.2/24 scope global secondary net0",
				"inet 198.51.100.1 peer 198.51.100.9/32 scope global net0", "inet6 2001:db8::1/64 scope global", "ve0@",
			} {
				if !strings.Contains(out, want) || code != 0 {
					t.Errorf("status %d, want %q in:\n%s", code, want, out)
				}
			}
			if strings.Contains(out, "10.9.9.9") || strings.Contains(out, "192.0.2.77") {
				t.Errorf("an address that is neither permanent nor global:\n%s", out)
			}
			if left := ip(t, "link show\n"); strings.Contains(left, "vd0@") || strings.Contains(left, "ve0@") {
				t.Errorf("still on the host:\n%s", left)
			}
		})
	}
}

// Into a joined namespace, where the device stays; createRuntime hooks see it there.
func TestNetDeviceJoined(t *testing.T) {
	id := name(t)
	root := newRoot(t, id)
	holder := exec.Command("sleep", "300")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	ownNet(t, hostSide)
	must(t, holder.Start())
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	})
	path := "/proc/" + strconv.Itoa(holder.Process.Pid) + "/ns/net"
	seen := t.TempDir() + "/seen"
	dir := devices(t, map[string]specs.LinuxNetDevice{"vd0": {Name: "net0"}}, func(s *specs.Spec) {
		joinNet(s, path)
		s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "nsenter --net=" + path + " ip addr >" + seen}, Env: []string{"PATH=" + os.Getenv("PATH")}}}}
	})
	if out, code := vitrun(t, root, "run", "--bundle", dir, id); code != 0 || !strings.Contains(out, "net0@") {
		t.Errorf("status %d\n%s", code, out)
	}
	hook, err := os.ReadFile(seen)
	after, _ := exec.Command("nsenter", "--net="+path, "ip", "addr").CombinedOutput()
	for _, out := range []string{string(hook), string(after)} {
		if err != nil || !strings.Contains(out, "2001:db8::1/64") || !strings.Contains(out, "net0@") {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// A new namespace has lo up and nothing else of ours; a joined one is left as it is.
func TestLoopback(t *testing.T) {
	id := name(t)
	root := newRoot(t, id)
	fresh := devices(t, nil, nil)
	ownNet(t, "link show\n")
	out, code := vitrun(t, root, "run", "--bundle", fresh, id)
	for _, want := range []string{"lo: <LOOPBACK,UP,LOWER_UP>", "inet 127.0.0.1/8 scope host lo", "inet6 ::1/128 scope host"} {
		if !strings.Contains(out, want) || code != 0 {
			t.Errorf("new: status %d, want %q in:\n%s", code, want, out)
		}
	}
	joined := devices(t, nil, func(s *specs.Spec) { joinNet(s, "/proc/self/ns/net") })
	if out, code = vitrun(t, root, "run", "--bundle", joined, id); code != 0 || !strings.Contains(out, "lo: <LOOPBACK> ") {
		t.Errorf("joined: status %d\n%s", code, out)
	}
}

func joinNet(s *specs.Spec, path string) {
	for k := range s.Linux.Namespaces {
		if s.Linux.Namespaces[k].Type == specs.NetworkNamespace {
			s.Linux.Namespaces[k].Path = path
		}
	}
}

// passing is what changes by itself.
var passing = regexp.MustCompile(` tentative|valid_lft \d+sec preferred_lft \d+sec`)

func TestNetDeviceErrors(t *testing.T) {
	pre := "vitrun run failed: unable to start container process: "
	for _, c := range []struct {
		name string
		nd   map[string]specs.LinuxNetDevice
		f    func(*specs.Spec)
		want string
	}{
		{"missing", map[string]specs.LinuxNetDevice{"vd0": {}, "vd9": {}}, nil, pre + `linux.netDevices["vd9"]: no such device in the runtime's network namespace`},
		{"taken", map[string]specs.LinuxNetDevice{"vd0": {Name: "lo"}}, nil, pre + `linux.netDevices["vd0"].name: "lo" is taken in the container's network namespace`},
		{"too long", map[string]specs.LinuxNetDevice{"vd0": {Name: "sixteen-letters!"}}, nil, `vitrun run failed: linux.netDevices["vd0"].name: invalid network device name "sixteen-letters!"`},
		{"host", map[string]specs.LinuxNetDevice{"vd0": {}}, func(s *specs.Spec) { joinNet(s, "/proc/self/ns/net") }, pre + `linux.netDevices: the container's network namespace is the host's`},
		{"cannot move", map[string]specs.LinuxNetDevice{"vd0": {}, "lo": {Name: "lo2"}}, nil, pre + `linux.netDevices["lo"]: move into the container's network namespace as "lo2": The interface netns is immutable: invalid argument`},
		// vd0 is moved before vs0, whose failure takes it back.
		{"back again", map[string]specs.LinuxNetDevice{"vd0": {Name: "net0"}, "vs0": {Name: "lo2"}}, nil, pre + `linux.netDevices["vs0"]: move into the container's network namespace as "lo2": The interface netns is immutable: invalid argument`},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := name(t)
			dir, root := devices(t, c.nd, c.f), newRoot(t, id)
			ownNet(t, hostSide+"link add vs0 type bridge\n")
			addr := func() string { return passing.ReplaceAllString(ip(t, "addr show vd0\n"), "") }
			before := addr()
			out, code := vitrun(t, root, "run", "--bundle", dir, id)
			const since612 = "The interface netns is immutable: " // the kernel's word
			if code != 1 || out != c.want+"\n" && out != strings.Replace(c.want, since612, "", 1)+"\n" {
				t.Errorf("got %d %q\nwant 1 %q", code, out, c.want)
			}
			if after := addr(); c.name != "back again" && after != before {
				t.Errorf("the device is not as it was:\n%s\n%s", before, after)
			} else if !strings.Contains(after, "UP,LOWER_UP") || !strings.Contains(after, "2001:db8::1/64") {
				t.Errorf("not brought back:\n%s", after)
			}
		})
	}
}
