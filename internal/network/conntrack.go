package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// forget deletes the connection tracking entries that match, of both families. A kernel that tracks none has none.
func forget(filter netlink.CustomConntrackFilter) {
	netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filter)
	netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET6, filter)
}

// flushUDP forgets the UDP flows to host ports that begin or cease to be published: their translation, or its absence,
// was decided by their first packet.
func flushUDP(ports []Port) {
	want := udpPorts{ports: map[uint16]bool{}}
	for _, p := range ports {
		if p.Proto == "udp" {
			want.ports[p.HostPort] = true
		}
	}
	if len(want.ports) > 0 {
		want.local = localAddrs()
		forget(want)
	}
}

// udpPorts are ports of the host: a flow to a port of this number elsewhere is somebody else's.
type udpPorts struct {
	ports map[uint16]bool
	local map[netip.Addr]bool
}

// MatchConntrackFlow is netlink.CustomConntrackFilter.
func (u udpPorts) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP || !u.ports[f.Forward.DstPort] {
		return false
	}
	dst, _ := netip.AddrFromSlice(f.Forward.DstIP)
	return u.local[dst.Unmap()] || !f.Forward.DstIP.Equal(f.Reverse.SrcIP) // or its address was the host's once
}

// localAddrs are the host's addresses.
func localAddrs() map[netip.Addr]bool {
	local := map[netip.Addr]bool{}
	addrs, _ := netlink.AddrList(nil, netlink.FAMILY_ALL)
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			local[ip.Unmap()] = true
		}
	}
	return local
}

// forgetAddr deletes the flows that an address has a side of. Who is given it next shall not be reached through what the last one had
// begun, published or not.
func forgetAddr(a netip.Addr) {
	for _, side := range []int{nl.CTA_TUPLE_ORIG, nl.CTA_TUPLE_REPLY} { // its source: who began, and who answered
		if err := deleteFrom(side, a); err != nil {
			forget(oneAddr{a.AsSlice()})
			return
		}
	}
}

// Of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaFilter      = 25 // CTA_FILTER
	ctaFilterIPSrc = 1  // CTA_FILTER_FLAG_CTA_IP_SRC
)

// deleteFrom has the kernel look for the flows (Linux 6.8; one that does not know the filter misses a port, and says so).
func deleteFrom(side int, a netip.Addr) error {
	family, src := unix.AF_INET, nl.CTA_IP_V4_SRC
	if a.Is6() {
		family, src = unix.AF_INET6, nl.CTA_IP_V6_SRC
	}
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(family), Version: nl.NFNETLINK_V0})
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|side, nil)
	tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil).AddRtAttr(src, a.AsSlice())
	req.AddData(tuple)
	filter := nl.NewRtAttr(unix.NLA_F_NESTED|ctaFilter, nil)
	filter.AddRtAttr(side, nl.Uint32Attr(ctaFilterIPSrc)) // CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS: numbered as the tuples
	req.AddData(filter)
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

type oneAddr struct{ ip net.IP }

// MatchConntrackFlow is netlink.CustomConntrackFilter.
func (o oneAddr) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	return o.ip.Equal(f.Forward.SrcIP) || o.ip.Equal(f.Reverse.SrcIP)
}

// strays are the flows that began while the rules were not there, if another table has connections tracked: not translated, and
// let through where chain forward would not have. Both was decided by their first packet and would last as long as they do.
type strays struct {
	subnets []strayRange
	ports   map[strayPort]bool
	local   map[netip.Addr]bool // the host's addresses
}

// strayRange is a network's subnet. sealed: what goes out of it without a translation was not let out by the rules.
type strayRange struct {
	first, last netip.Addr
	sealed      bool
}

// strayPort is a published port; a port of all addresses has none.
type strayPort struct {
	addr  netip.Addr
	proto byte
	port  uint16
}

// forgetStrays is for when rules were made again.
func forgetStrays(want []element) {
	s := newStrays(want)
	s.local = localAddrs()
	forget(s)
}

// newStrays reads the elements of the table.
func newStrays(want []element) *strays {
	s := &strays{ports: map[strayPort]bool{}, local: map[netip.Addr]bool{}}
	has := func(set, key string) bool {
		return slices.ContainsFunc(want, func(e element) bool { return e.set == set && e.key == key })
	}
	for _, e := range want {
		size := 4
		if e.set[len(e.set)-1] == '6' {
			size = 16
		}
		switch e.set {
		case "subnets4", "subnets6":
			first, _ := netip.AddrFromSlice([]byte(e.key[:size]))
			last, _ := netip.AddrFromSlice([]byte(e.keyEnd[:size]))
			sealed := has("internal", e.key[size:]) || has("masquerade"+e.set[len("subnets"):], e.key)
			s.subnets = append(s.subnets, strayRange{first, last, sealed})
		case "ports4", "ports6":
			s.ports[portOfKey(netip.Addr{}, e.key)] = true
		case "bound4", "bound6":
			addr, _ := netip.AddrFromSlice([]byte(e.key[:size]))
			s.ports[portOfKey(addr, e.key[size:])] = true
		}
	}
	return s
}

func portOfKey(addr netip.Addr, key string) strayPort {
	return strayPort{addr, key[0], binary.BigEndian.Uint16([]byte(key[4:6]))}
}

// subnet is nil for an address that is no container's.
func (s *strays) subnet(a netip.Addr) *strayRange {
	i := slices.IndexFunc(s.subnets, func(r strayRange) bool {
		return r.first.Is4() == a.Is4() && r.first.Compare(a) <= 0 && a.Compare(r.last) <= 0
	})
	if i < 0 {
		return nil
	}
	return &s.subnets[i]
}

// MatchConntrackFlow is netlink.CustomConntrackFilter.
func (s *strays) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if !f.Forward.SrcIP.Equal(f.Reverse.DstIP) || !f.Forward.DstIP.Equal(f.Reverse.SrcIP) {
		return false // translated
	}
	src, ok1 := netip.AddrFromSlice(f.Forward.SrcIP)
	dst, ok2 := netip.AddrFromSlice(f.Forward.DstIP)
	if !ok1 || !ok2 {
		return false
	}
	src, dst = src.Unmap(), dst.Unmap()
	at := strayPort{dst, f.Forward.Protocol, f.Forward.DstPort}
	if s.ports[at] || s.local[dst] && s.ports[strayPort{netip.Addr{}, at.proto, at.port}] {
		return true
	}
	from, to := s.subnet(src), s.subnet(dst)
	switch {
	case from == to: // of one network, or not ours
		return false
	case to != nil:
		return !s.local[src]
	default:
		return from.sealed && !s.local[dst]
	}
}
