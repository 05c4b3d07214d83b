package network

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func filepathWalk(dir string, f func(string)) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			f(path)
		}
		return nil
	})
}

func TestPublishedPort(t *testing.T) {
	for _, nf := range []string{"0", "1"} {
		t.Run("bridge-nf="+nf, func(t *testing.T) { publishedPort(t, newWorldNF(t, nf)) })
	}
}

func publishedPort(t *testing.T, w *world) {
	w.create(CreateOptions{Name: "blue", IPv6: true})
	web, e := w.container("web", "blue", "8080:80 8080:80/udp 127.0.0.1:8081:80 127.0.0.2:8084:80 "+hostIP+":8082:80 ["+hostIP6+"]:8083:80")
	web.echo(80)
	other, oe := w.container("other", "blue", "")
	stranger, se := w.container("stranger", "bridge", "")
	gw := e.Gateway4.String()

	for _, proto := range []string{"tcp", "udp"} {
		w.lan.wantAnswer(proto, hostIP+":8080", lanIP)
		w.lan.wantAnswer(proto, "["+hostIP6+"]:8080", lanIP6)
		w.host.wantAnswer(proto, hostIP+":8080", hostIP)
		w.host.wantAnswer(proto, "127.0.0.1:8080", gw)
		w.host.wantAnswer(proto, "["+hostIP6+"]:8080", hostIP6)
		w.host.wantAnswer(proto, gw+":8080", "")
		other.wantAnswer(proto, hostIP+":8080", "") // masqueraded: hairpin
		other.wantAnswer(proto, "["+hostIP6+"]:8080", "")
		web.wantAnswer(proto, hostIP+":8080", "")
		stranger.wantAnswer(proto, hostIP+":8080", se.IP4.Addr().String())
		other.wantAnswer(proto, e.IP4.Addr().String()+":80", oe.IP4.Addr().String())
		other.wantAnswer(proto, "["+e.IP6.Addr().String()+"]:80", oe.IP6.Addr().String())
	}
	w.host.wantAnswer("tcp", "127.0.0.1:8081", gw)
	w.lan.wantSilence("tcp", hostIP+":8081")
	w.host.wantAnswer("tcp", "127.0.0.2:8084", gw)
	w.lan.routeLoopback("eth0", hostIP)
	w.lan.wantSilence("tcp", "127.0.0.2:8084") // sent to the host's MAC by a neighbour
	w.lan.wantAnswer("tcp", hostIP+":8082", lanIP)
	w.host.wantSilence("tcp", "127.0.0.1:8082")
	w.lan.wantAnswer("tcp", "["+hostIP6+"]:8083", lanIP6)
	w.lan.wantSilence("tcp", hostIP+":8083")
	if _, err := w.host.ask("tcp", "[::1]:8080", 5*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("::1: %v; want to be refused at once", err)
	}
	for _, p := range []string{"[" + hostIP6 + "]:8090:80", "[::1]:8090:80"} {
		_, err := w.attach(newNS(t), "other6", map[bool]string{true: "blue", false: "bridge"}[p[1] == ':'], p)
		if err == nil || !strings.Contains(err.Error(), "--publish "+p+": network b") {
			t.Errorf("%s: %v", p, err)
		}
	}

	w.detach("web")
	w.lan.wantSilence("tcp", hostIP+":8080")
	w.lan.wantSilence("udp", hostIP+":8080")
}

func TestWayOutAndIsolation(t *testing.T) {
	for _, nf := range []string{"0", "1"} {
		t.Run("bridge-nf="+nf, func(t *testing.T) { wayOutAndIsolation(t, newWorldNF(t, nf)) })
	}
}

func wayOutAndIsolation(t *testing.T, w *world) {
	w.lan.echo(7)
	w.host.echo(7)
	w.create(CreateOptions{Name: "blue", IPv6: true})
	w.create(CreateOptions{Name: "red", IPv6: true})
	w.create(CreateOptions{Name: "inner", IPv6: true, Internal: true})
	w.create(CreateOptions{Name: "strict", Options: map[string]string{OptICC: "false"}})

	a, ae := w.container("a", "blue", "")
	b, be := w.container("b", "red", "")
	b.echo(80)
	a.do(func() error { // a neighbour is no router
		b, err := os.ReadFile("/proc/sys/net/ipv6/conf/eth0/accept_ra")
		if err == nil && string(b) != "0\n" {
			t.Errorf("accept_ra %q", b)
		}
		return err
	})
	a.wantAnswer("tcp", lanIP+":7", hostIP)
	a.wantAnswer("udp", lanIP+":7", hostIP)
	a.wantAnswer("tcp", "["+lanIP6+"]:7", hostIP6)
	a.wantAnswer("tcp", ae.Gateway4.String()+":7", ae.IP4.Addr().String())
	a.wantSilence("tcp", be.IP4.Addr().String()+":80")
	a.wantSilence("tcp", "["+be.IP6.Addr().String()+"]:80")

	// A LAN host that has a route to the subnet still does not get in.
	w.lan.do(func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: ipnet(be.IP4.Masked()), Gw: []byte(netip.MustParseAddr(hostIP).AsSlice())})
	})
	w.lan.wantSilence("tcp", be.IP4.Addr().String()+":80")

	i1, _ := w.container("i1", "inner", "")
	i2, i2e := w.container("i2", "inner", "")
	i2.echo(80)
	i1.wantAnswer("tcp", i2e.IP4.Addr().String()+":80", "")
	i1.wantAnswer("tcp", "["+i2e.IP6.Addr().String()+"]:80", "")
	i1.wantSilence("tcp", lanIP+":7")
	i1.do(func() error { // even with a route of its own
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		gw := i2e.IP4.Masked().Addr().Next()
		return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gw.AsSlice()})
	})
	i1.wantSilence("tcp", lanIP+":7")
	i1.wantSilence("tcp", be.IP4.Addr().String()+":80")

	s1, _ := w.container("s1", "strict", "")
	s2, s2e := w.container("s2", "strict", "9090:80")
	s2.echo(80)
	s1.wantAnswer("tcp", lanIP+":7", hostIP)
	s1.wantSilence("tcp", s2e.IP4.Addr().String()+":80")
	s1.wantAnswer("tcp", hostIP+":9090", "")

	// 127.0.0.1 of the host is not reached through its bridge.
	a.routeLoopback("eth0", ae.Gateway4.String())
	a.wantSilence("tcp", "127.0.0.2:7")
}

func TestSeveralNetworks(t *testing.T) {
	w := newWorld(t)
	w.lan.echo(7)
	w.create(CreateOptions{Name: "blue"})
	w.create(CreateOptions{Name: "red"})
	c, e := w.container("c", "blue", "")
	e2, err := w.attach(c, "c", "red", "")
	if err != nil {
		t.Fatal(err)
	}
	if e.IfName != "eth0" || e2.IfName != "eth1" {
		t.Errorf("interfaces %s and %s", e.IfName, e2.IfName)
	}
	c.wantAnswer("tcp", lanIP+":7", hostIP)
	w.host.do(func() error { return w.m.Detach(context.Background(), "netcore-c", "blue") })
	c.wantAnswer("tcp", lanIP+":7", hostIP) // through red
	_, err = w.attach(c, "c", "red", "")
	if err == nil || err.Error() != "network red: container c: endpoint with name c already exists in network red" {
		t.Error(err)
	}
	w.host.do(func() error {
		err := w.m.Remove(context.Background(), "red")
		if !errors.Is(err, ErrInUse) || err.Error() != "network rm red: network has active endpoints: c on red" {
			t.Error(err)
		}
		w.detach2("c")
		gone, err := w.m.Prune(context.Background(), func(n *Network) bool { return n.Name == "blue" })
		if !slices.Equal(gone, []string{"red"}) {
			t.Errorf("pruned %q", gone)
		}
		return err
	})
}

// detach2 is detach from inside of host.do.
func (w *world) detach2(name string) {
	if err := w.m.DetachAll(context.Background(), "netcore-"+name); err != nil {
		w.t.Error(err)
	}
}

func TestReconcile(t *testing.T) {
	w := newWorld(t)
	w.lan.echo(7)
	w.create(CreateOptions{Name: "blue", IPv6: true})
	web, e := w.container("web", "blue", "8080:80")
	web.echo(80)
	dead, _ := w.container("dead", "blue", "8090:80")
	def, _ := w.container("def", "bridge", "")
	before := w.snapshot(web)
	check := func(what string) {
		t.Helper()
		w.lan.wantAnswer("tcp", hostIP+":8080", lanIP)
		w.lan.wantAnswer("tcp", "["+hostIP6+"]:8080", lanIP6)
		def.wantAnswer("tcp", lanIP+":7", hostIP)
		if after := w.snapshot(web); !slices.Equal(before, after) {
			t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(after, "\n"), strings.Join(before, "\n"))
		}
		if r := w.reconcile(); len(r.Changes) > 0 {
			t.Errorf("%s: a second reconcile did %q", what, r.Changes)
		}
	}
	if r := w.reconcile(); len(r.Changes) > 0 || r.Kept != 3 {
		t.Errorf("nothing to do, but %+v", r)
	}
	w.host.do(flushRuleset)
	w.host.do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		drop := nftables.ChainPolicyDrop
		t := c.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4})
		c.AddChain(&nftables.Chain{Name: "FORWARD", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
		return c.Flush()
	})
	if r := w.reconcile(); !slices.Equal(r.Warnings, []string{"nft table ip filter: chain FORWARD drops what is forwarded and not allowed there, containers' traffic too"}) {
		t.Errorf("%q", r.Warnings)
	}
	w.host.do(flushRuleset)
	w.reconcile()
	check("flush")
	w.host.do(func() error {
		n, err := w.m.Get(context.Background(), "blue")
		if err != nil {
			return err
		}
		return errors.Join(deleteLink(n.Link), deleteLink("vitro0"))
	})
	w.reconcile()
	check("bridge deleted")
	w.host.do(func() error { return deleteLink(e.HostLink) })
	w.reconcile()
	check("veth deleted")
	w.host.do(func() error {
		l, err := netlink.LinkByName(e.HostLink)
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(l)
	})
	w.reconcile()
	check("veth down")
	w.host.do(func() error {
		l, err := netlink.LinkByName(e.HostLink)
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetDown(l), netlink.LinkSetName(l, "foreign0"))
	})
	w.reconcile()
	check("veth renamed")
	port := func() (p netlink.Protinfo) {
		w.host.do(func() error {
			l, err := netlink.LinkByName(e.HostLink)
			if err == nil {
				p, err = netlink.LinkGetProtinfo(l)
			}
			return err
		})
		return p
	}
	w.host.do(func() error {
		l, err := netlink.LinkByName(e.HostLink)
		if err != nil {
			return err
		}
		return netlink.LinkSetHairpin(l, false)
	})
	if w.reconcile(); !port().Hairpin {
		t.Error("the bridge port has lost its hairpin mode")
	}
	for _, path := range []string{w.m.root(".0123.json.new"), w.m.run("endpoints", "gone", ".0123.json.new")} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	w.reconcile()
	check("killed while it wrote")
	w.host.do(func() error {
		return w.m.changeRules([]element{{set: "bridges", key: ifnameKey("foreign")}}, endpointElements(e)[:1])
	})
	w.reconcile()
	check("elements changed")

	dead.close()
	r := w.reconcile()
	if !slices.Contains(r.Changes, "endpoint dead on blue: removed, its owner is gone") || r.Kept != 2 {
		t.Errorf("owner gone: %+v", r)
	}
	before = w.snapshot(web)
	check("owner gone")

	w.host.do(flushRuleset)
	late, _ := w.container("late", "blue", "8091:80") // heals the table for all
	late.echo(80)
	w.lan.wantAnswer("tcp", hostIP+":8091", lanIP)
	w.lan.wantAnswer("tcp", hostIP+":8080", lanIP)
}

func TestFailureLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.host.do(func() error { _, err := w.m.List(context.Background()); return err })
	w.create(CreateOptions{Name: "blue", IPv6: true})
	for _, network := range []string{"blue", "bridge"} {
		c := newNS(t)
		before := w.snapshot(c)
		var steps []string
		for fail := 0; ; fail++ {
			k, failed := 0, ""
			w.m.inject = func(step string) error {
				if k++; k <= fail {
					return nil
				}
				failed = step
				return errors.New("injected")
			}
			_, err := w.attach(c, "c", network, "8080:80 9000-9003:9000-9003/udp")
			w.m.inject = nil
			if failed == "" {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			steps = append(steps, failed)
			if err == nil {
				t.Fatalf("%s: no error", failed)
			}
			if after := w.snapshot(c); !slices.Equal(before, after) {
				t.Fatalf("%s:\n%s\nwant\n%s", failed, strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
		}
		if len(steps) < 8 {
			t.Errorf("steps: %q", steps)
		}
		w.detach("c")
		if network == "blue" {
			if after := w.snapshot(c); !slices.Equal(before, after) {
				t.Errorf("after detach:\n%s\nwant\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
		}
	}
}

func TestMacvlan(t *testing.T) {
	w := newWorld(t)
	w.lan.echo(7)
	w.create(CreateOptions{Name: "mac", Driver: DriverMacvlan, Options: map[string]string{OptParent: "lan0"}, Subnets: []Subnet{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Gateway: netip.MustParseAddr(lanIP), Range: netip.MustParsePrefix("198.51.100.64/26")}}})
	c, e := w.container("c", "mac", "")
	if e.IP4.String() != "198.51.100.64/24" {
		t.Errorf("address %s", e.IP4)
	}
	c.wantAnswer("tcp", lanIP+":7", "198.51.100.64")
	w.detach("c")
	c.wantSilence("tcp", lanIP+":7")
	if r := w.reconcile(); len(r.Changes) > 0 {
		t.Errorf("%q", r.Changes)
	}
}

// TestIPvlan: where the kernel has none the error says so.
func TestIPvlan(t *testing.T) {
	w := newWorld(t)
	w.lan.echo(7)
	w.create(CreateOptions{Name: "ipv", Driver: DriverIPvlan, Options: map[string]string{OptParent: "lan0"}, Subnets: []Subnet{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Gateway: netip.MustParseAddr(lanIP), Range: netip.MustParsePrefix("198.51.100.64/26")}}})
	c := newNS(t)
	before := w.snapshot(c)
	_, err := w.attach(c, "c", "ipv", "")
	if err == nil {
		c.wantAnswer("tcp", lanIP+":7", "198.51.100.64")
		w.detach("c")
	} else if err.Error() != "network ipv: container c: driver ipvlan: this kernel has no such links: operation not supported" {
		t.Error(err)
	}
	if after := w.snapshot(c); !slices.Equal(before, after) {
		t.Errorf("left:\n%s\nwant\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}

// TestTwoRoots: on one host, each root has a table, a default bridge and a default subnet of its own.
func TestTwoRoots(t *testing.T) {
	w := newWorld(t)
	w.lan.echo(7)
	web, _ := w.container("web", "bridge", "8080:80")
	web.echo(80)
	first := w.m
	w.host.do(func() (err error) {
		dir := t.TempDir()
		w.m, err = Open(Options{Root: dir, RunRoot: dir})
		return err
	})
	second := w.m
	other, e := w.container("web", "bridge", "8090:80")
	other.echo(80)
	w.lan.wantAnswer("tcp", hostIP+":8080", lanIP)
	w.lan.wantAnswer("tcp", hostIP+":8090", lanIP)
	other.wantAnswer("tcp", lanIP+":7", hostIP)
	other.wantAnswer("tcp", hostIP+":8080", "") // to the one table, the other's bridge is outside
	web.wantSilence("tcp", e.IP4.Addr().String()+":80")
	for _, w.m = range []*Manager{first, second, first} {
		if r := w.reconcile(); len(r.Changes) > 0 {
			t.Errorf("%q", r.Changes)
		}
	}
	w.host.do(func() error { return second.DetachAll(context.Background(), "netcore-web") })
	if r := w.reconcile(); len(r.Changes) > 0 {
		t.Errorf("%q", r.Changes)
	}
	w.lan.wantAnswer("tcp", hostIP+":8080", lanIP)
}

// TestLostRecords: what dies with the machine was removed while the machine lives; then the definitions too.
func TestLostRecords(t *testing.T) {
	w := newWorld(t)
	w.create(CreateOptions{Name: "blue"})
	before := w.snapshot(nil)
	c, _ := w.container("web", "blue", "8080:80")
	reopen := func(dir string) {
		t.Helper()
		w.host.do(func() (err error) {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			w.m, err = Open(w.m.opt)
			return err
		})
		w.reconcile()
	}
	reopen(w.m.opt.RunRoot)
	if after := w.snapshot(c); !slices.Equal(slices.DeleteFunc(after, func(s string) bool { return strings.HasPrefix(s, "container ") }), before) {
		t.Errorf("run root lost:\n%s\nwant\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	reopen(w.m.opt.Root)
	for _, s := range w.snapshot(c) {
		if strings.HasPrefix(s, "link br-") || strings.HasPrefix(s, "table") {
			t.Errorf("definitions lost, left: %s", s)
		}
	}
}

// TestForgedSource: a container that sends with the LAN host's address reaches neither the flow of another network's container with that
// host nor one of the host itself.
func TestForgedSource(t *testing.T) {
	w := newWorld(t)
	w.lan.echo(7)
	w.create(CreateOptions{Name: "blue"})
	w.create(CreateOptions{Name: "red"})
	a, _ := w.container("a", "blue", "")
	b, _ := w.container("b", "red", "")
	forged := &net.UDPAddr{IP: net.ParseIP(lanIP), Port: 7}
	a.do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(l, &netlink.Addr{IPNet: ipnet(netip.MustParsePrefix(lanIP + "/32"))})
	})
	for _, victim := range []struct {
		*ns
		port int
	}{{b, 40001}, {w.host, 40002}} {
		var c *net.UDPConn
		read := func(wait time.Duration) (string, error) {
			buf := make([]byte, 100)
			c.SetReadDeadline(time.Now().Add(wait))
			n, err := c.Read(buf)
			return string(buf[:n]), err
		}
		victim.do(func() (err error) {
			if c, err = net.DialUDP("udp4", &net.UDPAddr{Port: victim.port}, forged); err == nil {
				_, err = c.Write([]byte("?"))
			}
			return err
		})
		defer c.Close()
		if got, err := read(5 * time.Second); err != nil || got != hostIP {
			t.Fatalf("port %d: %q, %v", victim.port, got, err)
		}
		a.do(func() error {
			u, err := net.ListenUDP("udp4", forged)
			if err != nil {
				return err
			}
			defer u.Close()
			_, err = u.WriteTo([]byte("forged"), &net.UDPAddr{IP: net.ParseIP(hostIP), Port: victim.port})
			return err
		})
		if got, err := read(300 * time.Millisecond); err == nil {
			t.Errorf("port %d takes %q", victim.port, got)
		}
	}
}

// TestLostRoot: what a root has left is removed by another's Reconcile when its folder is gone, and no container lives on it.
func TestLostRoot(t *testing.T) {
	w := newWorld(t)
	w.create(CreateOptions{Name: "blue"})
	before := w.snapshot(nil)
	first := w.m
	dir := filepath.Join(t.TempDir(), "other")
	w.host.do(func() (err error) {
		w.m, err = Open(Options{Root: dir, RunRoot: dir + "-run"})
		return err
	})
	w.create(CreateOptions{Name: "green"})
	c, _ := w.container("web", "bridge", "8080:80")
	w.m = first
	if r := w.reconcile(); len(r.Changes) > 0 {
		t.Errorf("the root is there: %q", r.Changes)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if r := w.reconcile(); len(r.Changes) > 0 {
		t.Errorf("its container lives: %q", r.Changes)
	}
	c.do(func() error { // as its end does
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	if r := w.reconcile(); len(r.Changes) != 3 {
		t.Errorf("%q", r.Changes)
	}
	if after := w.snapshot(nil); !slices.Equal(after, before) {
		t.Errorf("left:\n%s\nwant\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}
