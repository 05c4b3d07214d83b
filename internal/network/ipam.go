package network

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
)

// pools are where subnets are chosen from, in order: the block and the length of a subnet. 172.17.0.0/16 to 172.19.0.0/16
// are left to docker, which takes them first.
var pools = []struct {
	block netip.Prefix
	bits  int
}{
	{netip.MustParsePrefix("172.30.0.0/15"), 16},
	{netip.MustParsePrefix("172.20.0.0/14"), 16},
	{netip.MustParsePrefix("172.24.0.0/14"), 16},
	{netip.MustParsePrefix("172.28.0.0/15"), 16},
	{netip.MustParsePrefix("10.200.0.0/13"), 20},
	{netip.MustParsePrefix("192.168.0.0/16"), 20},
	{netip.MustParsePrefix("10.128.0.0/10"), 20},
}

// taken is a range that somebody uses, and who.
type taken struct {
	prefix netip.Prefix
	by     string
}

// takenRanges are the other networks' subnets, the host's addresses and its routes.
func takenRanges(nets []*Network) ([]taken, error) {
	var out []taken
	for _, n := range nets {
		for _, s := range n.Subnets {
			out = append(out, taken{s.Prefix, "network " + n.Name})
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("routes of the host: %w", err)
	}
	for _, r := range routes {
		if p, ok := prefixOf(r.Dst); ok && p.Bits() > 0 && !everywhere(p.Addr()) && !p.Addr().IsMulticast() {
			out = append(out, taken{p, "route " + p.String() + linkName(r.LinkIndex)})
		}
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("addresses of the host: %w", err)
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && !everywhere(p.Addr()) {
			out = append(out, taken{p.Masked(), "address " + p.String() + linkName(a.LinkIndex)})
		}
	}
	return out, nil
}

// everywhere is fe80::/10, which each link has. 169.254.0.0/16 is one link's, and a cloud's metadata server is in it.
func everywhere(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

func linkName(index int) string {
	if l, err := netlink.LinkByIndex(index); err == nil {
		return " of " + l.Attrs().Name
	}
	return ""
}

func overlap(p netip.Prefix, all []taken) (taken, bool) {
	i := slices.IndexFunc(all, func(t taken) bool { return t.prefix.Overlaps(p) })
	if i < 0 {
		return taken{}, false
	}
	return all[i], true
}

// chooseSubnets checks what was given and chooses what was not.
func (m *Manager) chooseSubnets(n *Network, given []Subnet, nets []*Network) ([]Subnet, error) {
	switch n.Driver {
	case DriverHost, DriverNone:
		if len(given) > 0 {
			return nil, fmt.Errorf("--subnet: driver %s has none", n.Driver)
		}
		return nil, nil
	}
	busy, err := takenRanges(nets)
	if err != nil {
		return nil, err
	}
	if n.Driver != DriverBridge { // the parent's own LAN is what these are for
		busy = slices.DeleteFunc(busy, func(t taken) bool { return len(t.by) < 8 || t.by[:8] != "network " })
	}
	var out []Subnet
	have := map[string]bool{}
	for _, s := range given {
		s, err := checkSubnet(s)
		if err != nil {
			return nil, err
		}
		f := family(s.Prefix.Addr())
		if have[f] {
			return nil, fmt.Errorf("--subnet %s: there is one of IPv%s already", s.Prefix, f)
		}
		if t, yes := overlap(s.Prefix, busy); yes {
			return nil, fmt.Errorf("--subnet %s: Pool overlaps with other one on this address space: %s", s.Prefix, t.by)
		}
		have[f] = true
		out = append(out, s)
	}
	if !have["4"] && !have["6"] {
		p, err := choosePool(busy)
		if err != nil {
			return nil, err
		}
		out = append(out, Subnet{Prefix: p, Gateway: p.Addr().Next()})
	}
	if have["6"] && !n.IPv6 {
		n.IPv6 = true
	}
	if n.IPv6 && !have["6"] {
		p := ula()
		out = append(out, Subnet{Prefix: p, Gateway: p.Addr().Next()})
	}
	if mtu := n.mtu(); n.IPv6 && mtu != 0 && mtu < minMTU6 {
		return nil, fmt.Errorf("--opt %s=%d: IPv6 needs %d bytes", OptMTU, mtu, minMTU6)
	}
	return out, nil
}

// minMTU6 is of RFC 8200 section 5, in bytes. The kernel takes IPv6 off a link that has less.
const minMTU6 = 1280

func choosePool(busy []taken) (netip.Prefix, error) {
	for _, pool := range pools {
		for p := netip.PrefixFrom(pool.block.Addr(), pool.bits); pool.block.Contains(p.Addr()); p = netip.PrefixFrom(lastAddr(p).Next(), pool.bits) {
			if _, yes := overlap(p, busy); !yes {
				return p, nil
			}
		}
	}
	return netip.Prefix{}, errors.New("all predefined address pools have been fully subnetted: give --subnet")
}

// ula is a new /64 of RFC 4193: fd, 40 random bits, subnet 0.
func ula() netip.Prefix {
	var a [16]byte
	a[0] = 0xfd
	rand.Read(a[1:6])
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

func checkSubnet(s Subnet) (Subnet, error) {
	p := s.Prefix
	if !p.IsValid() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
		return s, errors.New("--subnet: ADDRESS/BITS is needed")
	}
	if p != p.Masked() {
		return s, fmt.Errorf("--subnet %s: it has host bits set (%s?)", p, p.Masked())
	}
	a := p.Addr()
	if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || !lastAddr(p).Next().IsValid() {
		return s, fmt.Errorf("--subnet %s: not a range of unicast addresses", p)
	}
	if a.Is6() && a.IsLinkLocalUnicast() {
		return s, fmt.Errorf("--subnet %s: link-local addresses of IPv6 are not routed", p)
	}
	if p.Bits() > a.BitLen()-2 {
		return s, fmt.Errorf("--subnet %s: too small for a gateway and a container", p)
	}
	if s.Range.IsValid() && (!p.Contains(s.Range.Addr()) || s.Range.Bits() < p.Bits()) {
		return s, fmt.Errorf("--ip-range %s: not in subnet %s", s.Range, p)
	}
	s.Range = s.Range.Masked()
	if !s.Gateway.IsValid() {
		s.Gateway = cmp.Or(s.Range, p).Addr().Next()
		if s.Range.IsValid() && s.Range.Addr() != p.Addr() {
			s.Gateway = s.Range.Addr()
		}
	}
	if !p.Contains(s.Gateway) || s.Gateway == p.Addr() || s.Gateway.Is4() && s.Gateway == lastAddr(p) {
		return s, fmt.Errorf("--gateway %s: not a host of subnet %s", s.Gateway, p)
	}
	for name, a := range s.Aux {
		if !p.Contains(a) {
			return s, fmt.Errorf("--aux-address %s=%s: not in subnet %s", name, a, p)
		}
		if a == s.Gateway {
			return s, fmt.Errorf("--aux-address %s=%s: it is the gateway", name, a)
		}
	}
	return s, nil
}

// lastAddr is the last address of a prefix, an IPv4 subnet's broadcast address.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// reserved tells why no container gets an address; "" if it may.
func (s Subnet) reserved(a netip.Addr) string {
	switch {
	case a == s.Gateway:
		return "it is the gateway"
	case a == s.Prefix.Addr():
		return "it is the network's own address"
	case a.Is4() && a == lastAddr(s.Prefix):
		return "it is the broadcast address"
	}
	for name, aux := range s.Aux {
		if aux == a {
			return "it is reserved as " + name
		}
	}
	return ""
}

// A lease is a symbolic link, <run root>/network/leases/<network>/<address> to the endpoint's record: made and found
// without a look at the others, so the price of one does not grow with their number.
func (m *Manager) leasePath(e *Endpoint, name string) string {
	return m.run("leases", e.Network[:12], name)
}

func (m *Manager) leaseTarget(e *Endpoint) string {
	return filepath.Join("../../endpoints", e.Container, e.Network+".json")
}

// takeLease fails with fs.ErrExist if the address has an owner. A lease whose record is gone is what a kill left.
func (m *Manager) takeLease(e *Endpoint, a netip.Addr) error {
	path := m.leasePath(e, a.String())
	err := os.Symlink(m.leaseTarget(e), path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = os.Symlink(m.leaseTarget(e), path)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		if _, gone := os.Stat(path); errors.Is(gone, fs.ErrNotExist) {
			os.Remove(path)
			return os.Symlink(m.leaseTarget(e), path)
		}
	}
	return err
}

func (m *Manager) dropLease(e *Endpoint, p netip.Prefix) {
	if p.IsValid() {
		os.Remove(m.leasePath(e, p.Addr().String()))
	}
}

// lease gives the endpoint an address of the subnet: the one that is asked for, or the lowest free one after the last
// that was given, so that an address is not used again soon (ARP caches, connections that are not closed).
func (m *Manager) lease(e *Endpoint, s Subnet, want netip.Addr) (netip.Prefix, error) {
	if want.IsValid() {
		return m.leaseStatic(e, s, want)
	}
	r := cmp.Or(s.Range, s.Prefix)
	lastPath := m.leasePath(e, "last"+family(r.Addr()))
	text, _ := os.Readlink(lastPath)
	start, err := netip.ParseAddr(text)
	if err != nil || !r.Contains(start) {
		start = lastAddr(r) // so that the first is next
	}
	for a := start; ; {
		if a = a.Next(); !a.IsValid() || !r.Contains(a) {
			a = r.Addr()
		}
		if s.reserved(a) == "" {
			err := m.takeLease(e, a)
			if err == nil {
				setLink(lastPath, a.String())
				return netip.PrefixFrom(a, s.Prefix.Bits()), nil
			}
			if !errors.Is(err, fs.ErrExist) {
				return netip.Prefix{}, err
			}
		}
		if a == start {
			return netip.Prefix{}, fmt.Errorf("no available IPv%s addresses on this network's address pools: %s", family(a), r)
		}
	}
}

func (m *Manager) leaseStatic(e *Endpoint, s Subnet, want netip.Addr) (netip.Prefix, error) {
	none := netip.Prefix{}
	flag := map[bool]string{true: "--ip", false: "--ip6"}[want.Is4()]
	if !s.Prefix.Contains(want) {
		return none, fmt.Errorf("%s %s: not in the network's subnet %s", flag, want, s.Prefix)
	}
	if why := s.reserved(want); why != "" {
		return none, fmt.Errorf("%s %s: %s", flag, want, why)
	}
	err := m.takeLease(e, want)
	if owner := (&Endpoint{}); errors.Is(err, fs.ErrExist) && readRecord(m.leasePath(e, want.String()), owner) == nil {
		if owner.Alive() {
			return none, fmt.Errorf("%s %s: Address already in use by %s", flag, want, owner.label())
		}
		if err := m.detach(owner); err != nil {
			return none, err
		}
		err = m.takeLease(e, want)
	}
	return netip.PrefixFrom(want, s.Prefix.Bits()), err
}

// setLink replaces a symbolic link. What it says is a hint, so errors are not told.
func setLink(path, target string) {
	tmp := path + ".new"
	os.Remove(tmp)
	if os.Symlink(target, tmp) == nil {
		os.Rename(tmp, path)
	}
}
