package compile

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vitro/internal/cgroup"
	"vitro/internal/plan"
	"vitro/internal/spec"
	"vitro/internal/stub"
	"vitro/internal/testenv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// rootfs is busybox with a passwd of two users.
func rootfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"bin", "etc", "tmp", "proc", "sys", "dev"} {
		must(t, os.Mkdir(dir+"/"+d, 0o755))
	}
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chmod(dir+"/tmp", 0o777))
	bin, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs /bin/busybox (Debian: busybox-static)")
	}
	must(t, os.WriteFile(dir+"/bin/busybox", bin, 0o755))
	for _, n := range strings.Fields("sh true cat ls id mount env pwd hostname ps stat grep touch mkdir readlink dnsdomainname tty stty sleep chroot umount mknod ip") {
		must(t, os.Symlink("busybox", dir+"/bin/"+n))
	}
	must(t, os.WriteFile(dir+"/etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n"), 0o644))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// example is the default spec on a busybox rootfs that runs script, with its output in the file /tmp/out.
func example(t *testing.T, script string) *specs.Spec {
	s := spec.Example()
	s.Root.Path, s.Root.Readonly = rootfs(t), false
	s.Process.Terminal = false
	s.Process.Args = []string{"sh", "-c", "exec >/tmp/out 2>&1; " + script}
	return s
}

func output(t *testing.T, s *specs.Spec) string {
	t.Helper()
	b, err := os.ReadFile(s.Root.Path + "/tmp/out")
	must(t, err)
	return string(b)
}

// runInput compiles and runs, and gives back the exit status.
func runInput(t *testing.T, in *Input, call func(*stub.Launch, *plan.Op) error) (int, error) {
	t.Helper()
	if err := Gather(in); err != nil {
		return 0, err
	}
	p, err := Container(in)
	if err != nil {
		return 0, err
	}
	if call == nil {
		call = func(*stub.Launch, *plan.Op) error { return nil }
	}
	l, err := stub.Run(p, true, stub.Options{Call: call})
	if err != nil {
		return 0, err
	}
	var st syscall.WaitStatus
	if _, err := syscall.Wait4(l.PID, &st, 0, nil); err != nil {
		t.Fatal(err)
	}
	syscall.Close(l.PIDFD)
	if st.Signaled() {
		return 128 + int(st.Signal()), nil
	}
	return st.ExitStatus(), nil
}

func runSpec(t *testing.T, s *specs.Spec) (int, error) {
	t.Helper()
	return runInput(t, &Input{Spec: s, ID: "t", Bundle: filepath.Dir(s.Root.Path), ConsoleFD: -1, RootFD: -1}, nil)
}

func dropNS(s *specs.Spec, types ...specs.LinuxNamespaceType) {
	var out []specs.LinuxNamespace
next:
	for _, n := range s.Linux.Namespaces {
		for _, d := range types {
			if n.Type == d {
				continue next
			}
		}
		out = append(out, n)
	}
	s.Linux.Namespaces = out
}

func userNS(s *specs.Spec, inside, outside, size uint32) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	m := []specs.LinuxIDMapping{{ContainerID: inside, HostID: outside, Size: size}}
	s.Linux.UIDMappings, s.Linux.GIDMappings = m, m
}

func addMount(s *specs.Spec, dest, typ, src string, opts ...string) {
	s.Mounts = append(s.Mounts, specs.Mount{Destination: dest, Type: typ, Source: src, Options: opts})
}

// Each case is a change of the default spec, a script, and what must be in its output ("!x": must not).
func TestReal(t *testing.T) {
	umask := uint32(0o077)
	adj := 100
	cases := []struct {
		name, script string
		change       func(t *testing.T, s *specs.Spec)
		want         []string
	}{
		{
			"defaults", "id; env; pwd; hostname; ls -l /dev; echo pid $$; grep -E 'Cap|NoNew|Sig(Blk|Ign)' /proc/self/status; cat /proc/mounts", nil,
			[]string{
				"uid=0(root)", "HOME=/root", "\n/\n", "vitrun", "pid 1\n", "CapEff:\t0000000020000420", "CapInh:\t0000000000000000", "NoNewPrivs:\t1", "SigBlk:\t0000000000000000",
				"SigIgn:\t0000000000000000", "ptmx -> pts/ptmx", "fd -> /proc/self/fd", "1,   3", "mqueue /dev/mqueue mqueue rw,nosuid,nodev,noexec", "proc /proc/sys proc ro",
			},
		},
		{"user 1000", "id; env; umask; grep Cap /proc/self/status; touch /dev/shm/x && stat -c %a-%u /dev/shm/x; readlink /proc/self/fd/0", func(_ *testing.T, s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{5, 7}, Umask: &umask}
		}, []string{"uid=1000(u) gid=1000 groups=5,7", "HOME=/home/u", "0077", "CapPrm:\t0000000000000000", "CapBnd:\t0000000020000420", "600-1000"}},
		{"cwd is made", "pwd; stat -c '%a %u' /a /a/b", func(_ *testing.T, s *specs.Spec) { s.Process.Cwd = "/a/b/../b" }, []string{"/a/b\n", "755 0\n755 0"}},
		{"user namespace", "id; cat /proc/self/uid_map; ls -ln /dev/null /dev/mqueue/. | grep -v total; echo hi >/dev/null; mount | grep -c .; ip link; touch /tmp/made; grep CapEff /proc/self/status", func(_ *testing.T, s *specs.Spec) {
			userNS(s, 0, 100000, 65536)
			must(t, os.Chown(s.Root.Path+"/tmp", 100000, 100000))
		}, []string{"uid=0(root)", "100000      65536", "lo: <LOOPBACK,UP,LOWER_UP>", "CapEff:\t0000000020000420"}},
		{"user namespace without root", "id; cat /proc/self/uid_map; touch /tmp/f; cat /etc/secret; echo $$; ls /proc | grep -c 1", func(t *testing.T, s *specs.Spec) {
			userNS(s, 1000, 2000, 1)
			s.Mounts[2].Options = []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
			s.Process.User = specs.User{UID: 1000, GID: 1000}
			must(t, os.WriteFile(s.Root.Path+"/etc/secret", []byte("s"), 0o600))
		}, []string{"uid=1000(u) gid=1000", "1000       2000          1", "can't open '/etc/secret': Permission denied", "\n1\n"}},
		{"time namespace", "cat /proc/uptime; cat /proc/self/timens_offsets", func(t *testing.T, s *specs.Spec) {
			testenv.Need(t, testenv.TimeNS)
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 86400 * 1000}, "monotonic": {Secs: 5, Nanosecs: 7}}
		}, []string{"864", "monotonic           5         7", "boottime     86400000         0"}},
		{"mount points behind dangling links", "cat /proc/mounts; cat /run/f; ls -l /data", func(t *testing.T, s *specs.Spec) {
			must(t, os.Symlink("../../var/lib/data", s.Root.Path+"/data")) // more ".." than there are folders
			must(t, os.Symlink("/one", s.Root.Path+"/link"))
			must(t, os.Symlink("two/three", s.Root.Path+"/one"))
			f := filepath.Join(t.TempDir(), "f")
			must(t, os.WriteFile(f, []byte("of a file\n"), 0o644))
			addMount(s, "/data/x", "tmpfs", "tmpfs")
			addMount(s, "/link", "tmpfs", "tmpfs")
			addMount(s, "/run/f", "bind", f, "bind")
		}, []string{" /var/lib/data/x tmpfs ", " /two/three tmpfs ", "of a file\n", "-> ../../var/lib/data"}},
		{"null device as stdio", "readlink /proc/self/fd/0; stat -L -c %d /dev/null /proc/self/fd/0 | uniq | wc -l; chmod 600 /proc/self/fd/0; stat -c %a /dev/null", func(t *testing.T, _ *specs.Spec) {
			t.Cleanup(func() {
				if st, err := os.Stat("/dev/null"); err != nil || st.Mode().Perm() != 0o666 {
					t.Error("the host's null device was changed")
					_ = os.Chmod("/dev/null", 0o666)
				}
			})
		}, []string{"/dev/null\n1\n600\n"}},
		{"host names", "hostname; dnsdomainname || cat /proc/sys/kernel/domainname", func(_ *testing.T, s *specs.Spec) { s.Hostname, s.Domainname = "h1", "example.org" }, []string{"h1\n"}},
		{"sysctl", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni", func(_ *testing.T, s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel/shmmni": "4000"}
		}, []string{"1\n4000\n"}},
		{"oom score and rlimits", "cat /proc/self/oom_score_adj; ulimit -n; ulimit -c", func(_ *testing.T, s *specs.Spec) {
			s.Process.OOMScoreAdj = &adj
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 20, Hard: 30}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
		}, []string{"100\n20\n0\n"}},
		{"binds", "cat /in/f; echo new >/in/g; echo x >/ro/f; cat /file; touch /inro/x; cat /proc/mounts", func(t *testing.T, s *specs.Spec) {
			d := t.TempDir()
			must(t, os.WriteFile(d+"/f", []byte("content\n"), 0o644))
			addMount(s, "/in", "bind", d, "rbind", "rw")
			addMount(s, "/ro", "bind", d, "bind", "ro", "nosuid")
			addMount(s, "/file", "", d+"/f", "bind")
			addMount(s, "/inro", "none", d, "rbind", "rro")
			t.Cleanup(func() {
				if b, _ := os.ReadFile(d + "/g"); string(b) != "new\n" {
					t.Error("what was written inside is not seen outside")
				}
			})
		}, []string{"content\n", "/ro/f: Read-only file system", "/inro/x: Read-only file system", " /ro ext4 ro,nosuid"}},
		{"devices", "ls -l /dev/fuse /dev/sub/x /opt/loop /dev/null; cat /proc/mounts", func(_ *testing.T, s *specs.Spec) {
			mode, id := os.FileMode(0o640), uint32(7)
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: &mode, UID: &id, GID: &id}, {Path: "/dev/sub/x", Type: "p"}, {Path: "/opt/loop", Type: "b", Major: 7, Minor: 0}}
		}, []string{"crw-r-----    1 7        7          10, 229", "prw-rw-rw-", "brw-rw-rw-"}},
		{"no pivot", "ls /; echo $$", nil, []string{"bin\n", "\n1\n"}},
		{"chroot only", "ls /; echo ok", func(_ *testing.T, s *specs.Spec) {
			dropNS(s, specs.MountNamespace)
			s.Mounts, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
		}, []string{"bin\n", "ok\n"}},
		{"tmpfs read-only dev", "touch /dev/x; touch /y; ls /dev/shm", func(_ *testing.T, s *specs.Spec) {
			s.Root.Readonly = true
			s.Mounts[1].Options = append(s.Mounts[1].Options, "ro")
			addMount(s, "/tmp", "bind", s.Root.Path+"/tmp", "bind")
		}, []string{"/dev/x: Read-only file system", "/y: Read-only file system"}},
		{"new privileges kept", "grep NoNew /proc/self/status", func(_ *testing.T, s *specs.Spec) { s.Process.NoNewPrivileges = false }, []string{"NoNewPrivs:\t0"}},
		{"ambient", "grep Cap /proc/self/status", func(_ *testing.T, s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000}
			c := []string{"CAP_NET_BIND_SERVICE"}
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: c, Effective: c, Permitted: c, Inheritable: c, Ambient: c}
		}, []string{"CapAmb:\t0000000000000400", "CapBnd:\t0000000000000400"}},
		{"env", "env", func(_ *testing.T, s *specs.Spec) { s.Process.Env = append(s.Process.Env, "A=1", "A=2", "HOME=") }, []string{"A=2", "!A=1", "HOME=/root"}},
		{"cgroup mount without a cgroup namespace", "cd /sys/fs/cgroup; [ -d pids ] && cd pids; echo procs $(cat cgroup.procs) folders */; cat /proc/self/mountinfo", func(_ *testing.T, s *specs.Spec) {
			dropNS(s, specs.CgroupNamespace)
		}, []string{"procs 1 2 folders */\n", "/ID /sys/fs/cgroup", "! / /sys/fs/cgroup/"}},
		{"shared host namespaces", "echo $$; readlink /proc/self/ns/net", func(_ *testing.T, s *specs.Spec) {
			dropNS(s, specs.NetworkNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace)
			s.Hostname = ""
		}, []string{"net:["}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := example(t, c.script)
			if c.change != nil {
				c.change(t, s)
			}
			in := &Input{Spec: s, ID: "t", Bundle: "/", ConsoleFD: -1, RootFD: -1, NoPivot: c.name == "no pivot"}
			if c.name == "user namespace without root" {
				must(t, os.Chmod(s.Root.Path+"/tmp", 0o777))
			}
			id := testenv.ID(t)
			if strings.HasPrefix(c.name, "cgroup mount") {
				layout, err := cgroup.Detect()
				must(t, err)
				in.Group, err = layout.Group("", id)
				must(t, err)
				t.Cleanup(func() { must(t, in.Group.Undo()) })
			}
			if _, err := runInput(t, in, nil); err != nil {
				t.Fatal(err)
			}
			got := output(t, s)
			for _, w := range c.want {
				w = strings.ReplaceAll(w, "/ID ", "/"+id+" ")
				if no, ok := strings.CutPrefix(w, "!"); ok == strings.Contains(got, strings.TrimPrefix(w, "!")) {
					t.Errorf("want %q (%q) in:\n%s", w, no, got)
				}
			}
		})
	}
}

// The exact texts of failures, each naming op, object and field.
func TestErrors(t *testing.T) {
	cases := []struct {
		name   string
		change func(s *specs.Spec)
		want   string
	}{
		{"not in PATH", func(s *specs.Spec) { s.Process.Args = []string{"foo"} }, `exec: "foo": executable file not found in $PATH`},
		{"missing file", func(s *specs.Spec) { s.Process.Args = []string{"/foo"} }, `exec: "/foo": stat /foo: no such file or directory`},
		{"folder", func(s *specs.Spec) { s.Process.Args = []string{"/etc"} }, `exec: "/etc": is a directory: permission denied`},
		{"not executable", func(s *specs.Spec) { s.Process.Args = []string{"/etc/passwd"} }, `exec: "/etc/passwd": permission denied`},
		{"bind source", func(s *specs.Spec) { addMount(s, "/x", "bind", "/no/such", "bind") }, `mounts[7] (/x): clone the tree of /no/such: no such file or directory`},
		{"file on folder", func(s *specs.Spec) { addMount(s, "/etc", "bind", "/dev/null", "bind") }, `mounts[7] (/etc): bind /dev/null: not a directory`},
		{"unknown file system", func(s *specs.Spec) { addMount(s, "/x", "nofs", "x") }, `mounts[7] (/x): mount nofs: no such device`},
		{"bad option", func(s *specs.Spec) { addMount(s, "/x", "tmpfs", "tmpfs", "size=banana") }, `mounts[7] (/x): mount tmpfs, option size=banana: invalid argument`},
		{
			"unmapped gid", func(s *specs.Spec) { userNS(s, 1000, 2000, 1); s.Process.User.UID, s.Process.User.GID = 1000, 1000 },
			`mounts[2] (/dev/pts): mount devpts, option gid=5 (is that id in linux.gidMappings?): invalid argument`,
		},
		{"mount on root", func(s *specs.Spec) { addMount(s, "/a/..", "tmpfs", "tmpfs") }, `mounts[7].destination: a mount on / would cover root.path`},
		{"bind below proc", func(s *specs.Spec) { addMount(s, "/proc/self", "bind", "/tmp", "bind") }, `mounts[7].destination: /proc/self cannot be mounted because it is inside /proc`},
		{"hard limit", func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 10, Hard: 1 << 30}}
		}, `process.rlimits[0] (RLIMIT_NOFILE): set 10:1073741824 (raising a hard limit needs CAP_SYS_RESOURCE): operation not permitted`},
		{"oom", func(s *specs.Spec) { n := -1000; s.Process.OOMScoreAdj = &n }, `process.oomScoreAdj (-1000): write -1000 (lowering it needs CAP_SYS_RESOURCE): permission denied`},
		{"namespace path", func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/no/ns" }, `linux.namespaces[0] (/no/ns): openat: no such file or directory`},
		{"mounts on the host", func(s *specs.Spec) { dropNS(s, specs.MountNamespace) }, `mounts: without a mount namespace in linux.namespaces these would be made on the host: add one, or leave mounts empty`},
		{"capability", func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_FOO"} }, `process.capabilities.bounding[0]: unknown capability "CAP_FOO"`},
		{"no rootfs", func(s *specs.Spec) { s.Root.Path = "/no/rootfs" }, `root.path (/no/rootfs): no such file or directory`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := example(t, "true")
			c.change(s)
			_, err := runSpec(t, s)
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// A hostile image: each place that the runtime touches is a link to the host. Nothing outside the rootfs may change.
func TestHostileRootfs(t *testing.T) {
	for _, place := range []string{"dev", "proc", "sys", "etc", "work", "mnt"} {
		for _, target := range []string{"%s", "../../../../../../../..%s", "/proc/1/root%s"} {
			t.Run(place+" "+target, func(t *testing.T) {
				canary := t.TempDir()
				s := example(t, "true")
				s.Process.Args = []string{"/bin/true"}
				s.Process.Cwd = "/work/dir"
				addMount(s, "/mnt/point", "tmpfs", "tmpfs")
				addMount(s, "/etc/hosts", "bind", "/dev/null", "bind")
				s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}
				os.RemoveAll(s.Root.Path + "/" + place)
				must(t, os.Symlink(strings.Replace(target, "%s", canary, 1), s.Root.Path+"/"+place))
				_, err := runSpec(t, s)
				if place == "proc" || place == "sys" {
					if err == nil || !strings.Contains(err.Error(), "(/"+place+"): open /"+place) {
						t.Errorf("a link at /%s was followed: %v", place, err)
					}
				}
				if left, _ := os.ReadDir(canary); len(left) > 0 {
					t.Errorf("made on the host: %v (err %v)", left, err)
				}
			})
		}
	}
}

// A process swaps a folder of the image with a link to the host while containers start.
func TestRacingRootfs(t *testing.T) {
	canary := t.TempDir()
	s := example(t, "true")
	s.Process.Args = []string{"/bin/true"}
	addMount(s, "/a/b/c", "tmpfs", "tmpfs")
	must(t, os.MkdirAll(s.Root.Path+"/a/b", 0o755))
	must(t, os.Symlink(canary, s.Root.Path+"/link"))
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				exec.Command("mv", "--exchange", s.Root.Path+"/a", s.Root.Path+"/link").Run() // where mv has it
				syscall.Rename(s.Root.Path+"/a", s.Root.Path+"/a2")
				syscall.Rename(s.Root.Path+"/link", s.Root.Path+"/a")
				time.Sleep(time.Millisecond)
				syscall.Rename(s.Root.Path+"/a", s.Root.Path+"/link")
				syscall.Rename(s.Root.Path+"/a2", s.Root.Path+"/a")
			}
		}
	}()
	for range 40 {
		runSpec(t, s) // may fail; may not touch the host
	}
	close(stop)
	<-done
	if left, _ := os.ReadDir(canary); len(left) > 0 {
		t.Errorf("made on the host: %v", left)
	}
}
