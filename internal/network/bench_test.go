package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// BenchmarkAttach is Attach and Detach of a bridged endpoint with one published port, beside the same transactions bare:
// the budget is 1.5 times these.
func BenchmarkAttach(b *testing.B) {
	for _, ports := range []int{0, 1000} {
		b.Run(fmt.Sprintf("vitro/ports=%d", ports), func(b *testing.B) { benchHost(b, ports, attachOnce) })
	}
	b.Run("bare", func(b *testing.B) { benchHost(b, 0, bareOnce) })
}

func benchHost(b *testing.B, ports int, once func(m *Manager, n *Network, c *ns) error) {
	h, c := newNS(b), newNS(b)
	dir := b.TempDir()
	h.do(func() error {
		m, err := Open(Options{Root: dir, RunRoot: dir + "/run", Table: "vitro"})
		if err != nil {
			return err
		}
		n, err := m.Create(context.Background(), CreateOptions{Name: "blue", Options: map[string]string{OptBridgeName: "br-blue"}})
		if err != nil {
			return err
		}
		if ports > 0 {
			p, _ := ParsePorts(fmt.Sprintf("10000-%d:10000-%d", 10000+ports-1, 10000+ports-1))
			if _, err := m.Attach(context.Background(), Request{Container: "many", Network: "blue", NetNS: c.path(), IfName: "many0", Ports: p, Reserved: true}); err != nil {
				return err
			}
		}
		for b.Loop() {
			if err := once(m, n, c); err != nil {
				return err
			}
		}
		return nil
	})
}

func attachOnce(m *Manager, n *Network, c *ns) error {
	r := Request{Container: "one", Network: n.ID, NetNS: c.path(), Reserved: true, Ports: []Port{{Proto: "tcp", HostPort: 8080, Port: 80}}}
	if _, err := m.Attach(context.Background(), r); err != nil {
		return err
	}
	return m.DetachAll(context.Background(), "one")
}

func bareOnce(m *Manager, n *Network, c *ns) error {
	fd := int(c.file.Fd())
	br, err := netlink.LinkByName(n.Link)
	if err != nil {
		return err
	}
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "vethbare", MasterIndex: br.Attrs().Index, Flags: net.FlagUp}, PeerName: "eth0", PeerNamespace: netlink.NsFd(fd)}
	if err := netlink.LinkAdd(v); err != nil {
		return err
	}
	if err := netlink.LinkSetHairpin(v, true); err != nil {
		return err
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(fd), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	eth0, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	e := &Endpoint{Driver: DriverBridge, Ports: []Port{{Proto: "tcp", HostPort: 8080, Port: 80}}}
	s := n.Subnets[0]
	e.IP4 = netip.PrefixFrom(s.Gateway.Next(), s.Prefix.Bits())
	for _, f := range []func() error{
		func() error { return h.LinkSetUp(eth0) },
		func() error { return h.AddrAdd(eth0, &netlink.Addr{IPNet: ipnet(e.IP4)}) },
		func() error {
			return h.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: n.Subnets[0].Gateway.AsSlice()})
		},
		func() error { return bareElements(m, (*nftables.Conn).SetAddElements, e) },
		func() error { return bareElements(m, (*nftables.Conn).SetDeleteElements, e) },
		func() error { return netlink.LinkDel(v) },
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func bareElements(m *Manager, op func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error, e *Endpoint) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	el := endpointElements(e)[0]
	for _, d := range sets() {
		if d.name == el.set {
			if err := op(c, d.set(m.table()), []nftables.SetElement{el.nft()}); err != nil {
				return err
			}
		}
	}
	return c.Flush()
}
