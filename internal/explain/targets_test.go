package explain

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vitro/internal/testenv"
)

// output runs a program and gives what it prints.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	var errText bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &errText
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, errText.String())
	}
	return strings.TrimRight(string(out), "\n")
}

// eventually waits for up to 20 s.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// spawn starts a program that is killed at the test's end, in new namespaces.
func spawn(t *testing.T, flags uintptr, name string, args ...string) int {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd.Process.Pid
}

// plainUnshare is a shell under unshare(1); the pid is the shell's.
func plainUnshare(t *testing.T) int {
	testenv.Need(t, testenv.Root, testenv.Tool("unshare"))
	parent := spawn(t, 0, "unshare", "-mpuin", "--fork", "--kill-child", "--mount-proc", "sh", "-c", "sleep 1000; :")
	pid := 0
	eventually(t, "the shell", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
		_, err := fmt.Sscan(string(b), &pid)
		list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		return err == nil && len(list) > 0
	})
	return pid
}

// archiveOf makes a docker-archive of one layer from a folder.
func archiveOf(t *testing.T, root string) string {
	dir := t.TempDir()
	output(t, "tar", "-C", root, "-cf", dir+"/layer.tar", ".")
	b, err := os.ReadFile(dir + "/layer.tar")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"config.json":   fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%x"]}}`, sha256.Sum256(b)),
		"manifest.json": `[{"Config":"config.json","RepoTags":["bb:latest"],"Layers":["layer.tar"]}]`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	output(t, "tar", "-C", dir, "-cf", dir+"/image.tar", "manifest.json", "config.json", "layer.tar")
	return dir + "/image.tar"
}

// vitro is an engine of the test's own.
type vitro struct{ program, root string }

func newVitro(t *testing.T) *vitro {
	testenv.Need(t, testenv.Root, testenv.Overlay)
	testenv.VitrunPath(t)
	return &vitro{testenv.VitroPath(t), t.TempDir()}
}

func (v *vitro) run(t *testing.T, args ...string) string {
	t.Helper()
	return output(t, v.program, append([]string{"--root", v.root}, args...)...)
}

// start runs a detached container of a rootfs, and gives its pid.
func (v *vitro) start(t *testing.T, rootfs string, args ...string) (id string, pid int) {
	t.Helper()
	v.run(t, "load", "-q", "-i", archiveOf(t, rootfs))
	id = v.run(t, append([]string{"run", "-d"}, args...)...)
	t.Cleanup(func() {
		v.run(t, "rm", "-f", id)
		for range 100 { // its monitor may still be taking the endpoint away
			if left, _ := filepath.Glob(v.root + "/run/network/endpoints/*/*"); len(left) == 0 {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		v.run(t, "network", "prune", "-f") // the bridge of the default network
	})
	if _, err := fmt.Sscan(v.run(t, "inspect", "-f", "{{.State.Pid}}", id), &pid); err != nil {
		t.Fatal(err)
	}
	return id, pid
}

func vitroContainer(t *testing.T) int {
	_, pid := newVitro(t).start(t, testenv.Rootfs(t), "-m", "64m", "--pids-limit", "50", "--cpus", "0.5", "bb", "sh", "-c", "sleep 999; :")
	return pid
}

func podmanContainer(t *testing.T) int {
	testenv.Need(t, testenv.Root, testenv.Overlay, testenv.Tool("podman"), testenv.Tool("runc")) // Debian's crun refuses a hybrid with hugetlb on v2
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "p") // a runroot has 50 characters at most
	if err != nil {
		t.Fatal(err)
	}
	podman := []string{"--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", runc, "--storage-driver", "vfs", "--runtime-flag=root=" + dir + "/rt"}
	id := output(t, "podman", append(podman, "run", "-d", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--network", "none", "--rootfs", testenv.Rootfs(t), "/bin/sleep", "998")...)
	t.Cleanup(func() {
		output(t, "podman", append(podman, "rm", "-f", "-t", "0", id)...)
	})
	pid := 0
	if _, err := fmt.Sscan(output(t, "podman", append(podman, "inspect", "-f", "{{.State.Pid}}", id)...), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

// dockerContainer starts a dockerd of its own, without any network.
func dockerContainer(t *testing.T) int {
	testenv.Need(t, testenv.Root, testenv.Overlay, testenv.Tool("dockerd"), testenv.Tool("docker"))
	dir, err := os.MkdirTemp("", "dk") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	host := "unix://" + dir + "/s"
	cmd := exec.Command("dockerd", "--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "-H", host,
		"--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		exec.Command("umount", "-R", dir+"/data").Run()
		if found, _ := filepath.Glob(dir + "/exec/netns/*"); len(found) > 0 {
			exec.Command("umount", found...).Run()
		}
	})
	eventually(t, "dockerd", func() bool { return exec.Command("docker", "-H", host, "version").Run() == nil })
	output(t, "sh", "-c", fmt.Sprintf("tar -C %s -c . | docker -H %s import - bb", testenv.Rootfs(t), host))
	id := output(t, "docker", "-H", host, "run", "-d", "--network", "none", "bb", "/bin/sleep", "997")
	t.Cleanup(func() { output(t, "docker", "-H", host, "rm", "-f", id) })
	pid := 0
	if _, err := fmt.Sscan(output(t, "docker", "-H", host, "inspect", "-f", "{{.State.Pid}}", id), &pid); err != nil {
		t.Fatal(err)
	}
	names := Namer{Containers: func() []Container { return nil }}
	if got, want := names.Name(pid, 0, groupOf(pid)), "docker "+id[:12]; got != want {
		t.Errorf("a trace names Docker's container %q, want %q", got, want)
	}
	return pid
}
