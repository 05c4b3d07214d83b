package vitro

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"vitro/internal/network"
	"vitro/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestScripts(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.Overlay, testenv.Tool("busybox"))
	program := testenv.VitroPath(t)
	archive := filepath.Join(t.TempDir(), "bb.tar")
	writeArchive(t, archive, "bb:latest", testenv.Rootfs(t), map[string]any{
		"Env": []string{"PATH=/bin", "FOO=image"}, "Cmd": []string{"sh"}, "StopSignal": "SIGTERM",
	})
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			root := filepath.Join(e.WorkDir, "store")
			e.Setenv("VITRO_ROOT", root)
			e.Setenv("PATH", filepath.Dir(program)+":"+os.Getenv("PATH"))
			e.Setenv("BB", archive)
			e.Setenv("VITRUN", testenv.VitrunPath(t))
			e.Setenv("TMPDIR", os.TempDir())
			e.Defer(func() { clean(t, program, root) })
			cmd := exec.Command(program, "load", "-q", "-i", archive)
			cmd.Env = append(os.Environ(), "VITRO_ROOT="+root)
			if b, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("vitro load: %w: %s", err, b)
			}
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "cgroup1" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return testenv.CgroupV1.Probe() == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"registry": cmdRegistry, "debian": cmdDebian, "status": cmdStatus, "killmonitor": cmdKillMonitor,
		},
	})
}

// clean removes what a failed script left, and looks for what the engine did.
func clean(t *testing.T, program, root string) {
	ids, _ := os.ReadDir(filepath.Join(root, "containers"))
	for _, id := range ids {
		cmd := exec.Command(program, "--root", root, "rm", "-f", id.Name())
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("rm -f %s: %v: %s", id.Name(), err, b)
		}
		for _, g := range []string{"/sys/fs/cgroup/vitro-", "/sys/fs/cgroup/*/vitro-"} {
			if left, _ := filepath.Glob(g + id.Name()); left != nil {
				t.Errorf("left: %s", left)
			}
		}
	}
	if names, _ := os.ReadDir(filepath.Join(root, "names")); len(names) > 0 {
		t.Errorf("names left: %v", names)
	}
	for _, d := range []string{"run/runtime", "containers"} {
		if left, _ := os.ReadDir(filepath.Join(root, d)); len(left) > 0 {
			t.Errorf("left in %s: %v", d, left)
		}
	}
	cleanNetworks(t, root)
	if mounts, _ := os.ReadFile("/proc/self/mounts"); bytes.Contains(mounts, []byte(root)) {
		t.Error("a mount is left")
	}
}

// cleanNetworks looks for what networks leave, and removes the bridge and the table that the default network keeps.
func cleanNetworks(t *testing.T, root string) {
	m, err := network.Open(network.Options{Root: root, RunRoot: filepath.Join(root, "run")})
	if err != nil {
		t.Fatal(err)
	}
	for _, glob := range []string{"run/network/endpoints/*", "run/network/leases/*/[^l]*", "run/network/ports/*"} {
		if left, _ := filepath.Glob(filepath.Join(root, glob)); left != nil {
			t.Errorf("left: %s", left)
		}
	}
	nets, err := m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nets {
		switch n.Name {
		case network.DefaultNetwork:
			_ = exec.Command("ip", "link", "del", n.Link).Run() // it may never have been made
		case network.HostNetwork, network.NoneNetwork:
		default:
			t.Errorf("network left: %s", n.Name)
			if err := m.Remove(t.Context(), n.ID); err != nil {
				t.Error(err)
			}
		}
	}
	_ = exec.Command("nft", "delete", "table", "inet", m.Table()).Run()
	links, err := exec.Command("ip", "-o", "link").CombinedOutput()
	if err != nil {
		t.Fatalf("ip link: %v: %s", err, links)
	}
	for line := range strings.Lines(string(links)) {
		if strings.Contains(line, m.Table()+":") {
			t.Errorf("link left: %s", line)
		}
	}
}

// status checks the exit status of a command: status N vitro …
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM ARG...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

// killmonitor NAME sends SIGKILL to the monitor of a container, found by its command line.
func cmdKillMonitor(ts *testscript.TestScript, _ bool, args []string) {
	id, err := os.Readlink(filepath.Join(ts.Getenv("VITRO_ROOT"), "names", args[0]))
	ts.Check(err)
	b, err := os.ReadFile(filepath.Join(ts.Getenv("VITRO_ROOT"), "run", id, "state.json"))
	ts.Check(err)
	var st struct{ Monitor int }
	ts.Check(json.Unmarshal(b, &st))
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", st.Monitor))
	ts.Check(err)
	if !strings.HasPrefix(string(cmdline), "vitro-monitor\x00") {
		ts.Fatalf("pid %d is not a monitor: %q", st.Monitor, cmdline)
	}
	ts.Check(syscall.Kill(st.Monitor, syscall.SIGKILL))
}

// registry starts Debian's docker-registry on loopback and sets $REG to its address.
func cmdRegistry(ts *testscript.TestScript, _ bool, _ []string) {
	if _, err := exec.LookPath("docker-registry"); err != nil {
		if os.Getenv("MUST_WORK") == "1" {
			ts.Fatalf("docker-registry: %v", err)
		}
		ts.Fatalf("docker-registry is not installed (test/deps.sh)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	addr := l.Addr().String()
	l.Close()
	dir := ts.MkAbs("registry")
	ts.Check(os.MkdirAll(dir, 0o755))
	config := "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: " + dir + "/data}}\nhttp: {addr: " + addr + "}\n"
	ts.Check(os.WriteFile(dir+"/config.yml", []byte(config), 0o644))
	cmd := exec.Command("docker-registry", "serve", dir+"/config.yml")
	ts.Check(cmd.Start())
	ts.Defer(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for range 500 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			ts.Setenv("REG", addr)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("docker-registry does not listen on %s", addr)
}

// debian FILE makes a docker-archive of a debootstrap tree, which is kept in the user's cache folder between runs.
func cmdDebian(ts *testscript.TestScript, _ bool, args []string) {
	cache, err := os.UserCacheDir()
	ts.Check(err)
	root := filepath.Join(cache, "vitro-test", "bookworm-"+runtime.GOARCH)
	if _, err := os.Stat(root); err != nil {
		tmp := fmt.Sprintf("%s.%d", root, os.Getpid())
		ts.Check(os.MkdirAll(filepath.Dir(root), 0o755))
		if b, err := exec.Command("debootstrap", "--variant=minbase", "bookworm", tmp).CombinedOutput(); err != nil {
			os.RemoveAll(tmp)
			ts.Fatalf("debootstrap: %v\n%s", err, b)
		}
		ts.Check(os.Rename(tmp, root))
	}
	ts.Check(archiveOf(ts.MkAbs(args[0]), "debian:latest", root, map[string]any{"Cmd": []string{"bash"}}))
}

func writeArchive(t *testing.T, file, name, root string, config map[string]any) {
	t.Helper()
	if err := archiveOf(file, name, root, config); err != nil {
		t.Fatal(err)
	}
}

// archiveOf writes a docker-archive of one layer.
func archiveOf(file, name, root string, config map[string]any) error {
	layer, err := exec.Command("tar", "-C", root, "--numeric-owner", "-cf", "-", ".").Output()
	if err != nil {
		return fmt.Errorf("tar: %w", err)
	}
	sum := sha256.Sum256(layer)
	conf, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2026-01-02T03:04:05Z", "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return err
	}
	manifest := `[{"Config":"config.json","RepoTags":["` + name + `"],"Layers":["layer.tar"]}]`
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, e := range []struct {
		name string
		b    []byte
	}{{"config.json", conf}, {"layer.tar", layer}, {"manifest.json", []byte(manifest)}} {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Size: int64(len(e.b)), Mode: 0o644}); err != nil {
			return err
		}
		if _, err := w.Write(e.b); err != nil {
			return err
		}
	}
	return w.Close()
}
