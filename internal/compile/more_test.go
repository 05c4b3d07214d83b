package compile

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"vitro/internal/plan"
	"vitro/internal/stub"
	"vitro/internal/testenv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func noCall(*stub.Launch, *plan.Op) error { return nil }

func realInput(s *specs.Spec) *Input {
	return &Input{Spec: s, ID: "t", Bundle: "/", ConsoleFD: -1, RootFD: -1}
}

// launch starts and gives back the running or waiting process; it ends with the test.
func launch(t *testing.T, in *Input) (*stub.Launch, *plan.Program) {
	t.Helper()
	must(t, Gather(in))
	p, err := Container(in)
	must(t, err)
	return launched(t, p, !in.Create), p
}

func launched(t *testing.T, p *plan.Program, exec bool) *stub.Launch {
	t.Helper()
	l, err := stub.Run(p, exec, stub.Options{Call: noCall})
	must(t, err)
	t.Cleanup(func() {
		if l.PID != 0 {
			syscall.Kill(l.PID, syscall.SIGKILL)
			wait(t, l)
		}
	})
	return l
}

func wait(t *testing.T, l *stub.Launch) syscall.WaitStatus {
	t.Helper()
	var st syscall.WaitStatus
	for {
		_, err := syscall.Wait4(l.PID, &st, 0, nil)
		if err == nil {
			break
		}
		if err != syscall.EINTR {
			t.Fatal(err)
		}
	}
	syscall.Close(l.PIDFD)
	l.PID = 0
	return st
}

// expect holds text against what must ("!x": must not) be in it.
func expect(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if no, ok := strings.CutPrefix(w, "!"); ok == strings.Contains(text, no) {
			t.Errorf("want %q in:\n%s", w, text)
		}
	}
}

func TestTerminal(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(s *specs.Spec)
	}{
		{"root", func(*specs.Spec) {}},
		{"a user", func(s *specs.Spec) { s.Process.User = specs.User{UID: 1000, GID: 1000} }},
		{"user namespace without root", func(s *specs.Spec) { // its init is a forked half, not the one that made the session
			userNS(s, 1000, 2000, 1)
			s.Process.User = specs.User{UID: 1000, GID: 1000}
			s.Mounts[2].Options = []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := example(t, "")
			s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Height: 33, Width: 101}
			s.Process.Args = []string{"sh", "-c", "tty; stty size; stat -c 'same=%t,%T,%u' /dev/console /dev/pts/0; echo to-console >/dev/console; echo to-tty >/dev/tty; ls /proc/self/fd"}
			c.change(s)
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			must(t, err)
			defer unix.Close(pair[0])
			in := realInput(s)
			in.ConsoleFD = pair[1]
			l, _ := launch(t, in)
			unix.Close(pair[1])
			name, master := receive(t, pair[0])
			text := drain(master)
			wait(t, l)
			owner := strconv.Itoa(int(s.Process.User.UID))
			if name != "/dev/pts/ptmx" {
				t.Errorf("payload %q", name)
			}
			expect(t, text, "/dev/pts/0\r\n33 101\r\nsame=88,0,"+owner+"\r\nsame=88,0,"+owner+"\r\nto-console\r\nto-tty\r\n0  1  2  3\r\n")
		})
	}
}

func receive(t *testing.T, sock int) (string, int) {
	t.Helper()
	buf, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(sock, buf, oob, unix.MSG_CMSG_CLOEXEC)
	must(t, err)
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	must(t, err)
	fds, err := unix.ParseUnixRights(&msgs[0])
	must(t, err)
	return string(buf[:n]), fds[0]
}

// drain reads a pty's master to EIO.
func drain(master int) string {
	defer unix.Close(master)
	var out []byte
	for buf := make([]byte, 4096); ; {
		n, err := unix.Read(master, buf)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return string(out)
		}
		out = append(out, buf[:n]...)
	}
}

func TestCreateAndStart(t *testing.T) {
	s := example(t, "echo started; ls /proc/self/fd")
	in := realInput(s)
	in.Create, in.StateDir = true, t.TempDir()
	l, _ := launch(t, in)
	dir := "/proc/" + strconv.Itoa(l.PID)

	status, err := os.ReadFile(dir + "/status")
	must(t, err)
	if kib := field(string(status), "VmRSS:"); kib > 64 {
		t.Errorf("a waiting init has %d KiB resident", kib)
	}
	exe, err := os.Open(dir + "/exe")
	must(t, err)
	defer exe.Close()
	seals, err := unix.FcntlInt(exe.Fd(), unix.F_GET_SEALS, 0)
	if want := unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL; err != nil || seals&want != want {
		t.Errorf("seals %#x, %v", seals, err)
	}

	if rec, err := begin(in.StateDir); err != nil || len(rec) > 0 {
		t.Errorf("start: %q, %v", rec, err)
	}
	if st := wait(t, l); st.ExitStatus() != 0 {
		t.Errorf("status %v", st)
	}
	expect(t, output(t, s), "started\n0\n1\n2\n3\n")
	if _, err := begin(in.StateDir); !errors.Is(err, unix.ENXIO) {
		t.Errorf("a second start: %v", err)
	}
}

// field is the number behind name in a /proc file.
func field(text, name string) int {
	_, rest, _ := strings.Cut(text, name)
	n := 0
	fmt.Sscan(rest, &n)
	return n
}

// begin is what start does; it gives back what was said on error.fifo.
func begin(dir string) ([]byte, error) {
	errs, err := unix.Open(dir+"/error.fifo", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) // not to hang here where nobody is
	if err != nil {
		return nil, err
	}
	defer unix.Close(errs)
	unix.SetNonblock(errs, false)
	fifo, err := unix.Open(dir+"/exec.fifo", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fifo)
	if _, err := unix.Write(fifo, []byte{1}); err != nil {
		return nil, err
	}
	var all []byte
	for buf := make([]byte, 64); ; {
		n, err := unix.Read(errs, buf)
		if n <= 0 {
			return all, err
		}
		all = append(all, buf[:n]...)
	}
}

// An execve that fails after start says so on error.fifo; the start of a dead init says ENXIO.
func TestStartFails(t *testing.T) {
	s := example(t, "")
	must(t, os.WriteFile(s.Root.Path+"/bin/bad", []byte("\x7fELF but not really"), 0o755))
	s.Process.Args = []string{"bad"}
	in := realInput(s)
	in.Create, in.StateDir = true, t.TempDir()
	l, p := launch(t, in)
	rec, err := begin(in.StateDir)
	must(t, err)
	if len(rec) != plan.RecordLen {
		t.Fatalf("record %q", rec)
	}
	if _, err := stub.ParseRecord(p, rec); err == nil || err.Error() != `exec "bad": exec format error` {
		t.Errorf("got %v", err)
	}
	wait(t, l)
	if _, err := begin(in.StateDir); !errors.Is(err, unix.ENXIO) {
		t.Errorf("start of a dead init: %v", err)
	}
}

// TestHelper is other processes of these tests: one that is killed at a sync, one that starts with a hostile signal state.
func TestHelper(t *testing.T) {
	role, root := os.Getenv("COMPILE_HELPER"), os.Getenv("COMPILE_ROOT")
	if role == "" {
		t.Skip("only for other tests")
	}
	s := plain()
	s.Root.Path = root
	s.Process.Args = []string{"sh", "-c", "exec grep ^Sig /proc/self/status >/tmp/out"}
	everyHook(s)
	_, err := runInput(t, realInput(s), func(l *stub.Launch, o *plan.Op) error {
		if o.Name == role {
			fmt.Println("pid", l.PID)
			select {}
		}
		return nil
	})
	must(t, err)
}

func helper(role, root string, before ...string) *exec.Cmd {
	args := append(before, os.Args[0], "-test.run=^TestHelper$")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "COMPILE_HELPER="+role, "COMPILE_ROOT="+root)
	return cmd
}

// kill -9 of the one who creates, at each place where the stub waits for it, leaves no process (runc #4534).
func TestKilledCreate(t *testing.T) {
	root := rootfs(t)
	for _, at := range []string{"state", "hooks"} {
		t.Run(at, func(t *testing.T) {
			cmd := helper(at, root)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			var pid int
			if _, err := fmt.Fscanf(out, "pid %d\n", &pid); err != nil {
				t.Fatal(err)
			}
			fd, err := unix.PidfdOpen(pid, 0)
			must(t, err)
			defer unix.Close(fd)
			must(t, cmd.Process.Kill())
			cmd.Wait()
			n := 0
			for err = unix.EINTR; err == unix.EINTR; {
				n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20000) // hangs, or ends at once
			}
			if n != 1 {
				t.Errorf("the stub outlives its parent: %v", err)
				unix.Kill(pid, unix.SIGKILL)
			}
		})
	}
}

// Whatever the caller ignores, blocks or handles: inside nothing is (crun #2058).
func TestSignalState(t *testing.T) {
	for _, args := range [][]string{
		{"env", "--ignore-signal=PIPE", "--ignore-signal=INT", "--block-signal"},
		{"env", "--ignore-signal"},
		{"nohup"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			root := rootfs(t)
			if out, err := helper("signals", root, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			text, err := os.ReadFile(root + "/tmp/out")
			must(t, err)
			expect(t, string(text), "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "SigCgt:\t0000000000000000")
		})
	}
}

func TestCallersFDsStay(t *testing.T) {
	f, err := os.Open("/")
	must(t, err)
	defer f.Close()
	for _, fd := range []int{50, 700} {
		must(t, unix.Dup3(int(f.Fd()), fd, 0))
		defer unix.Close(fd)
	}
	s := example(t, "ls /proc/self/fd")
	_, err = runSpec(t, s)
	must(t, err)
	if got := output(t, s); got != "0\n1\n2\n3\n" { // 3 is ls's own
		t.Errorf("open inside:\n%s", got)
	}
}

// holder is a process of util-linux's unshare(1) with namespaces of its own; its pid is as we see it.
func holder(t *testing.T, flags ...string) int {
	t.Helper()
	cmd := exec.Command("unshare", append(flags, "--fork", "--kill-child", "sh", "-c", "echo ready; exec sleep 1000")...)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var word string
	if _, err := fmt.Fscan(out, &word); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(cmd.Process.Pid)
	kids, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	must(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(kids)))
	must(t, err)
	return n
}

func TestJoinByPath(t *testing.T) {
	all := map[specs.LinuxNamespaceType]string{
		specs.NetworkNamespace: "net", specs.PIDNamespace: "pid", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.UserNamespace: "user",
	}
	for _, c := range []struct {
		name  string
		flags []string
		join  []specs.LinuxNamespaceType
		newNS bool // and a new user namespace
	}{
		{"all but user", []string{"--net", "--pid", "--ipc", "--uts"}, []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace}, false},
		{"with user", []string{"--user", "--map-root-user", "--net", "--pid", "--ipc", "--uts"}, []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.UserNamespace}, false},
		{"user alone", []string{"--user", "--map-root-user"}, []specs.LinuxNamespaceType{specs.UserNamespace}, false},
		{"network, in a new user namespace", []string{"--net", "--uts"}, []specs.LinuxNamespaceType{specs.NetworkNamespace, specs.UTSNamespace}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := "/proc/" + strconv.Itoa(holder(t, c.flags...)) + "/ns/"
			s := example(t, "for n in net pid ipc uts user mnt; do readlink /proc/self/ns/$n; done; id -u; echo $$; touch /dev/shm/x && echo written")
			s.Hostname, s.Mounts[2].Options = "", s.Mounts[2].Options[:5] // without gid=5: it may be unmapped
			want := []string{"\n0\n", "written"}
			for _, typ := range c.join {
				ns(s, typ, dir+all[typ])
				link, err := os.Readlink(dir + all[typ])
				must(t, err)
				want = append(want, link)
			}
			if c.newNS {
				userNS(s, 0, 100000, 65536)
				must(t, os.Chmod(s.Root.Path+"/tmp", 0o777))
				s.Mounts = s.Mounts[:5] // sysfs needs the network namespace to be the user namespace's
			}
			_, err := runSpec(t, s)
			must(t, err)
			expect(t, output(t, s), want...)
		})
	}
}

func TestExecInto(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(s *specs.Spec)
		uid    uint32
	}{
		{"container", func(*specs.Spec) {}, 1000},
		{"user namespace", func(s *specs.Spec) {
			userNS(s, 0, 100000, 65536)
			must(t, os.Chmod(s.Root.Path+"/tmp", 0o777))
		}, 1000},
		{"chroot", func(s *specs.Spec) {
			dropNS(s, specs.MountNamespace)
			s.Mounts, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
		}, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := example(t, "true")
			s.Process.Args = []string{"sleep", "1000"}
			c.change(s)
			init, _ := launch(t, realInput(s))
			p := plain().Process
			p.Rlimits, p.Cwd, p.User = nil, "/etc", specs.User{UID: c.uid, GID: 1000, AdditionalGids: []uint32{7}}
			p.Args = []string{"sh", "-c", "exec >/tmp/exec 2>&1; id; pwd; env; cat /etc/passwd; ls /proc/self/fd; grep Cap /proc/self/status; cd /proc/self/ns && for n in *; do readlink $n; done"}
			in := &ExecInput{Process: p, PID: init.PID, PIDFD: init.PIDFD, ID: "t", ConsoleFD: -1}
			must(t, GatherExec(in))
			prog, err := Exec(in)
			must(t, err)
			if st := wait(t, launched(t, prog, true)); st.ExitStatus() != 0 && c.name != "chroot" { // no /proc there
				t.Errorf("status %v", st)
			}
			out, err := os.ReadFile(s.Root.Path + "/tmp/exec")
			must(t, err)
			want := []string{"uid=1000(u) gid=1000 groups=7", "\n/etc\n", "HOME=/home/u", "u:x:1000"}
			if c.name != "chroot" {
				want = append(want, "\n0\n1\n2\n3\nCap", "CapPrm:\t0000000000000000", "CapBnd:\t0000000020000420")
				for _, n := range nsFiles {
					link, err := os.Readlink("/proc/" + strconv.Itoa(init.PID) + "/ns/" + n.name)
					must(t, err)
					want = append(want, link)
				}
			}
			expect(t, string(out), want...)
		})
	}
}

// inPrivate runs f on a thread with a mount namespace of its own that ends with it, and with a shared tmpfs at dir.
func inPrivate(t *testing.T, f func(dir string) error) {
	t.Helper()
	dir, done := t.TempDir(), make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("host", dir, "tmpfs", 0, "")
		}
		if err == nil {
			err = unix.Mount("", dir, "", unix.MS_SHARED, "")
		}
		if err == nil {
			err = f(dir)
		}
		done <- err
	}()
	must(t, <-done)
}

// A mount made on the host later appears inside with slave and shared; one made inside leaks only where both sides are one peer group.
func TestPropagation(t *testing.T) {
	for _, c := range []struct {
		root, mount string
		late, leak  bool
	}{
		{"", "", true, false},
		{"", "private", false, false},
		{"", "rslave", true, false},
		{"", "rshared", true, false},
		{"private", "", false, false},
		{"private", "rslave", false, false},
		{"private", "rshared", false, false},
		{"rslave", "", true, false},
		{"rslave", "rprivate", false, false},
		{"rslave", "rshared", true, false},
		{"shared", "", true, true},
		{"rshared", "rprivate", false, false},
		{"rshared", "rslave", true, false},
		{"rshared", "rshared", true, true},
	} {
		t.Run("root "+c.root+" mount "+c.mount, func(t *testing.T) {
			s := example(t, "mount -t tmpfs inside /in/inside && : >/in/ready; read x </in/go; test -e /in/late/f && echo late")
			s.Linux.RootfsPropagation = c.root
			caps := append(s.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
			s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
			inPrivate(t, func(dir string) error {
				opts := []string{"rbind"}
				if c.mount != "" {
					opts = append(opts, c.mount)
				}
				addMount(s, "/in", "bind", dir, opts...)
				return propagation(t, s, dir, c.late, c.leak)
			})
		})
	}
}

func propagation(t *testing.T, s *specs.Spec, dir string, late, leak bool) error {
	for _, d := range []string{"/inside", "/late"} {
		if err := os.Mkdir(dir+d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mkfifo(dir+"/go", 0o600); err != nil {
		return err
	}
	in := realInput(s)
	if err := Gather(in); err != nil {
		return err
	}
	p, err := Container(in)
	if err != nil {
		return err
	}
	l, err := stub.Run(p, true, stub.Options{Call: noCall})
	if err != nil {
		return err
	}
	fifo, err := os.OpenFile(dir+"/go", os.O_WRONLY, 0) // waits for the script to come there
	if err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	if got := strings.Contains(string(mounts), dir+"/inside "); got != leak {
		t.Errorf("the mount made inside is seen outside: %v", got)
	}
	err = unix.Mount("late", dir+"/late", "tmpfs", 0, "")
	if err == nil {
		err = os.WriteFile(dir+"/late/f", nil, 0o644)
	}
	fifo.WriteString("x\n")
	fifo.Close()
	wait(t, l)
	if _, e := os.Stat(dir + "/ready"); e != nil {
		t.Error("the script could not mount")
	}
	if got := output(t, s) == "late\n"; got != late {
		t.Errorf("the mount made later outside is seen inside: %v", got)
	}
	return err
}

func TestRecursiveAttributes(t *testing.T) {
	s := example(t, "touch /a/sub/x; touch /b/sub/x && echo b-written; cat /proc/mounts")
	inPrivate(t, func(dir string) error {
		if err := os.Mkdir(dir+"/sub", 0o755); err != nil {
			return err
		}
		if err := unix.Mount("sub", dir+"/sub", "tmpfs", 0, ""); err != nil {
			return err
		}
		addMount(s, "/a", "bind", dir, "rbind", "rro", "rnosuid")
		addMount(s, "/b", "bind", dir, "rbind", "ro", "nodev") // the top alone
		_, err := runSpec(t, s)
		return err
	})
	expect(t, output(t, s), "/a/sub/x: Read-only file system", "b-written", "host /a tmpfs ro,nosuid,", "sub /a/sub tmpfs ro,nosuid,", "host /b tmpfs ro,nodev,", "sub /b/sub tmpfs rw,relatime")
}

func TestMasks(t *testing.T) {
	s := example(t, "cat /etc/secret; ls /etc/dir; ls -ld /etc/dir; touch /etc/dir/x; ls /etc/link; grep -c . /etc/readonly; echo x >/etc/readonly")
	etc := s.Root.Path + "/etc/"
	must(t, os.MkdirAll(etc+"dir/hidden", 0o755))
	must(t, os.WriteFile(etc+"secret", []byte("the secret"), 0o644))
	must(t, os.WriteFile(etc+"readonly", []byte("line\n"), 0o644))
	must(t, os.Symlink("dir", etc+"link"))
	s.Linux.MaskedPaths = []string{"/etc/secret", "/etc/dir", "/etc/dir", "/etc/missing/file"}
	s.Linux.ReadonlyPaths = []string{"/etc/readonly", "/missing"}
	_, err := runSpec(t, s)
	must(t, err)
	expect(t, output(t, s), "!the secret", "!hidden", "/etc/dir/x: Read-only file system", "\n1\n", "/etc/readonly: Read-only file system")
}

// A working directory that is a link to a folder of the host ends inside or not at all.
func TestCwdIsLink(t *testing.T) {
	for _, target := range []string{"%s", "../../../../..%s", "/proc/self/cwd%s"} {
		t.Run(target, func(t *testing.T) {
			canary := t.TempDir()
			s := example(t, "pwd; ls -a")
			must(t, os.Symlink(fmt.Sprintf(target, canary), s.Root.Path+"/link"))
			s.Process.Cwd = "/link/made"
			_, err := runSpec(t, s)
			if err == nil {
				t.Errorf("it ran: %s", output(t, s))
			}
			must(t, os.MkdirAll(s.Root.Path+canary, 0o755)) // now the link leads somewhere inside
			if _, err := runSpec(t, s); err == nil {
				expect(t, output(t, s), filepath.Dir(canary))
			}
			if left, _ := os.ReadDir(canary); len(left) > 0 {
				t.Errorf("made on the host: %v", left)
			}
		})
	}
}

// A tmpfs without mode= keeps the mode of the folder that it covers (runc #4971).
func TestTmpfsMode(t *testing.T) {
	s := example(t, "stat -c '%a %n' /a /b /c /new; touch /c/x; touch /a/x && echo written")
	for _, d := range []string{"/a", "/b", "/c"} {
		must(t, os.Mkdir(s.Root.Path+d, 0o700))
		must(t, syscall.Chmod(s.Root.Path+d, 0o2751))
	}
	addMount(s, "/a", "tmpfs", "tmpfs", "nosuid")
	addMount(s, "/b", "tmpfs", "tmpfs", "mode=0711")
	addMount(s, "/c", "tmpfs", "tmpfs", "ro")
	addMount(s, "/new", "tmpfs", "tmpfs")
	_, err := runSpec(t, s)
	must(t, err)
	expect(t, output(t, s), "2751 /a\n711 /b\n2751 /c\n1777 /new\n", "/c/x: Read-only file system", "written")
}

// What a user namespace made with the clone changes.
func TestUserNamespaceLimits(t *testing.T) {
	testenv.Need(t, testenv.TimeNS)
	s := example(t, "ulimit -n; cat /proc/self/oom_score_adj; cat /proc/self/timens_offsets")
	userNS(s, 0, 100000, 65536)
	ns(s, specs.TimeNamespace, "")
	must(t, os.Chmod(s.Root.Path+"/tmp", 0o777))
	adj := 100
	s.Process.OOMScoreAdj = &adj
	s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 77}}
	s.Linux.MaskedPaths = nil
	s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 12, Hard: 12}}
	_, err := runSpec(t, s)
	must(t, err)
	expect(t, output(t, s), "12\n100\n", "boottime           77")

	s.Process.Rlimits[0].Hard = 1 << 30
	if _, err := runSpec(t, s); err == nil || err.Error() != "process.rlimits[0] (RLIMIT_NOFILE): set 12:1073741824 (raising a hard limit needs CAP_SYS_RESOURCE): operation not permitted" {
		t.Errorf("got %v", err)
	}
	s.Process.Rlimits, adj = nil, -1000
	if _, err := runSpec(t, s); err == nil || err.Error() != "process.oomScoreAdj (-1000): write -1000 (lowering it needs CAP_SYS_RESOURCE): permission denied" {
		t.Errorf("got %v", err)
	}
}

// A filter for a user who may gain privileges: loading takes CAP_SYS_ADMIN, which is gone from effective and must be raised; then all but the last capset goes.
func TestSeccompWithoutNoNewPrivileges(t *testing.T) {
	s := example(t, "grep -E 'Seccomp:|NoNew|Cap' /proc/self/status")
	s.Process.NoNewPrivileges, s.Process.User.UID = false, 1000
	caps := []string{"CAP_NET_BIND_SERVICE"}
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: caps, Ambient: caps}
	in := realInput(s)
	in.Facts.Program = []byte{0x06, 0, 0, 0, 0, 0, 0xff, 0x7f} // return SECCOMP_RET_ALLOW
	_, err := runInput(t, in, nil)
	must(t, err)
	expect(t, output(t, s), "Seccomp:\t2", "NoNewPrivs:\t0", "CapEff:\t0000000000000400", "CapAmb:\t0000000000000400")
}
