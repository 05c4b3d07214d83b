package network

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestForgedErrors: packets of an internal network with the LAN host's address as their source, which the host cannot forward: what it
// tells their source of them, with their content, would be a way out.
func TestForgedErrors(t *testing.T) {
	w := newWorld(t)
	w.create(CreateOptions{Name: "blue", IPv6: true}) // so that the host forwards
	n := w.create(CreateOptions{Name: "inner", Internal: true, IPv6: true})
	c, e := w.container("c", "inner", "")
	var port netlink.Link
	w.host.do(func() (err error) {
		if port, err = netlink.LinkByName(e.HostLink); err == nil {
			err = os.WriteFile("/proc/sys/net/ipv4/ipfrag_time", []byte("1"), 0)
		}
		return err
	})
	addr := netip.MustParseAddr
	gw := n.Subnets[0].Gateway
	own, own6 := e.IP4.Addr(), e.IP6.Addr()
	for _, p := range []struct {
		what         string
		src, dst     netip.Addr
		ttl          byte
		more, passes bool // more fragments are said to follow; passes: the source is told
	}{
		{"the container's own", own, addr("203.0.113.9"), 1, false, true},
		{"TTL", addr(lanIP), addr("203.0.113.9"), 1, false, false},
		{"TTL, to its own network", addr(lanIP), own.Next(), 1, false, false},
		{"a fragment alone", addr(lanIP), gw, 64, true, false},
		{"the container's own, IPv6", own6, addr("2001:db8:9::9"), 1, false, true},
		{"hop limit", addr(lanIP6), addr("2001:db8:9::9"), 1, false, false},
		{"an unknown hop-by-hop option", addr(lanIP6), own6.Next(), 0, false, false},
		{"the same from its own address", own6, own6.Next(), 0, false, false},
	} {
		at := w.lan
		if p.passes || p.src == own6 {
			at = c
		}
		network, kinds := "ip4:icmp", []byte{11}
		if p.src.Is6() {
			network, kinds = "ip6:ipv6-icmp", []byte{3, 4}
		}
		heard := at.errors(network, kinds...)
		for _, to := range []net.HardwareAddr{n.mac(), port.Attrs().HardwareAddr} { // the bridge takes what is for one of its ports as its own
			c.do(func() error { return sendFrame(to, packet(p.src, p.dst, p.ttl, p.more)) })
		}
		wait := 500 * time.Millisecond
		if p.more || p.src.Is6() { // the time of fragments, and of a neighbour's discovery
			wait = 2500 * time.Millisecond
		}
		select {
		case from := <-heard:
			if !p.passes {
				t.Errorf("%s: an ICMP error of %s leads out", p.what, from)
			}
		case <-time.After(wait):
			if p.passes {
				t.Errorf("%s: no ICMP error", p.what)
			}
		}
	}
}

// TestForgedRelated: an ICMP error, sent from the own address of a container, which names a flow of another one: conntrack takes it for
// related to that flow. To the LAN the flow's own container may report it; else it would be a way out of an internal network, and into another.
func TestForgedRelated(t *testing.T) {
	w := newWorld(t)
	w.lan.echo(7)
	blue, green := w.create(CreateOptions{Name: "blue"}), w.create(CreateOptions{Name: "green"})
	n := w.create(CreateOptions{Name: "inner", Internal: true})
	c, e := w.container("c", "inner", "")
	d, other := w.container("d", "green", "")
	flow, owner := w.container("flow", "blue", "")
	flow.do(func() error {
		u, err := net.DialUDP("udp4", &net.UDPAddr{Port: 4000}, &net.UDPAddr{IP: net.ParseIP(lanIP), Port: 7})
		if err == nil {
			defer u.Close()
			_, err = u.Write([]byte("?"))
		}
		if err == nil {
			_, err = u.Read(make([]byte, 100))
		}
		return err
	})
	lan, masqueraded := netip.MustParseAddr(lanIP), netip.MustParseAddr(hostIP)
	question, answer := packet(masqueraded, lan, 60, false), packet(lan, owner.IP4.Addr(), 60, false)
	for i, port := range []uint16{4000, 7} {
		binary.BigEndian.PutUint16(question[20+2*i:], port)
		binary.BigEndian.PutUint16(answer[22-2*i:], port)
	}
	for _, f := range []struct {
		what     string
		from, at *ns
		mac      net.HardwareAddr
		src, dst netip.Addr
		of       []byte
		hear     bool
	}{
		{"out of an internal network", c, w.lan, n.mac(), e.IP4.Addr(), lan, answer, false},
		{"into another network", c, flow, n.mac(), e.IP4.Addr(), masqueraded, question, false},
		{"into another network", d, flow, green.mac(), other.IP4.Addr(), masqueraded, question, false},
		{"of its own flow", flow, w.lan, blue.mac(), owner.IP4.Addr(), lan, answer, true},
	} {
		heard := f.at.errors("ip4:icmp", 3)
		f.from.do(func() error { return sendFrame(f.mac, unreachable(f.src, f.dst, f.of)) })
		select {
		case who := <-heard:
			if !f.hear {
				t.Errorf("%s: an ICMP error of %s arrives as one of %s", f.what, f.src, who)
			}
		case <-time.After(500 * time.Millisecond):
			if f.hear {
				t.Errorf("%s: no ICMP error", f.what)
			}
		}
	}
}

// TestBridgeMAC: a bridge and its port that were given another MAC have the bridge's again.
func TestBridgeMAC(t *testing.T) {
	w := newWorld(t)
	n := w.create(CreateOptions{Name: "blue"})
	_, e := w.container("a", "blue", "")
	for _, name := range []string{n.Link, e.HostLink} {
		w.host.do(func() error {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			return netlink.LinkSetHardwareAddr(l, net.HardwareAddr{2, 1, 2, 3, 4, 5})
		})
		if r := w.reconcile(); len(r.Changes) != 1 {
			t.Errorf("%s: %q, want one change", name, r.Changes)
		}
		w.host.do(func() error {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if got := l.Attrs().HardwareAddr.String(); got != n.mac().String() {
				t.Errorf("%s: %s, want %s", name, got, n.mac())
			}
			return nil
		})
	}
}

// errors hears of the first ICMP error of one of the kinds, and who sent it.
func (n *ns) errors(network string, kinds ...byte) <-chan string {
	n.t.Helper()
	var l net.PacketConn
	n.do(func() (err error) { l, err = net.ListenPacket(network, ""); return err })
	n.t.Cleanup(func() { l.Close() })
	heard := make(chan string, 1)
	go func() {
		b := make([]byte, 2000)
		for {
			k, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			if k > 0 && bytes.IndexByte(kinds, b[0]) >= 0 {
				heard <- from.String()
				return
			}
		}
	}()
	return heard
}

// packet is a UDP datagram without a checksum; that of IPv6 with a TTL of 0 has a hop-by-hop option that its source is to be told of.
func packet(src, dst netip.Addr, ttl byte, more bool) []byte {
	udp := append(binary.BigEndian.AppendUint16(nil, 4000), 0x1b, 0x58, 0, 16, 0, 0)
	udp = append(udp, "secret!!"...)
	if src.Is6() {
		b := []byte{0x60, 0, 0, 0, 0, byte(len(udp)), unix.IPPROTO_UDP, ttl}
		if ttl == 0 { // RFC 8200 4.2: an option of type 0x9e, 4 bytes long
			udp = append([]byte{unix.IPPROTO_UDP, 0, 0x9e, 4, 0, 0, 0, 0}, udp...)
			b[5], b[6], b[7] = byte(len(udp)), unix.IPPROTO_HOPOPTS, 64
		}
		return append(append(append(b, src.AsSlice()...), dst.AsSlice()...), udp...)
	}
	b := []byte{0x45, 0, 0, byte(20 + len(udp)), 0, 7, 0, 0, ttl, unix.IPPROTO_UDP, 0, 0}
	if more {
		b[6] = 0x20
	}
	return append(checksum(append(append(b, src.AsSlice()...), dst.AsSlice()...), 10), udp...)
}

// unreachable is an ICMP error of a packet.
func unreachable(src, dst netip.Addr, of []byte) []byte {
	b := checksum(append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, of...), 2)
	ip := []byte{0x45, 0, 0, byte(20 + len(b)), 0, 8, 0, 0, 64, unix.IPPROTO_ICMP, 0, 0}
	return append(checksum(append(append(ip, src.AsSlice()...), dst.AsSlice()...), 10), b...)
}

// checksum puts the Internet checksum of an even number of bytes at an offset (RFC 1071).
func checksum(b []byte, at int) []byte {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[at:], ^uint16(sum+sum>>16))
	return b
}

// sendFrame sends by eth0, without a route or a neighbour.
func sendFrame(to net.HardwareAddr, ip []byte) error {
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	kind := uint16(unix.ETH_P_IP)
	if ip[0]>>4 == 6 {
		kind = unix.ETH_P_IPV6
	}
	sa := &unix.SockaddrLinklayer{Protocol: kind<<8 | kind>>8, Ifindex: l.Attrs().Index, Halen: 6}
	copy(sa.Addr[:], to)
	return unix.Sendto(fd, ip, 0, sa)
}
