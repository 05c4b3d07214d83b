package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A Feature is something of the machine that a test cannot do without.
type Feature struct {
	Name     string
	Kernel   [2]int       // first kernel that has it; zero for any that Vitro runs on (5.12)
	Optional bool         // a host may be set up without it, so MUST_WORK cannot ask for it
	Probe    func() error // nil error: it is there
}

// The features that more than one package asks for. A package makes its own as it needs.
var (
	Root        = Feature{Name: "root", Probe: probeRoot}
	UserNS      = Feature{Name: "user namespaces", Probe: namespaceProbe(unix.CLONE_NEWUSER)}
	MountNS     = Feature{Name: "mount namespaces", Probe: namespaceProbe(unix.CLONE_NEWNS)}
	NetNS       = Feature{Name: "network namespaces", Probe: namespaceProbe(unix.CLONE_NEWNET)}
	TimeNS      = Feature{Name: "time namespaces", Probe: fileProbe("/proc/self/ns/time")}
	Overlay     = Feature{Name: "overlayfs", Probe: probeOverlay}
	Seccomp     = Feature{Name: "seccomp filters", Probe: fileProbe("/proc/sys/kernel/seccomp/actions_avail")}
	CgroupV1    = Feature{Name: "cgroup v1", Optional: true, Probe: fileProbe("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/pids/cgroup.procs")}
	CgroupV2    = Feature{Name: "cgroup v2", Optional: true, Probe: fileProbe("/sys/fs/cgroup/cgroup.controllers")}
	Hybrid      = Feature{Name: "cgroup v2 beside v1", Optional: true, Probe: fileProbe("/sys/fs/cgroup/unified/cgroup.controllers")}
	SysResource = Feature{Name: "CAP_SYS_RESOURCE", Optional: true, Probe: capabilityProbe(unix.CAP_SYS_RESOURCE)}
	QemuARM64   = Feature{Name: "qemu-aarch64-static", Probe: toolProbe("qemu-aarch64-static")}
)

// Tool is a program that must be in PATH; test/deps.sh installs those it knows.
func Tool(name string) Feature { return Feature{Name: name, Probe: toolProbe(name)} }

// Need skips t unless the machine has all features; see the package documentation for MUST_WORK.
func Need(t testing.TB, features ...Feature) {
	t.Helper()
	for _, f := range features {
		err := f.Probe()
		if err == nil {
			continue
		}
		reason := fmt.Sprintf("needs %s: %v", f.Name, err)
		if f.Optional || olderThan(f.Kernel) {
			t.Skip(reason)
		}
		Skip(t, reason)
	}
}

// Skip skips t and names what is missing; with MUST_WORK=1 it fails instead.
func Skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("MUST_WORK") == "1" {
		t.Fatalf("MUST_WORK=1, and this test would be skipped: %s", reason)
	}
	t.Skip(reason)
}

func olderThan(v [2]int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major < v[0] || major == v[0] && minor < v[1]
}

func probeRoot() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("effective uid is %d", os.Geteuid())
	}
	return nil
}

// fileProbe asks for the first of the names that is there.
func fileProbe(names ...string) func() error {
	return func() (err error) {
		for _, n := range names {
			if _, err = os.Stat(n); err == nil {
				return nil
			}
		}
		return err
	}
}

func toolProbe(name string) func() error {
	return func() error {
		_, err := exec.LookPath(name)
		return err
	}
}

// namespaceProbe makes the namespace with a child that ends at once.
func namespaceProbe(flag uintptr) func() error {
	return func() error {
		p, err := os.StartProcess("/proc/self/exe", []string{"probe", "-test.run=^$"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: flag}})
		if err != nil {
			return err
		}
		if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		_, err = p.Wait()
		return err
	}
}

func capabilityProbe(c int) func() error {
	return func() error {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&hdr, &data[0]); err != nil {
			return err
		}
		if data[c/32].Effective&(1<<(c%32)) == 0 {
			return errors.New("not in the effective set")
		}
		return nil
	}
}

// probeOverlay opens a file-system context, which loads the module; nothing is mounted. Only root may open one.
var probeOverlay = sync.OnceValue(func() error {
	if fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC); err == nil {
		return unix.Close(fd)
	}
	b, err := os.ReadFile("/proc/filesystems")
	if err == nil && !strings.Contains(string(b), "\toverlay\n") {
		err = errors.New("not in /proc/filesystems")
	}
	return err
})
