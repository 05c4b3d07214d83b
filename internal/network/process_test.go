package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// child runs this test binary as another process of the container host. See TestChild.
func (w *world) child(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), "NETWORK_TEST_CHILD="+w.m.opt.Root+" "+strings.Join(args, " "))
	return cmd
}

// TestChild does nothing unless started by child: it attaches and ends; or it attaches, detaches, and is
// killed at a step.
func TestChild(t *testing.T) {
	args := strings.Fields(os.Getenv("NETWORK_TEST_CHILD"))
	if len(args) == 0 {
		return
	}
	m, err := Open(Options{Root: args[0], RunRoot: args[0] + "/run", Table: "vitro"})
	if err != nil {
		t.Fatal(err)
	}
	count, _ := strconv.Atoi(args[2])
	kill, _ := strconv.Atoi(args[3])
	k := 0
	if kill >= 0 {
		m.inject = func(string) error {
			if k++; k > kill {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return nil
		}
	}
	var wg sync.WaitGroup
	for i := range count {
		c := newNS(t)
		wg.Go(func() {
			e, err := m.Attach(context.Background(), Request{
				Container: fmt.Sprintf("netcore-%s-%d", args[1], i), Network: "blue", NetNS: c.path(),
				Ports: []Port{{Proto: "tcp", Port: 80}},
			})
			if err != nil {
				fmt.Println("\nerror:", err)
				return
			}
			fmt.Printf("\nchild: %s %d\n", e.IP4.Addr(), e.Ports[0].HostPort)
		})
	}
	wg.Wait()
	if kill >= 0 {
		if err := m.DetachAll(context.Background(), "netcore-"+args[1]+"-0"); err != nil {
			fmt.Println("\nerror:", err)
		}
	}
}

func TestProcesses(t *testing.T) {
	w := newWorld(t)
	w.create(CreateOptions{Name: "blue"})
	before := w.snapshot(nil)
	const processes, each = 10, 5
	out := make([]bytes.Buffer, processes)
	var cmds []*exec.Cmd
	w.host.do(func() error { // from a thread of the host's namespace, which the child inherits
		for i := range processes {
			cmd := w.child(strconv.Itoa(i), strconv.Itoa(each), "-1")
			cmd.Stdout, cmd.Stderr = &out[i], &out[i]
			if err := cmd.Start(); err != nil {
				return err
			}
			cmds = append(cmds, cmd)
		}
		return nil
	})
	addrs, ports := map[string]bool{}, map[string]bool{}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v\n%s", i, err, out[i].String())
		}
		for line := range strings.Lines(out[i].String()) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "child:" {
				addrs[f[1]], ports[f[2]] = true, true
			}
		}
	}
	if len(addrs) != processes*each || len(ports) != processes*each {
		t.Errorf("%d addresses and %d ports:\n%s", len(addrs), len(ports), out[0].String())
	}
	w.host.do(func() error { // the kernel removes the dead namespaces' veths when it likes
		_, err := w.m.Reconcile(context.Background())
		return err
	})
	if after := w.snapshot(nil); !slices.Equal(before, after) {
		t.Errorf("after reconcile:\n%s\nwant\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}

func TestKilledAtEachStep(t *testing.T) {
	w := newWorld(t)
	w.create(CreateOptions{Name: "blue"})
	before := w.snapshot(nil)
	for k := range 20 {
		var out bytes.Buffer
		var cmd *exec.Cmd
		w.host.do(func() error {
			cmd = w.child("k", "1", strconv.Itoa(k))
			cmd.Stdout = &out
			return cmd.Start()
		})
		err := cmd.Wait()
		w.reconcile()
		if after := w.snapshot(nil); !slices.Equal(before, after) {
			t.Errorf("killed at step %d:\n%s\nwant\n%s", k, strings.Join(after, "\n"), strings.Join(before, "\n"))
		}
		if strings.Contains(out.String(), "error:") {
			t.Error(out.String())
		}
		if err == nil {
			if k < 12 {
				t.Errorf("only %d steps", k)
			}
			return
		}
	}
	t.Error("more steps than that?")
}

func TestAddresses(t *testing.T) {
	w := newWorld(t)
	w.create(CreateOptions{Name: "tiny", Subnets: []Subnet{{
		Prefix: netip.MustParsePrefix("10.77.0.0/29"), Aux: map[string]netip.Addr{"nas": ip("10.77.0.3")},
	}}})
	c1, e1 := w.container("c1", "tiny", "")
	_, e2 := w.container("c2", "tiny", "")
	w.detach("c1")
	_, e3 := w.container("c3", "tiny", "")
	if got := fmt.Sprint(e1.IP4, e2.IP4, e3.IP4, " ", e1.MAC); got != "10.77.0.2/29 10.77.0.4/29 10.77.0.5/29 02:42:0a:4d:00:02" {
		t.Error(got)
	}
	for _, c := range [][2]string{
		{"10.78.0.2", "network tiny: container c: --ip 10.78.0.2: not in the network's subnet 10.77.0.0/29"},
		{"10.77.0.1", "network tiny: container c: --ip 10.77.0.1: it is the gateway"},
		{"10.77.0.0", "network tiny: container c: --ip 10.77.0.0: it is the network's own address"},
		{"10.77.0.7", "network tiny: container c: --ip 10.77.0.7: it is the broadcast address"},
		{"10.77.0.3", "network tiny: container c: --ip 10.77.0.3: it is reserved as nas"},
		{"10.77.0.4", "network tiny: container c: --ip 10.77.0.4: Address already in use by c2 on tiny"},
	} {
		if _, err := w.attach(c1, "c", "tiny", "", func(r *Request) { r.IP4 = ip(c[0]) }); err == nil || err.Error() != c[1] {
			t.Errorf("--ip %s: %v", c[0], err)
		}
	}
	_, err := w.attach(c1, "c", "tiny", "", func(r *Request) { r.IP6 = ip("fd00::2") })
	if err == nil || err.Error() != "network tiny: container c: fd00::2: network tiny has no IPv6 subnet" {
		t.Error(err)
	}
	w.container("c4", "tiny", "")
	last, e5 := w.container("c5", "tiny", "")
	_, err = w.attach(c1, "c", "tiny", "")
	if err == nil || err.Error() != "network tiny: container c: no available IPv4 addresses on this network's address pools: 10.77.0.0/29" {
		t.Error(err)
	}
	last.close() // its owner dies, nobody detaches it; who asks for the address gets it
	if _, err := w.attach(c1, "c", "tiny", "", func(r *Request) { r.IP4 = e5.IP4.Addr() }); err != nil {
		t.Error(err)
	}
}

func TestSubnets(t *testing.T) {
	w := newWorld(t)
	w.host.do(func() error {
		ctx := context.Background()
		nets, err := w.m.List(ctx)
		if err != nil || len(nets) != 3 || nets[0].Subnets[0].Prefix.String() != "172.30.0.0/16" {
			t.Errorf("predefined: %v, %v", nets, err)
		}
		n, err := w.m.Create(ctx, CreateOptions{Name: "blue", IPv6: true})
		if err != nil {
			return err
		}
		if n.Subnets[0].Prefix.String() != "172.31.0.0/16" || n.Subnets[1].Prefix.Bits() != 64 || n.Subnets[1].Prefix.Addr().As16()[0] != 0xfd {
			t.Errorf("chosen: %v", n.Subnets)
		}
		for _, c := range [][2]string{
			{"172.31.5.0/24", "Pool overlaps with other one on this address space: network blue"},
			{"198.51.0.0/16", "Pool overlaps with other one on this address space: route 198.51.100.0/24 of lan0"},
		} {
			_, err := w.m.Create(ctx, CreateOptions{Name: "red", Subnets: []Subnet{{Prefix: netip.MustParsePrefix(c[0])}}})
			if want := "network create red: --subnet " + c[0] + ": " + c[1]; err == nil || err.Error() != want {
				t.Errorf("%s: %v", c[0], err)
			}
		}
		lan0, err := netlink.LinkByName("lan0")
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lan0.Attrs().Index, Dst: ipnet(netip.MustParsePrefix("169.254.169.254/32"))}); err != nil {
			return err
		}
		for want, o := range map[string]CreateOptions{
			"--subnet 169.254.0.0/16: Pool overlaps with other one on this address space: route 169.254.169.254/32 of lan0": {
				Subnets: []Subnet{{Prefix: netip.MustParsePrefix("169.254.0.0/16")}},
			},
			"--opt com.docker.network.driver.mtu=1000: IPv6 needs 1280 bytes": {IPv6: true, Options: map[string]string{OptMTU: "1000"}},
			"--opt parent=none0: there is no such link":                       {Driver: DriverMacvlan, Options: map[string]string{OptParent: "none0"}},
		} {
			o.Name = "red"
			if _, err := w.m.Create(ctx, o); err == nil || err.Error() != "network create red: "+want {
				t.Errorf("%v, want %s", err, want)
			}
		}
		if _, err := w.m.Create(ctx, CreateOptions{Name: "blue"}); !errors.Is(err, ErrExists) {
			t.Error(err)
		}
		if err := w.m.Remove(ctx, "bridge"); err == nil || err.Error() != "network rm bridge: bridge is a pre-defined network and cannot be removed" {
			t.Error(err)
		}
		if got, err := w.m.Get(ctx, n.ID[:8]); err != nil || got.Name != "blue" {
			t.Error(got, err)
		}
		if _, err := w.m.Get(ctx, "none-such"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		return w.m.Remove(ctx, "blue")
	})
}

func TestReserve(t *testing.T) {
	w := newWorld(t)
	w.create(CreateOptions{Name: "blue"})
	w.host.do(func() error {
		ctx := context.Background()
		l, err := net.Listen("tcp4", "127.0.0.1:8080")
		if err != nil {
			return err
		}
		defer l.Close()
		for _, c := range [][2]string{
			{"8080:80", "Bind for 0.0.0.0:8080 failed: port is already allocated"},
			{"127.0.0.1:8080:80", "Bind for 127.0.0.1:8080 failed: port is already allocated"},
			{"192.0.2.77:8080:80", "Bind for 192.0.2.77:8080 failed: cannot assign requested address"},
		} {
			ports, _ := ParsePorts(c[0])
			if _, err := w.m.Reserve(ctx, ports); err == nil || err.Error() != c[1] {
				t.Errorf("%s: %v", c[0], err)
			}
		}
		for _, ok := range []string{hostIP + ":8080:80", "8080:80/udp", "[::1]:8080:80", "8080-8082:80", "80"} {
			ports, _ := ParsePorts(ok)
			r, err := w.m.Reserve(ctx, ports)
			if err != nil || r.Ports[0].HostPort == 0 || r.Ports[0].HostEnd != 0 {
				t.Errorf("%s: %v, %v", ok, r, err)
			}
			r.Close()
		}
		ports, _ := ParsePorts("9000:80")
		r, err := w.m.Reserve(ctx, ports)
		if err != nil {
			return err
		}
		if _, err := net.Listen("tcp4", ":9000"); err == nil {
			t.Error("the port is not held")
		}
		if _, err := w.m.Reserve(ctx, ports); err == nil || err.Error() != "Bind for 0.0.0.0:9000 failed: port is already allocated" {
			t.Error(err)
		}
		r.Close()
		return nil
	})
	c, _ := w.container("web", "blue", "9000:80") // nobody holds the socket: the index knows
	other := newNS(t)
	_, err := w.attach(other, "other", "blue", hostIP+":9000:80")
	if err == nil || err.Error() != "network blue: container other: Bind for 198.51.100.1:9000 failed: port is already allocated (by web on blue)" {
		t.Error(err)
	}
	c.close()
	if _, err := w.attach(other, "other", "blue", hostIP+":9000:80"); err != nil {
		t.Errorf("the owner is dead: %v", err)
	}
}

// TestOwner attaches to a process; its death ends the endpoint although its namespace lives on.
func TestOwner(t *testing.T) {
	w := newWorld(t)
	w.lan.echo(7)
	w.create(CreateOptions{Name: "blue"})
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() { cmd.Process.Kill(); cmd.Wait() })
	t.Cleanup(stop)
	path := fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	held, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	e, err := w.attach(newNS(t), "owned", "blue", "", func(r *Request) { r.NetNS, r.PID = "", cmd.Process.Pid })
	if err != nil {
		t.Fatal(err)
	}
	if e.NetNS.Path != path || e.Start == 0 || !e.Alive() {
		t.Errorf("%+v", e)
	}
	w.host.do(func() error { return w.m.Rename(context.Background(), "netcore-owned", "renamed") })
	other := *e
	if other.Start++; other.Alive() {
		t.Error("another process with the same pid is taken for the owner")
	}
	stop()
	if r := w.reconcile(); !slices.Equal(r.Changes, []string{"endpoint renamed on blue: removed, its owner is gone"}) {
		t.Errorf("%q", r.Changes)
	}
	_, err = w.attach(newNS(t), "late", "blue", "", func(r *Request) { r.NetNS, r.PID = "", cmd.Process.Pid })
	if err == nil || !strings.Contains(err.Error(), "network blue: container late: network namespace: open "+path) {
		t.Error(err)
	}
	_, err = w.attach(w.host, "host", "blue", "")
	if err == nil || err.Error() != "network blue: container host: the container shares the host's network namespace" {
		t.Error(err)
	}
	for _, n := range []string{"host", "none"} {
		_, err = w.attach(newNS(t), "c", n, "")
		if err == nil || !strings.HasSuffix(err.Error(), "a container is started with it, not connected to it") {
			t.Error(err)
		}
	}
}

// TestForeignLink: a link that somebody else made under a bridge's name is left alone, and the rest is repaired.
func TestForeignLink(t *testing.T) {
	w := newWorld(t)
	w.create(CreateOptions{Name: "blue", Options: map[string]string{OptBridgeName: "br-x"}})
	w.create(CreateOptions{Name: "red", Options: map[string]string{OptBridgeName: "br-y"}})
	web, _ := w.container("web", "red", "8080:80")
	web.echo(80)
	w.host.do(func() error {
		foreign := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br-x"}}
		if err := errors.Join(deleteLink("br-x"), netlink.LinkAdd(foreign), deleteLink("br-y"), flushRuleset()); err != nil {
			return err
		}
		_, err := w.m.Reconcile(context.Background())
		want := "network reconcile: link br-x is there and not made for network blue of " + w.m.opt.Root
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		return nil
	})
	w.lan.wantAnswer("tcp", hostIP+":8080", lanIP)
	w.host.do(func() error {
		err := w.m.Remove(context.Background(), "blue")
		if l, _ := linkByName("br-x"); l == nil {
			t.Error("the foreign link was removed")
		}
		return err
	})
}
