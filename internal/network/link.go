package network

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var macvlanModes = map[string]netlink.MacvlanMode{
	"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE, "private": netlink.MACVLAN_MODE_PRIVATE,
	"vepa": netlink.MACVLAN_MODE_VEPA, "passthru": netlink.MACVLAN_MODE_PASSTHRU,
}

var ipvlanModes = map[string]netlink.IPVlanMode{
	"": netlink.IPVLAN_MODE_L2, "l2": netlink.IPVLAN_MODE_L2, "l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S,
}

// alias marks a bridge as ours, for `ip link` too; vethPrefix does so for the host's ends of veths.
func (m *Manager) alias(n *Network) string { return m.opt.Table + ":" + n.ID }
func (m *Manager) vethPrefix() string      { return ("veth" + hash(m.opt.Table))[:vethPrefixLen] }

// vethPrefixLen is the length of what all names of one table's veths begin with, in bytes.
const vethPrefixLen = len("veth") + 4

func linkByName(name string) (netlink.Link, error) {
	l, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", name, err)
	}
	return l, nil
}

// bridge finds the network's bridge; nil if it is not there.
func (m *Manager) bridge(n *Network) (netlink.Link, error) {
	l, err := linkByName(n.Link)
	if l == nil {
		return nil, err
	}
	if l.Type() != "bridge" || l.Attrs().Alias != m.alias(n) {
		return nil, fmt.Errorf("link %s is there and not made for network %s of %s", n.Link, n.Name, m.opt.Root)
	}
	return l, nil
}

// ensure makes bridge and rules of a network if they are not there, and gives the bridge. looked: somebody else finds
// out whether the table is there. The price when all is there: one or two round trips.
func (m *Manager) ensure(t *txn, n *Network, looked bool) (netlink.Link, error) {
	br, err := m.bridge(n)
	if err != nil {
		return nil, err
	}
	if br != nil && br.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(br); err != nil {
			return nil, fmt.Errorf("link %s up: %w", n.Link, err)
		}
	}
	if br != nil && looked {
		return br, nil
	}
	had, err := m.hasTable()
	if err != nil || had && br != nil {
		return br, err
	}
	if br == nil {
		err := t.do("bridge", func() error { return m.addBridge(n) }, func() { m.removeBridge(n) })
		if err != nil {
			return nil, err
		}
		if br, err = m.bridge(n); err != nil {
			return nil, err
		}
	}
	undo := func() { m.removeRules(networkElements(n)) }
	if !had {
		undo = func() { m.deleteTable() }
	}
	return br, t.do("table", func() error {
		_, err := m.setRules()
		return err
	}, undo)
}

// addBridge makes the bridge with its gateway addresses. Its MAC is given: else it is the lowest of its ports' and
// changes as they come and go, and containers have the old one in their neighbour tables.
func (m *Manager) addBridge(n *Network) (err error) {
	mtu := n.mtu()
	if mtu == 0 {
		mtu = uplinkMTU()
	}
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: n.Link, MTU: mtu, HardwareAddr: n.mac(), TxQLen: -1}}
	if err := netlink.LinkAdd(br); err != nil {
		return fmt.Errorf("link %s: %w", n.Link, err)
	}
	defer func() {
		if err != nil {
			deleteLink(n.Link)
		}
	}()
	if err := netlink.LinkSetAlias(br, m.alias(n)); err != nil {
		return fmt.Errorf("link %s: alias: %w", n.Link, err)
	}
	// The kernel asks for a forwarded packet's neighbour with the link-local address, so without DAD from the start. A
	// container shall not be the host's router by an advertisement (CVE-2020-13401).
	for _, key := range []string{"accept_dad", "accept_ra"} {
		if err := setSysctl("/proc/sys/net/ipv6/conf/"+n.Link+"/"+key, "0"); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(br); err != nil {
		return fmt.Errorf("link %s up: %w", n.Link, err)
	}
	_, err = m.configureBridge(n, br)
	return err
}

// mac is the bridge's address.
func (n *Network) mac() net.HardwareAddr {
	mac, _ := net.ParseMAC("02:42:" + n.ID[0:2] + ":" + n.ID[2:4] + ":" + n.ID[4:6] + ":" + n.ID[6:8])
	return mac
}

// bridgedFiltered tells whether frames within a bridge can be made to pass chain forward (br_netfilter is there).
func bridgedFiltered() bool {
	_, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables")
	return err == nil
}

// filterBridged makes the frames within one bridge pass the IP chains, whatever the host's sysctl says.
func filterBridged(br netlink.Link) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(br.Attrs().Index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_BR_NF_CALL_IPTABLES, []byte{1})
	data.AddRtAttr(nl.IFLA_BR_NF_CALL_IP6TABLES, []byte{1})
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// configureBridge adds what is missing of addresses and sysctls, and takes back another MAC: chain guard knows the bridge's.
func (m *Manager) configureBridge(n *Network, br netlink.Link) (changed bool, err error) {
	if mac := n.mac(); !bytes.Equal(br.Attrs().HardwareAddr, mac) {
		if err := netlink.LinkSetHardwareAddr(br, mac); err != nil {
			return false, fmt.Errorf("link %s: address %s: %w", n.Link, mac, err)
		}
		changed = true
	}
	if !n.flag(OptICC) && bridgedFiltered() {
		if err := filterBridged(br); err != nil {
			return changed, fmt.Errorf("link %s: nf_call_iptables: %w", n.Link, err)
		}
	}
	for _, s := range n.Subnets {
		a := &netlink.Addr{IPNet: ipnet(netip.PrefixFrom(s.Gateway, s.Prefix.Bits()))}
		if s.Gateway.Is6() {
			a.Flags = unix.IFA_F_NODAD // without a port that is up it would stay tentative
		}
		err := netlink.AddrAdd(br, a)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return changed, fmt.Errorf("link %s: address %s: %w", n.Link, s.Gateway, err)
		}
		changed = changed || err == nil
		if n.Internal {
			continue
		}
		if err := setForwarding(s.Gateway.Is6()); err != nil {
			return changed, err
		}
	}
	// So that a packet from 127.0.0.1 to a published port may leave through the bridge; chain guard closes the other way.
	return changed, setSysctl("/proc/sys/net/ipv4/conf/"+n.Link+"/route_localnet", "1")
}

// setForwarding turns routing on for a family. It is not turned off again: others may rely on it by then.
func setForwarding(v6 bool) error {
	if v6 {
		return setSysctl("/proc/sys/net/ipv6/conf/all/forwarding", "1")
	}
	return setSysctl("/proc/sys/net/ipv4/ip_forward", "1")
}

// setSysctl writes only if the value is another: /proc/sys may be read-only and right already.
func setSysctl(path, value string) error {
	b, err := os.ReadFile(path)
	if err == nil && len(b) > 0 && string(b[:len(b)-1]) == value {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the family is not there
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("sysctl: %w", err)
	}
	return nil
}

// removeBridge deletes the link if it is the network's.
func (m *Manager) removeBridge(n *Network) error {
	l, err := linkByName(n.Link)
	if err != nil || l == nil || l.Attrs().Alias != m.alias(n) {
		return err
	}
	return deleteLink(n.Link)
}

// uplinkMTU is that of the link of the default route, in bytes.
func uplinkMTU() int {
	routes, _ := netlink.RouteList(nil, netlink.FAMILY_V4)
	for _, r := range routes {
		if p, ok := prefixOf(r.Dst); r.Dst == nil || ok && p.Bits() == 0 {
			if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
				return l.Attrs().MTU
			}
		}
	}
	return 1500
}

// deleteLink deletes by name. A link that is gone is no error.
func deleteLink(name string) error {
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("link %s: delete: %w", name, err)
	}
	return nil
}

// addVeth makes the pair as it shall be in one message: the host's end up and in the bridge, the container's end in its
// namespace with name and MAC. The host's end has the bridge's MAC: a bridge takes what is for one of its ports as its own, and chain
// guard knows one MAC of each.
func addVeth(n *Network, e *Endpoint, bridge, nsfd int) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Flags, msg.Change = unix.IFF_UP, unix.IFF_UP
	req.AddData(msg)
	mtu := nl.Uint32Attr(uint32(e.MTU))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(e.HostLink)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, mtu))
	req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, n.mac()))
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(bridge))))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC) // not up: veth_open wants its peer, which comes after it
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(e.IfName))
	peer.AddRtAttr(unix.IFLA_MTU, mtu)
	mac, err := net.ParseMAC(e.MAC)
	if err != nil {
		return err
	}
	peer.AddRtAttr(unix.IFLA_ADDRESS, mac)
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(nsfd)))
	req.AddData(info)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("veth %s to %s: %w", e.HostLink, e.IfName, err)
	}
	return nil
}

// setPort notes the pair's indexes and sets the bridge port: hairpin, for a container that connects to its own published
// port while br_netfilter translates in the bridge; isolated, for a network without inter-container traffic if chain
// forward does not see it.
func setPort(n *Network, e *Endpoint) error {
	l, err := netlink.LinkByName(e.HostLink)
	if err != nil {
		return fmt.Errorf("link %s: %w", e.HostLink, err)
	}
	e.HostIndex, e.Index = l.Attrs().Index, l.Attrs().ParentIndex
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(e.HostIndex)
	req.AddData(msg)
	port := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	port.AddRtAttr(nl.IFLA_BRPORT_MODE, []byte{1})
	if !n.flag(OptICC) && !bridgedFiltered() {
		port.AddRtAttr(nl.IFLA_BRPORT_ISOLATED, []byte{1})
	}
	req.AddData(port)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("link %s: bridge port: %w", e.HostLink, err)
	}
	return nil
}

// addVlan makes a macvlan or ipvlan link in the container's namespace.
func addVlan(n *Network, e *Endpoint, nsfd int) error {
	parent, err := netlink.LinkByName(n.Link)
	if err != nil {
		return fmt.Errorf("--opt parent=%s: %w", n.Link, err)
	}
	attrs := netlink.LinkAttrs{Name: e.IfName, ParentIndex: parent.Attrs().Index, Namespace: netlink.NsFd(nsfd), MTU: n.mtu(), TxQLen: -1}
	e.MTU = parent.Attrs().MTU
	if n.mtu() != 0 {
		e.MTU = n.mtu()
	}
	var l netlink.Link
	if n.Driver == DriverMacvlan {
		if attrs.HardwareAddr, err = net.ParseMAC(e.MAC); err != nil {
			return err
		}
		l = &netlink.Macvlan{LinkAttrs: attrs, Mode: macvlanModes[n.Options[OptMacvlanMode]]}
	} else {
		l = &netlink.IPVlan{LinkAttrs: attrs, Mode: ipvlanModes[n.Options[OptIPvlanMode]]}
	}
	if err := netlink.LinkAdd(l); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("driver %s: this kernel has no such links: %w", n.Driver, err)
		}
		return fmt.Errorf("%s %s on %s: %w", n.Driver, e.IfName, n.Link, err)
	}
	return nil
}

// inside is a netlink socket in the container's namespace.
func inside(nsfd int, f func(*netlink.Handle) error) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(nsfd), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer h.Close()
	return f(h)
}

// noRouters keeps an interface from taking a route or an address out of a neighbour's router advertisement (CVE-2020-13401). /proc/sys/net is
// that of the opener's namespace, so a thread goes there; if it cannot come back, it ends.
func noRouters(nsfd int, ifName string) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(nsfd, unix.CLONE_NEWNET)
		}
		if err == nil {
			err = setSysctl("/proc/sys/net/ipv6/conf/"+ifName+"/accept_ra", "0")
		}
		if own >= 0 {
			if unix.Setns(own, unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
			unix.Close(own)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("%s in the container: accept_ra: %w", ifName, err)
	}
	return nil
}

// configure adds what is missing inside: lo up, the interface up, addresses, default routes. A default route that is
// there stays: the first network of a container has it.
func configure(h *netlink.Handle, e *Endpoint) (changed bool, err error) {
	const lo = 1 // LOOPBACK_IFINDEX
	if err := h.LinkSetUp(byIndex(lo)); err != nil {
		return false, fmt.Errorf("lo up: %w", err)
	}
	link := byIndex(e.Index)
	if e.Index == 0 || e.HostLink == "" {
		l, err := h.LinkByName(e.IfName)
		if err != nil {
			return false, fmt.Errorf("%s in the container: %w", e.IfName, err)
		}
		e.Index, e.MAC, link = l.Attrs().Index, l.Attrs().HardwareAddr.String(), l
	}
	if !e.IP6.IsValid() {
		quiet(h, link)
	}
	if err := h.LinkSetUp(link); err != nil {
		return false, fmt.Errorf("%s up: %w", e.IfName, err)
	}
	did := func(what string, err error) error {
		if err == nil {
			changed = true
		} else if !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%s in the container: %s: %w", e.IfName, what, err)
		}
		return nil
	}
	for _, p := range []netip.Prefix{e.IP4, e.IP6} {
		if !p.IsValid() {
			continue
		}
		a := &netlink.Addr{IPNet: ipnet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // the address is ours alone: IPAM says so
		}
		if err := did("address "+p.String(), h.AddrAdd(link, a)); err != nil {
			return changed, err
		}
	}
	for _, gw := range []netip.Addr{e.Gateway4, e.Gateway6} {
		if !gw.IsValid() {
			continue
		}
		r := &netlink.Route{LinkIndex: e.Index, Gw: gw.AsSlice()}
		if err := did("default route via "+gw.String(), h.RouteAdd(r)); err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// settle lets the kernel handle the carrier of links that just came up, which it does at its leisure else: until then a
// bridge port does not forward, and a first packet is lost (ETHTOOL_GLINK calls linkwatch_sync_dev).
func settle(links ...string) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	for _, l := range links {
		value := struct{ cmd, data uint32 }{cmd: unix.ETHTOOL_GLINK}
		req := struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}{data: unsafe.Pointer(&value)}
		copy(req.name[:unix.IFNAMSIZ-1], l)
		unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	}
}

func byIndex(i int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: i, Name: "index " + strconv.Itoa(i)}}
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if bits == 32 {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, ones), ok
}

// quiet keeps an interface without IPv6 from a link-local address. Its solicitations and reports would be sent to each
// port of the bridge: with 300 containers, some 2,000 frames for each that starts. A kernel without IPv6 says EAFNOSUPPORT.
func quiet(h *netlink.Handle, link netlink.Link) {
	const none = 1 // IN6_ADDR_GEN_MODE_NONE
	h.LinkSetIP6AddrGenMode(link, none)
}
