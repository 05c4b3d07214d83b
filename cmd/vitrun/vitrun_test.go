package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"vitro/internal/spec"
)

var binary string // vitrun, built once

func TestMain(m *testing.M) {
	if binary = os.Getenv("VITRUN"); binary != "" { // as in testenv
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "vitrun-test")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "vitrun")
	build := exec.Command("go", "build", "-ldflags", "-E vitro/internal/boot.Entry", "-o", binary, ".") // as the Makefile does
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOEXPERIMENT=norandomizedheapbase64")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	if err := os.Chmod(dir, 0o755); err != nil { // for TestRootless
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// vitrun runs the binary and gives its output, both streams, and its status. Files take the output: a container keeps them open.
func vitrun(t *testing.T, root string, args ...string) (string, int) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if root != "" {
		args = append([]string{"--root", root}, args...)
	}
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(out.Name())
	return string(b), cmd.ProcessState.ExitCode()
}

// bundle makes a bundle with a busybox rootfs, which f changes the config of.
func bundle(t *testing.T, f func(s *specs.Spec)) string {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if os.Geteuid() != 0 || err != nil {
		t.Skip("needs root and busybox-static")
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "rootfs", "bin")
	must(t, os.MkdirAll(bin, 0o755))
	must(t, os.WriteFile(filepath.Join(bin, "busybox"), busybox, 0o755))
	for _, n := range []string{"sh", "true", "sleep", "cat", "pwd", "id"} {
		must(t, os.Symlink("busybox", filepath.Join(bin, n)))
	}
	s := spec.Example()
	s.Process.Terminal = false
	s.Process.Args = []string{"sleep", "60"}
	f(s)
	b, err := json.Marshal(s)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), b, 0o644))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newRoot is an empty --root that must be empty again at the end, with no cgroup of id left.
func newRoot(t *testing.T, id string) string {
	root := t.TempDir()
	t.Cleanup(func() {
		if left, _ := os.ReadDir(root); len(left) > 0 {
			t.Errorf("left in --root: %v", left)
			vitrun(t, root, "delete", "--force", id)
		}
		left, _ := filepath.Glob("/sys/fs/cgroup/*/" + id)
		more, _ := filepath.Glob("/sys/fs/cgroup/" + id)
		if left = append(left, more...); len(left) > 0 {
			t.Errorf("cgroups left: %v", left)
		}
	})
	return root
}

func name(t *testing.T) string {
	return "vt-" + strconv.Itoa(os.Getpid()) + "-" + strings.Map(func(r rune) rune {
		if r == '/' || r == '#' {
			return '-'
		}
		return r
	}, t.Name())
}

func expect(t *testing.T, root, want string, code int, args ...string) {
	t.Helper()
	out, got := vitrun(t, root, args...)
	if out != want || got != code {
		t.Errorf("%v:\n got %d %q\nwant %d %q", args, got, out, code, want)
	}
}

// smallest is a measured limit.
var smallest = regexp.MustCompile(`here is \d+\n`)

func TestBadInput(t *testing.T) {
	good := func(*specs.Spec) {}
	limit := int64(8192)
	dir := ""
	for n, c := range map[string]struct {
		f    func(s *specs.Spec)
		prep func()
		id   string
		want string
	}{
		"missing config": {good, func() { os.Remove(dir + "/config.json") }, "", "JSON specification file DIR/config.json not found"},
		"broken config":  {good, func() { must(t, os.WriteFile(dir+"/config.json", []byte("{"), 0o644)) }, "", "config.json: unexpected end of the text, want a value or '}' (offset 1)"},
		"missing bundle": {good, func() { os.RemoveAll(dir) }, "", "chdir DIR: no such file or directory"},
		"unknown cap":    {func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_FOO"} }, nil, "", `process.capabilities.bounding[0]: unknown capability "CAP_FOO"`},
		"empty id":       {good, nil, " ", "container id cannot be empty"},
		"dots":           {good, nil, "..", "invalid container ID format: .."},
		"slash":          {good, nil, "a/b", "invalid container ID format: a/b"},
		"control":        {good, nil, "a\n\x1b[m", `invalid container ID format: a\n\x1b[m`},
		"missing rootfs": {func(s *specs.Spec) { s.Root.Path = "nope" }, nil, "", "root.path (DIR/nope): no such file or directory"},
		"not in PATH":    {func(s *specs.Spec) { s.Process.Args[0] = "foo" }, nil, "", `unable to start container process: exec: "foo": executable file not found in $PATH`},
		"not there":      {func(s *specs.Spec) { s.Process.Args[0] = "/foo" }, nil, "", `unable to start container process: exec: "/foo": stat /foo: no such file or directory`},
		"folder":         {func(s *specs.Spec) { s.Process.Args[0] = "/proc" }, nil, "", `unable to start container process: exec: "/proc": is a directory: permission denied`},
		"too little memory": {
			func(s *specs.Spec) { s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit} }, nil, "",
			"unable to start container process: container init was OOM-killed (memory limit too low?): linux.resources.memory.limit: 8192 is too small, the smallest that starts it here is #",
		},
		"missing source": {func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/does/not/exist", Options: []string{"bind"}})
		}, nil, "", "unable to start container process: mounts[7] (/x): clone the tree of /does/not/exist: no such file or directory"},
	} {
		t.Run(n, func(t *testing.T) {
			id := name(t)
			root := newRoot(t, strings.ReplaceAll(id, " ", "_"))
			if c.id != "" {
				id = strings.TrimSpace(c.id)
			}
			dir = bundle(t, c.f)
			want := strings.ReplaceAll(c.want, "DIR", dir)
			if c.prep != nil {
				c.prep()
			}
			for _, verb := range []string{"create", "run"} {
				out, code := vitrun(t, root, verb, "-b", dir, strings.ReplaceAll(id, " ", "_"))
				out = smallest.ReplaceAllString(out, "here is #\n")
				if want := "vitrun " + verb + " failed: " + want + "\n"; out != want || code != 1 {
					t.Errorf("%s: got %d %q\nwant 1 %q", verb, code, out, want)
				}
			}
		})
	}
}

// delete --force gets rid of a container whose state.json is broken: its process and its cgroup, too.
func TestDeleteBroken(t *testing.T) {
	id := name(t)
	root, dir := newRoot(t, id), bundle(t, func(s *specs.Spec) { s.Process.Args = []string{"sleep", "100"} })
	for _, broken := range []string{"", "null", `{"id":"` + id + `","init_process_p`, `{"id":"other"}`} {
		expect(t, root, "", 0, "run", "-d", "-b", dir, id)
		must(t, os.WriteFile(root+"/"+id+"/state.json", []byte(broken), 0o600))
		if out, code := vitrun(t, root, "state", id); code != 1 || !strings.HasPrefix(out, "vitrun: "+root+"/"+id+"/state.json: ") {
			t.Errorf("%s: %d %q", broken, code, out)
		}
		expect(t, root, "", 0, "delete", "--force", id)
		if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + id); left != nil {
			t.Errorf("%s: %v", broken, left)
		}
	}
}

// A create that another ends is not said to have run out of memory.
func TestEndedCreate(t *testing.T) {
	id := name(t)
	limit := int64(64 << 20)
	root := newRoot(t, id)
	dir := bundle(t, func(s *specs.Spec) {
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
		s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", `kill -9 $(sed 's/.*"pid": *\([0-9]*\).*/\1/')`}}}}
	})
	out, code := vitrun(t, root, "create", "-b", dir, id)
	if code != 1 || strings.Contains(out, "OOM") || !strings.Contains(out, "killed") {
		t.Errorf("%d %q", code, out)
	}
}

func TestStates(t *testing.T) {
	id := name(t)
	root, dir := newRoot(t, id), bundle(t, func(*specs.Spec) {})
	status := func(want string) {
		t.Helper()
		out, _ := vitrun(t, root, "state", id)
		var s struct {
			Status  string
			Created time.Time
			PID     int
		}
		if err := json.Unmarshal([]byte(out), &s); err != nil || s.Status != want || s.PID == 0 != (want == "stopped") {
			t.Errorf("state %s (%v), want %s", out, err, want)
		}
	}
	expect(t, root, "null\n", 0, "list", "-f", "json")
	expect(t, root, "vitrun: container does not exist\n", 1, "state", id)
	pidFile := filepath.Join(dir, "pid")
	expect(t, root, "", 0, "create", "-b", dir, "--pid-file", pidFile, id)
	if b, _ := os.ReadFile(pidFile); len(b) == 0 || strings.Trim(string(b), "0123456789") != "" {
		t.Errorf("pid file %q", b)
	}
	status("created")
	expect(t, root, "vitrun create failed: container with given ID already exists\n", 1, "create", "-b", dir, id)
	var wins int
	done := make(chan string, 2)
	for range 2 { // of two starts at once one wins
		go func() { out, _ := vitrun(t, root, "start", id); done <- out }()
	}
	for range 2 {
		switch out := <-done; out {
		case "":
			wins++
		case "vitrun: cannot start an already running container\n":
		default:
			t.Errorf("start: %q", out)
		}
	}
	if wins != 1 {
		t.Errorf("%d starts won", wins)
	}
	status("running")
	expect(t, root, "", 7, "exec", id, "sh", "-c", "exit 7")
	expect(t, root, "", 128+9, "exec", id, "sh", "-c", "kill -9 $$")
	expect(t, root, "a=b /bin 5\n", 0, "exec", "-e", "A=b", "--cwd", "/bin", "-u", "5:6", id, "sh", "-c", "echo a=$A $(pwd) $(id -u)")
	expect(t, root, "vitrun: exec failed: unable to start container process: exec: \"foo\": executable file not found in $PATH\n", 255, "exec", id, "foo")
	expect(t, root, "vitrun: exec failed: exec args cannot be empty\n", 255, "exec", id)
	expect(t, root, "vitrun: cannot delete container "+id+" that is not stopped: running\n", 1, "delete", id)
	expect(t, root, "vitrun: unknown signal \"FOO\"\n", 1, "kill", id, "FOO")
	expect(t, root, "", 0, "kill", id, "sigkill")
	for range 100 {
		if out, _ := vitrun(t, root, "state", id); strings.Contains(out, "stopped") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	status("stopped")
	expect(t, root, "vitrun: container not running\n", 1, "kill", id)
	expect(t, root, "", 0, "kill", "--all", id)
	expect(t, root, "vitrun: cannot start a container that has stopped\n", 1, "start", id)
	expect(t, root, "vitrun: exec failed: cannot exec in a stopped container\n", 255, "exec", id, "true")
	expect(t, root, "", 0, "delete", id)
	expect(t, root, "vitrun: container does not exist\n", 1, "delete", id)
	expect(t, root, "", 0, "delete", "--force", id)
}

func TestStartReportsExecve(t *testing.T) {
	id := name(t)
	root, dir := newRoot(t, id), bundle(t, func(s *specs.Spec) { s.Process.Args = []string{"/bin/junk"} })
	must(t, os.WriteFile(filepath.Join(dir, "rootfs/bin/junk"), []byte("junk"), 0o755))
	expect(t, root, "", 0, "create", "-b", dir, id)
	expect(t, root, "vitrun: unable to start container process: exec \"/bin/junk\": exec format error\n", 1, "start", id)
	expect(t, root, "", 0, "delete", id)
}

// TestDeleteWithForeign: a process that was put into the container's cgroup from outside. A delete leaves it, and the folder, alone; with
// --force it ends.
func TestDeleteWithForeign(t *testing.T) {
	for _, force := range []bool{false, true} {
		id := name(t)
		root, dir := newRoot(t, id), bundle(t, func(*specs.Spec) {})
		expect(t, root, "", 0, "create", "-b", dir, id)
		foreign := exec.Command("sleep", "60")
		must(t, foreign.Start())
		var state struct {
			Paths map[string]string `json:"cgroup_paths"`
		}
		b, err := os.ReadFile(filepath.Join(root, id, "state.json"))
		must(t, err)
		must(t, json.Unmarshal(b, &state))
		for _, p := range state.Paths {
			must(t, os.WriteFile(p+"/cgroup.procs", []byte(strconv.Itoa(foreign.Process.Pid)), 0))
		}
		if force {
			expect(t, root, "", 0, "delete", "--force", id)
		} else {
			out, code := vitrun(t, root, "delete", id)
			if code != 0 || !strings.HasPrefix(out, "vitrun: warning: the cgroup of container "+id+" stays: remove /sys/fs/cgroup/") {
				t.Errorf("delete: %d %q", code, out)
			}
			must(t, foreign.Process.Kill())
		}
		_ = foreign.Wait()
		if s := foreign.ProcessState.String(); s != "signal: killed" {
			t.Errorf("foreign process: %s", s)
		}
		for _, p := range state.Paths {
			if err := os.Remove(p); err == nil == force {
				t.Errorf("remove %s: %v", p, err)
			}
		}
	}
}

func TestSeccompRefusesStart(t *testing.T) {
	for calls, want := range map[string]string{
		"execve":        `exec "true": operation not permitted (linux.seccomp refuses execve)`,
		"execve write":  "container init ended before its execve: linux.seccomp refuses execve, write",
		"capset execve": "process.capabilities: set effective, permitted and inheritable: operation not permitted (linux.seccomp refuses capset, execve)",
	} {
		id := name(t)
		root, dir := newRoot(t, id), bundle(t, func(s *specs.Spec) {
			s.Process.Args, s.Process.NoNewPrivileges = []string{"true"}, false
			s.Linux.Seccomp = &specs.LinuxSeccomp{
				DefaultAction: specs.ActAllow,
				Syscalls:      []specs.LinuxSyscall{{Names: strings.Fields(calls), Action: specs.ActErrno}},
			}
		})
		expect(t, root, "vitrun run failed: unable to start container process: "+want+"\n", 1, "run", "-b", dir, id)
		expect(t, root, "", 0, "create", "-b", dir, id)
		expect(t, root, "vitrun: unable to start container process: "+want+"\n", 1, "start", id)
		expect(t, root, "", 0, "delete", id)
	}
}

// TestRootless is an unprivileged user, with the one id that needs no newuidmap(1).
func TestRootless(t *testing.T) {
	const uid = 54321
	dir := bundle(t, func(s *specs.Spec) {
		*s = *spec.ExampleRootless(uid, uid)
		s.Process.Terminal, s.Process.Args = false, []string{"sh", "-c", "id -u; cat /proc/self/uid_map; sleep 60"}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/in", Type: "bind", Source: "/tmp", Options: []string{"rbind", "ro"}})
	})
	root := t.TempDir()
	must(t, os.Chown(root, uid, uid))
	must(t, os.Chown(filepath.Join(dir, "rootfs"), uid, uid))
	for d := filepath.Dir(root); d != os.TempDir(); d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	must(t, err)
	defer out.Close()
	run := func(want int, args ...string) {
		t.Helper()
		cmd := exec.Command(binary, append([]string{"--root", root}, args...)...)
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", []string{"PATH=/nope"}, out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != want {
			b, _ := os.ReadFile(out.Name())
			t.Errorf("%v: %d\n%s", args, code, b)
		}
	}
	id := name(t)
	run(0, "run", "-d", "-b", dir, id)
	run(3, "exec", id, "sh", "-c", "id -u; exit 3")
	run(255, "exec", "-u", "5", id, "true")
	run(0, "kill", "--all", id, "KILL")
	for range 100 {
		if got, _ := vitrun(t, root, "state", id); strings.Contains(got, "stopped") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	run(0, "delete", id)
	if left, _ := os.ReadDir(root); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(strings.Replace(string(b), `"size":1`, `"size":2`, 1)), 0o644))
	run(1, "run", "-d", "-b", dir, id)
	got, _ := os.ReadFile(out.Name())
	for _, want := range []string{
		"0\n", "process.user.uid (5): setresuid (is it mapped in the user namespace?): invalid argument",
		": without new",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("want %q in:\n%s", want, got)
		}
	}
}

// TestMappedRoot is the root of a user namespace, as rootless podman calls: device nodes are bound, and state goes to XDG_RUNTIME_DIR.
func TestMappedRoot(t *testing.T) {
	const uid = 54321
	dir := bundle(t, func(s *specs.Spec) {
		s.Process.Args = []string{"sh", "-c", "cat /proc/self/uid_map; echo x >/dev/null && id -u"}
		s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" || m.Destination == "/dev/pts" }) // gid 5 is not mapped
	})
	run := t.TempDir()
	must(t, os.Chown(run, uid, uid))
	must(t, os.Chown(filepath.Join(dir, "rootfs"), uid, uid))
	for _, d := range []string{dir, run} {
		for d = filepath.Dir(d); d != os.TempDir(); d = filepath.Dir(d) {
			must(t, os.Chmod(d, 0o755))
		}
	}
	ids := []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
	cmd := exec.Command(binary, "run", "-b", dir, name(t))
	cmd.Dir, cmd.Env = "/", []string{"XDG_RUNTIME_DIR=" + run}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: ids, GidMappings: ids, Credential: &syscall.Credential{NoSetGroups: true},
	}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Join(strings.Fields(string(out)), " ") != "0 54321 1 0" {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(run, "vitrun")); err != nil {
		t.Error(err)
	}
}

func TestHooks(t *testing.T) {
	for _, kind := range []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart"} {
		for _, late := range []bool{false, true} {
			t.Run(kind, func(t *testing.T) {
				id, one := name(t), 1
				root := newRoot(t, id)
				hook := specs.Hook{Path: "/bin/busybox", Args: []string{"sh", "-c", "cat >/dev/null; echo out; echo err >&2; exit 3"}}
				want := "exit status 3, stdout: out, stderr: err"
				if late {
					hook = specs.Hook{Path: "/bin/busybox", Args: []string{"sleep", "60"}, Timeout: &one}
					want = "hook ran past specified timeout of 1.0s"
				}
				dir := bundle(t, func(s *specs.Spec) {
					s.Hooks = new(specs.Hooks)
					b, _ := json.Marshal(map[string][]specs.Hook{kind: {hook}})
					must(t, json.Unmarshal(b, s.Hooks))
				})
				prefix := "vitrun run failed: unable to start container process: "
				if kind == "poststart" {
					prefix = "vitrun run failed: "
				}
				expect(t, root, prefix+"error running "+kind+" hook #0: "+want+"\n", 1, "run", "-d", "-b", dir, id)
			})
		}
	}
}

// TestHookState looks at what hooks see, and where.
func TestHookState(t *testing.T) {
	id := name(t)
	root, log := newRoot(t, id), t.TempDir()
	must(t, os.Chmod(log, 0o777))
	h := func(kind string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/busybox", Args: []string{"sh", "-c", "cat > " + log + "/" + kind}}}
	}
	dir := bundle(t, func(s *specs.Spec) {
		s.Process.Args, s.Root.Readonly = []string{"true"}, false
		s.Mounts = append(s.Mounts, specs.Mount{Destination: log, Type: "bind", Source: log, Options: []string{"bind"}})
		s.Hooks = &specs.Hooks{
			CreateRuntime: h("createRuntime"), CreateContainer: h("createContainer"), StartContainer: h("startContainer"),
			Poststart: h("poststart"), Poststop: h("poststop"),
		}
	})
	expect(t, root, "", 0, "run", "-b", dir, id)
	for kind, want := range map[string]struct {
		status specs.ContainerState
		inside bool
	}{
		"createRuntime": {"creating", false}, "createContainer": {"creating", true}, "startContainer": {"created", true},
		"poststart": {"running", false}, "poststop": {"stopped", false},
	} {
		b, _ := os.ReadFile(filepath.Join(log, kind))
		var s specs.State
		if err := json.Unmarshal(b, &s); err != nil || s.ID != id || s.Bundle != dir || s.Status != want.status || (s.Pid == 1) != want.inside {
			t.Errorf("%s: %s, %v", kind, b, err)
		}
	}
}

// A hook that wants its own container changed, while vitrun waits for the hook, is told so at once. Force kills init, and the start fails.
func TestHookDeletesItsContainer(t *testing.T) {
	for _, kind := range []string{"prestart", "createRuntime"} {
		id := name(t)
		root, log := newRoot(t, id), filepath.Join(t.TempDir(), "log")
		script := "{ " + binary + " --root " + root + " delete --force " + id + "; echo $?; " + binary + " --root " + root + " exec " + id + " true; } > " + log + " 2>&1 </dev/null; true"
		dir := bundle(t, func(s *specs.Spec) {
			s.Process.Args = []string{"true"}
			b, _ := json.Marshal(map[string][]specs.Hook{kind: {{Path: "/bin/busybox", Args: []string{"sh", "-c", script}}}})
			s.Hooks = new(specs.Hooks)
			must(t, json.Unmarshal(b, s.Hooks))
		})
		expect(t, root, "vitrun run failed: unable to start container process: container init was killed (SIGKILL) before its execve, and not for its memory\n", 1, "run", "-b", dir, id)
		b, _ := os.ReadFile(log)
		got := regexp.MustCompile(`process \d+`).ReplaceAllString(string(b), "process N")
		why := "vitrun: container " + id + ": vitrun (process N) waits for this hook, and nothing can change until it has ended\n"
		if got != why+"1\n"+strings.Replace(why, ": ", ": exec failed: ", 1) {
			t.Errorf("%s: %s", kind, got)
		}
	}
}

func TestLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	for range 2 {
		expect(t, t.TempDir(), "vitrun: container does not exist\n", 1, "--log", file, "--log-format", "json", "state", "x")
	}
	b, err := os.ReadFile(file)
	must(t, err)
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		var r struct {
			Level, Msg string
			Time       time.Time
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Level != "error" || r.Msg != "container does not exist" {
			t.Errorf("%s: %v", line, err)
		}
	}
	expect(t, "", "vitrun: invalid log-format: xml\n", 1, "--log-format", "xml", "list")
}

func TestForegroundForwardsSignals(t *testing.T) {
	id := name(t)
	root, dir := newRoot(t, id), bundle(t, func(s *specs.Spec) {
		s.Process.Args = []string{"sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done"}
	})
	cmd := exec.Command(binary, "--root", root, "run", "-b", dir, id)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Error(err)
	}
	must(t, cmd.Process.Signal(syscall.SIGUSR1))
	_ = cmd.Wait()
	if c := cmd.ProcessState.ExitCode(); c != 9 {
		t.Errorf("status %d", c)
	}
}

// TestBesideForeground: a run that waits must not keep exec and delete out.
func TestBesideForeground(t *testing.T) {
	id := name(t)
	root, dir := newRoot(t, id), bundle(t, func(s *specs.Spec) {
		s.Process.Args = []string{"sh", "-c", "echo ready; sleep 60"}
	})
	cmd := exec.Command(binary, "--root", root, "run", "-b", dir, id)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() }).Stop() // lets go of what the others would wait for
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Error(err)
	}
	expect(t, root, "/\n", 0, "exec", id, "pwd")
	expect(t, root, "", 0, "delete", "--force", id)
	_ = cmd.Wait()
	if c := cmd.ProcessState.ExitCode(); c != 137 {
		t.Errorf("status %d", c)
	}
}

// TestKilledCreate kills vitrun at random points of a create: delete --force then leaves nothing.
func TestKilledCreate(t *testing.T) {
	id := name(t)
	root, dir := newRoot(t, id), bundle(t, func(*specs.Spec) {})
	for i := range 24 {
		cmd := exec.Command(binary, "--root", root, "create", "-b", dir, id)
		must(t, cmd.Start())
		time.Sleep(time.Duration(i) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if out, code := vitrun(t, root, "delete", "--force", id); code != 0 {
			t.Fatalf("after %d ms: delete: %s", i, out)
		}
	}
}
