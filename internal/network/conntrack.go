package network

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
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
	want := udpPorts{}
	for _, p := range ports {
		if p.Proto == "udp" {
			want[p.HostPort] = true
		}
	}
	if len(want) > 0 {
		forget(want)
	}
}

type udpPorts map[uint16]bool

// MatchConntrackFlow is netlink.CustomConntrackFilter.
func (u udpPorts) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	return f.Forward.Protocol == unix.IPPROTO_UDP && u[f.Forward.DstPort]
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
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return
	}
	s := newStrays(want)
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			s.local[ip.Unmap()] = true
		}
	}
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
