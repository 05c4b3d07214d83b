package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestStrays(t *testing.T) {
	prefix := netip.MustParsePrefix
	nets := []Network{
		{ID: "0123456789", Driver: DriverBridge, Link: "vitro0", Subnets: []Subnet{{Prefix: prefix("172.30.0.0/16")}, {Prefix: prefix("fd00:1::/64")}}},
		{ID: "1123456789", Driver: DriverBridge, Link: "br-inner", Internal: true, Subnets: []Subnet{{Prefix: prefix("172.31.0.0/16")}}},
		{ID: "2123456789", Driver: DriverBridge, Link: "br-open", Options: map[string]string{OptMasquerade: "false"}, Subnets: []Subnet{{Prefix: prefix("10.9.0.0/24")}}},
	}
	ports := endpointElements(&Endpoint{Driver: DriverBridge, IP4: prefix("172.30.0.2/16"), Ports: []Port{
		{Proto: "udp", HostPort: 53, Port: 53}, {Proto: "udp", HostIP: ip("192.0.2.1"), HostPort: 54, Port: 53},
	}})
	for i := range nets {
		ports = append(ports, networkElements(&nets[i])...)
	}
	s := newStrays(ports)
	for _, a := range []string{"192.0.2.1", "192.0.2.9", "172.30.0.1", "2001:db8::1"} {
		s.local[ip(a)] = true
	}
	for _, c := range []struct {
		src, dst string
		proto    byte
		port     uint16
		want     bool
	}{
		{"172.30.0.2", "203.0.113.1", unix.IPPROTO_TCP, 80, true},
		{"fd00:1::2", "2001:db8::99", unix.IPPROTO_UDP, 80, true},
		{"172.31.0.2", "203.0.113.1", unix.IPPROTO_TCP, 80, true},
		{"10.9.0.2", "203.0.113.1", unix.IPPROTO_TCP, 80, false},   // goes out with its own address
		{"10.9.0.2", "172.30.0.2", unix.IPPROTO_TCP, 80, true},     // another network
		{"203.0.113.1", "10.9.0.2", unix.IPPROTO_TCP, 80, true},    // from outside
		{"192.0.2.1", "172.30.0.2", unix.IPPROTO_TCP, 80, false},   // the host
		{"172.30.0.2", "192.0.2.1", unix.IPPROTO_TCP, 80, false},   // to the host
		{"172.30.0.2", "172.30.0.3", unix.IPPROTO_TCP, 80, false},  // one network
		{"192.0.2.1", "203.0.113.1", unix.IPPROTO_UDP, 80, false},  // not ours
		{"203.0.113.1", "192.0.2.9", unix.IPPROTO_UDP, 53, true},   // published on all addresses
		{"203.0.113.1", "192.0.2.9", unix.IPPROTO_TCP, 53, false},  // not this protocol
		{"192.0.2.1", "203.0.113.1", unix.IPPROTO_UDP, 53, false},  // somebody else's port
		{"203.0.113.1", "192.0.2.1", unix.IPPROTO_UDP, 54, true},   // published on one address
		{"203.0.113.1", "192.0.2.9", unix.IPPROTO_UDP, 54, false},  // not on this one
		{"172.30.0.2", "192.0.2.1", unix.IPPROTO_UDP, 53, true},    // hairpin
		{"fe80::1", "fe80::2", unix.IPPROTO_ICMPV6, 0, false},      // no network's
		{"172.30.0.2", "203.0.113.1", unix.IPPROTO_ICMP, 99, true}, // ping
	} {
		f := &netlink.ConntrackFlow{
			Forward: netlink.IPTuple{SrcIP: net.ParseIP(c.src), DstIP: net.ParseIP(c.dst), Protocol: c.proto, DstPort: c.port},
			Reverse: netlink.IPTuple{SrcIP: net.ParseIP(c.dst), DstIP: net.ParseIP(c.src)},
		}
		if got := s.MatchConntrackFlow(f); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
		f.Reverse.DstIP = net.ParseIP("192.0.2.77")
		if s.MatchConntrackFlow(f) {
			t.Errorf("%+v: translated, and matched", c)
		}
	}
}

// talk asks again and again from one socket.
type talk struct{ c net.Conn }

func (n *ns) talk(addr string) *talk {
	n.t.Helper()
	k := &talk{}
	n.do(func() (err error) {
		k.c, err = net.Dial("udp", addr)
		return err
	})
	n.t.Cleanup(func() { k.c.Close() })
	return k
}

// ask gives "" for no answer.
func (k *talk) ask() string {
	for range 3 {
		k.c.Write([]byte("?"))
		b := make([]byte, 100)
		k.c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, err := k.c.Read(b); err == nil {
			return string(b[:n])
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			time.Sleep(50 * time.Millisecond) // refused
		}
	}
	return ""
}

// TestStrayFlows has flows begin while another table has connections tracked, and ours is not there.
func TestStrayFlows(t *testing.T) {
	w := newWorld(t)
	w.lan.echo(7)
	w.create(CreateOptions{Name: "blue"})
	w.create(CreateOptions{Name: "red"})
	a, ae := w.container("a", "blue", "9000:80/udp")
	a.echo(80)
	b, _ := w.container("b", "red", "")
	w.host.do(func() error {
		if err := flushRuleset(); err != nil {
			return err
		}
		c, err := nftables.New()
		if err != nil {
			return err
		}
		t := c.AddTable(&nftables.Table{Name: "fw", Family: nftables.TableFamilyINet})
		for name, hook := range map[string]*nftables.ChainHook{"in": nftables.ChainHookInput, "fwd": nftables.ChainHookForward} {
			ch := c.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter})
			c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: append(ctState[:len(ctState):len(ctState)], accept...)})
		}
		return c.Flush()
	})
	in, out, across := w.lan.talk(hostIP+":9000"), a.talk(lanIP+":7"), b.talk(ae.IP4.Addr().String()+":80")
	for what, c := range map[string]struct {
		k    *talk
		want string
	}{"in": {in, ""}, "out": {out, ""}, "across": {across, "*"}} {
		if got := c.k.ask(); (got != "") != (c.want != "") {
			t.Errorf("without rules, %s: %q", what, got)
		}
	}
	w.reconcile()
	for what, c := range map[string]struct {
		k    *talk
		want string
	}{"in": {in, lanIP}, "out": {out, hostIP}, "across": {across, ""}} {
		if got := c.k.ask(); got != c.want {
			t.Errorf("after reconcile, %s: %q, want %q", what, got, c.want)
		}
	}
}

// TestForgetAddr: what a container has begun does not lead to the next one with its address, which has published nothing.
func TestForgetAddr(t *testing.T) {
	w := newWorld(t)
	w.create(CreateOptions{Name: "blue", IPv6: true})
	for _, c := range []struct {
		lan, ip string
		at      func(*Request)
	}{
		{lanIP, "172.31.0.9", func(r *Request) { r.IP4 = ip("172.31.0.9") }},
		{lanIP6, "", func(r *Request) {}},
	} {
		var lan net.PacketConn
		w.lan.do(func() (err error) {
			lan, err = net.ListenPacket("udp", net.JoinHostPort(c.lan, "7777"))
			return err
		})
		first, e := w.container("first", "blue", "", c.at)
		first.do(func() error {
			k, err := net.ListenPacket("udp", ":80")
			if err != nil {
				return err
			}
			defer k.Close()
			to, err := net.ResolveUDPAddr("udp", net.JoinHostPort(c.lan, "7777"))
			if err == nil {
				_, err = k.WriteTo([]byte("!"), to)
			}
			return err
		})
		b := make([]byte, 100)
		lan.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, back, err := lan.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		w.detach("first")
		next, _ := w.container("next", "blue", "", func(r *Request) { r.IP4, r.IP6 = e.IP4.Addr(), e.IP6.Addr() })
		next.echo(80)
		lan.WriteTo([]byte("?"), back)
		lan.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if n, _, err := lan.ReadFrom(b); err == nil {
			t.Errorf("%s reached the next container at %s: %q", c.lan, back, b[:n])
		}
		w.detach("next")
		lan.Close()
	}
}

// TestDeleteFrom wants the kernel's filter to take both sides of an address, and nobody else's flows.
func TestDeleteFrom(t *testing.T) {
	w := newWorld(t)
	w.lan.echo(7)
	w.create(CreateOptions{Name: "blue"})
	a, ae := w.container("a", "blue", "9000:80/udp")
	b, be := w.container("b", "blue", "9001:80/udp")
	flows := func() map[string]int {
		seen := map[string]int{}
		w.host.do(func() error {
			list, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
			for _, f := range list {
				seen[f.Forward.SrcIP.String()+" began"]++
				seen[f.Reverse.SrcIP.String()+" answered"]++
			}
			return err
		})
		return seen
	}
	for _, c := range []*ns{a, b} {
		c.echo(80)
		c.wantAnswer("udp", lanIP+":7", hostIP)
	}
	w.lan.wantAnswer("udp", hostIP+":9000", lanIP)
	w.lan.wantAnswer("udp", hostIP+":9001", lanIP)
	w.container("c", "blue", "7:80/udp") // a and b go on: what they ask is not the host's port 7
	gone, there := ae.IP4.Addr().String(), be.IP4.Addr().String()
	for i, side := range []string{" began", " answered"} {
		if n := flows()[gone+side]; n != 1 {
			t.Errorf("%s%s: %d flows", gone, side, n)
		}
		w.host.do(func() error { return deleteFrom(i+1, ae.IP4.Addr()) })
		if n := flows(); n[gone+side] != 0 || n[there+" began"] != 1 || n[there+" answered"] != 1 {
			t.Errorf("after %s%s was deleted: %v", gone, side, n)
		}
	}
}
