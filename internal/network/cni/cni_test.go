package cni

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vitro/internal/network"
	"vitro/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const conflist = `{"cniVersion": "1.0.0", "name": "lan", "plugins": [
	{"type": "bridge", "bridge": "cni-test0", "isGateway": true, "ipam": {
		"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.99.7.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`

// TestPlugins runs Debian's plugins (containernetworking-plugins) in a network namespace of its own.
func TestPlugins(t *testing.T) {
	testenv.Need(t, testenv.Root)
	const bin = "/usr/lib/cni"
	if _, err := os.Stat(filepath.Join(bin, "host-local")); err != nil {
		t.Skipf("no CNI plugins: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with its namespace
		inNamespace(t, bin)
	}()
	<-done
}

// newNS leaves the thread in a new namespace.
func newNS(t *testing.T) string {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	t.Cleanup(func() { f.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
}

func inNamespace(t *testing.T, bin string) {
	dir := t.TempDir()
	container := newNS(t)
	newNS(t) // the host
	if err := os.WriteFile(filepath.Join(dir, "lan.conflist"), fmt.Appendf(nil, conflist, dir+"/ipam"), 0o644); err != nil {
		t.Error(err)
		return
	}
	p := &Plugins{ConfDir: dir, BinDirs: []string{bin}, CacheDir: dir + "/cache"}
	if names, err := p.Names(); err != nil || len(names) != 1 || names[0] != "lan" {
		t.Errorf("names: %q, %v", names, err)
	}
	m, err := network.Open(network.Options{Root: dir, RunRoot: dir + "/run", CNI: p})
	if err != nil {
		t.Error(err)
		return
	}
	ctx := context.Background()
	r := network.Request{Container: "netcore-cni", Name: "web", Network: "cni:lan", NetNS: container}
	e, err := m.Attach(ctx, r)
	if err != nil {
		t.Error(err)
		return
	}
	if e.IfName != "eth0" || e.IP4.String() != "10.99.7.2/24" || e.Gateway4.String() != "10.99.7.1" || e.Index == 0 || e.MAC == "" {
		t.Errorf("%+v", e)
	}
	if report, err := m.Reconcile(ctx); err != nil || len(report.Changes) > 0 || report.Kept != 1 {
		t.Errorf("reconcile: %+v, %v", report, err)
	}
	os.Remove(filepath.Join(dir, "lan.conflist")) // DEL uses the configuration of its time
	if err := m.DetachAll(ctx, "netcore-cni"); err != nil {
		t.Error(err)
	}
	links, _ := netlink.LinkList()
	for _, l := range links {
		if l.Type() == "veth" {
			t.Errorf("link %s is left", l.Attrs().Name)
		}
	}
	left, _ := filepath.Glob(dir + "/ipam/lan/10.*")
	if eps, err := m.Endpoints(network.Filter{}); err != nil || len(eps)+len(left) > 0 {
		t.Errorf("left: %v, %q, %v", eps, left, err)
	}
	_, err = m.Attach(ctx, network.Request{Container: "netcore-cni", Name: "web", Network: "cni:none", NetNS: container})
	want := "network cni:none: container web: cni none: no net configurations found in " + dir
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
