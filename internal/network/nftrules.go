package network

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// setDef is a set, or with data a map. Those with intervals are concatenations (Linux 5.6), whose elements are whole
// ranges: in others the ends are elements of their own, and adjacent ranges depend on the order they are added in.
type setDef struct {
	name     string
	key      []nftables.SetDatatype
	data     []nftables.SetDatatype
	interval bool
}

// sets hold all that varies: the chains below never change.
func sets() []setDef {
	ifname, ip4, ip6 := nftables.TypeIFName, nftables.TypeIPAddr, nftables.TypeIP6Addr
	proto, port := nftables.TypeInetProto, nftables.TypeInetService
	types := func(t ...nftables.SetDatatype) []nftables.SetDatatype { return t }
	return []setDef{
		{name: "bridges", key: types(ifname)},
		{name: "internal", key: types(ifname)},
		{name: "icc", key: types(ifname, ifname)},
		{name: "routed", key: types(nftables.TypeEtherAddr)},
		{name: "subnets4", key: types(ip4, ifname), interval: true},
		{name: "subnets6", key: types(ip6, ifname), interval: true},
		{name: "masquerade4", key: types(ip4, ifname), interval: true},
		{name: "masquerade6", key: types(ip6, ifname), interval: true},
		{name: "ports4", key: types(proto, port), data: types(ip4, port)},
		{name: "ports6", key: types(proto, port), data: types(ip6, port)},
		{name: "bound4", key: types(ip4, proto, port), data: types(ip4, port)},
		{name: "bound6", key: types(ip6, proto, port), data: types(ip6, port)},
	}
}

// chainDef is a base chain of policy accept, or without a hook one that others go to: it stands before them.
type chainDef struct {
	name  string
	kind  nftables.ChainType
	hook  *nftables.ChainHook
	prio  *nftables.ChainPriority
	rules []ruleDef
}

// ruleDef is a rule as nft prints it, why it is there, and as the kernel takes it.
type ruleDef struct {
	text, why string
	exprs     []expr.Any
}

func rule(text, why string, parts ...[]expr.Any) ruleDef {
	r := ruleDef{text: text, why: why}
	for _, p := range parts {
		r.exprs = append(r.exprs, p...)
	}
	return r
}

// chains is the whole rule set. NAT chains see the first packet of a connection only, so a lookup there is paid once.
func chains() []chainDef {
	dnat := dnatRules()
	return []chainDef{
		{
			"guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, beforeDefrag,
			[]ruleDef{
				rule("ip daddr 127.0.0.0/8 iifname @bridges drop", "route_localnet is on there (CVE-2020-8558)",
					v4, addr(daddr4), masked(8), is(127, 0, 0, 0), iifIn("bridges"), drop),
				rule("ether daddr @routed fib saddr . iif oif missing drop", "a source that is not behind this bridge: it would be told of errors",
					etherDaddr, in("routed"), noWayBack, drop),
			},
		},
		{"prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, append([]ruleDef{
			rule("ip daddr 127.0.0.0/8 accept", "a neighbour's: not translated, it stays a martian (-p 127.0.0.1)",
				v4, addr(daddr4), masked(8), is(127, 0, 0, 0), accept),
		}, dnat...)},
		{"output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest, append([]ruleDef{
			rule("ip6 daddr ::1 accept", "cannot be translated: refused at once, so that who asks for localhost goes on to 127.0.0.1",
				v6, addr(daddr6), is(netip.IPv6Loopback().AsSlice()...), accept),
		}, dnat...)},
		{
			"postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource,
			[]ruleDef{
				rule(`iifname != "" iifname != @bridges accept`, "from elsewhere: keeps its address",
					meta(expr.MetaKeyIIFNAME, 0), isNot(make([]byte, 16)...), notIn("bridges"), accept),
				rule("ct status dnat ip saddr . oifname @subnets4 masquerade", "hairpin: the answer has to come back through us",
					v4, ctDNAT, addr(saddr4), meta(expr.MetaKeyOIFNAME, 1), in("subnets4"), masquerade),
				rule("ct status dnat ip6 saddr . oifname @subnets6 masquerade", "hairpin",
					v6, ctDNAT, addr(saddr6), meta(expr.MetaKeyOIFNAME, 4), in("subnets6"), masquerade),
				rule("ip saddr 127.0.0.0/8 oifname @bridges masquerade", "from the host's loopback to a published port",
					v4, addr(saddr4), masked(8), is(127, 0, 0, 0), oifIn("bridges"), masquerade),
				rule("ip saddr . iifname @masquerade4 oifname != @bridges masquerade", "containers go out with the host's address",
					v4, addr(saddr4), meta(expr.MetaKeyIIFNAME, 1), in("masquerade4"), oifNotIn("bridges"), masquerade),
				rule("ip6 saddr . iifname @masquerade6 oifname != @bridges masquerade", "containers go out with the host's address",
					v6, addr(saddr6), meta(expr.MetaKeyIIFNAME, 4), in("masquerade6"), oifNotIn("bridges"), masquerade),
			},
		},
		{
			"input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter,
			[]ruleDef{
				rule("iifname != @bridges accept", "not our traffic", iifNotIn("bridges"), accept),
				rule("fib saddr . iif oif missing drop", "a source that is not behind this bridge", noWayBack, drop),
			},
		},
		{
			"reporting", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter,
			[]ruleDef{
				rule("icmpv6 type parameter-problem @th,112,8 0 drop", "of hop-by-hop options, which the kernel reads before any chain: its source may be a lie",
					v6, meta(expr.MetaKeyL4PROTO, 0), is(unix.IPPROTO_ICMPV6), icmpType, is(4), reportedHeader, is(0), drop),
			},
		},
		{
			name: "entering", rules: []ruleDef{
				rule("oifname @internal drop", "no way in", oifIn("internal"), drop),
				rule("ct status dnat accept", "published ports", ctDNAT, accept),
				rule("drop", "from outside and from other networks", drop),
			},
		},
		{
			name: "leaving", rules: []ruleDef{
				rule("iifname . oifname @icc accept", "within one network (seen here with bridge-nf-call-iptables)",
					meta(expr.MetaKeyIIFNAME, 0), meta(expr.MetaKeyOIFNAME, 4), in("icc"), accept),
				rule("fib saddr . iif oif missing drop", "a source that is not behind this bridge: it would be taken for another's answer", noWayBack, drop),
				rule("ct state established accept", "answers", flags(expr.CtKeySTATE, expr.CtStateBitESTABLISHED), accept),
				rule("iifname @internal drop", "no way out", iifIn("internal"), drop),
				rule("oifname != @bridges accept", "to the outside", oifNotIn("bridges"), accept),
				rule("ct state related drop", "to another network: an ICMP error may name any connection, not only its sender's",
					flags(expr.CtKeySTATE, expr.CtStateBitRELATED), drop),
				rule("goto entering", "to another network", gotoChain("entering")),
			},
		},
		{
			"forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter,
			[]ruleDef{ // what is neither from nor to a bridge is not our traffic
				rule("iifname @bridges goto leaving", "from a container", iifIn("bridges"), gotoChain("leaving")),
				rule("ct state established,related accept", "answers, and what goes on", ctState, accept),
				rule("oifname @bridges goto entering", "to a container", oifIn("bridges"), gotoChain("entering")),
			},
		},
	}
}

func dnatRules() []ruleDef {
	return []ruleDef{
		rule("dnat ip to ip daddr . meta l4proto . th dport map @bound4", "published on one address",
			v4, addr(daddr4), meta(expr.MetaKeyL4PROTO, 1), dport(2), lookupMap("bound4"), dnat(unix.NFPROTO_IPV4, 1)),
		rule("fib daddr type local dnat ip to meta l4proto . th dport map @ports4", "published on all addresses",
			v4, toLocal, meta(expr.MetaKeyL4PROTO, 0), dport(1), lookupMap("ports4"), dnat(unix.NFPROTO_IPV4, 1)),
		rule("dnat ip6 to ip6 daddr . meta l4proto . th dport map @bound6", "published on one address",
			v6, addr(daddr6), meta(expr.MetaKeyL4PROTO, 4), dport(5), lookupMap("bound6"), dnat(unix.NFPROTO_IPV6, 4)),
		rule("fib daddr type local dnat ip6 to meta l4proto . th dport map @ports6", "published on all addresses",
			v6, toLocal, meta(expr.MetaKeyL4PROTO, 0), dport(1), lookupMap("ports6"), dnat(unix.NFPROTO_IPV6, 4)),
	}
}

// beforeDefrag is NF_IP_PRI_RAW_BEFORE_DEFRAG: what waits for its other fragments is answered with an ICMP error in the end, and what
// cannot be forwarded for its TTL before chain forward sees it.
var beforeDefrag = nftables.ChainPriorityRef(-450)

// reg is the n-th 32 bit register; a concatenation lies in consecutive ones.
func reg(n uint32) uint32 { return unix.NFT_REG32_00 + n }

func meta(key expr.MetaKey, r uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: reg(r)}}
}

func in(set string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg(0), SetName: set}}
}

func notIn(set string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg(0), SetName: set, Invert: true}}
}

func iifIn(set string) []expr.Any    { return append(meta(expr.MetaKeyIIFNAME, 0), in(set)...) }
func oifIn(set string) []expr.Any    { return append(meta(expr.MetaKeyOIFNAME, 0), in(set)...) }
func iifNotIn(set string) []expr.Any { return append(meta(expr.MetaKeyIIFNAME, 0), notIn(set)...) }
func oifNotIn(set string) []expr.Any { return append(meta(expr.MetaKeyOIFNAME, 0), notIn(set)...) }

func lookupMap(set string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg(0), SetName: set, IsDestRegSet: true, DestRegister: reg(0)}}
}

// is compares register 0.
func is(b ...byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: b}}
}

func isNot(b ...byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpNeq, Register: reg(0), Data: b}}
}

// masked keeps the first bits of an IPv4 address in register 0.
func masked(bits int) []expr.Any {
	mask := make([]byte, 4)
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{&expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(0), Len: 4, Mask: mask, Xor: make([]byte, 4)}}
}

// Offsets in the network header, and lengths: RFC 791, RFC 8200.
var (
	saddr4 = expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
	daddr4 = expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}
	saddr6 = expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 16}
	daddr6 = expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16}
)

func addr(p expr.Payload) []expr.Any {
	p.DestRegister = reg(0)
	return []expr.Any{&p}
}

// dport loads the destination port, which tcp, udp and sctp have at the same place.
func dport(r uint32) []expr.Any {
	return []expr.Any{&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2, DestRegister: reg(r)}}
}

func dnat(family, port uint32) []expr.Any {
	return []expr.Any{&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: reg(0), RegProtoMin: reg(port)}}
}

func flags(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg(0)},
		&expr.Bitwise{
			SourceRegister: reg(0), DestRegister: reg(0), Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg(0), Data: make([]byte, 4)},
	}
}

const ipsDstNAT = 1 << 5 // IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h

func gotoChain(name string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: name}}
}

var (
	v4         = append(meta(expr.MetaKeyNFPROTO, 0), is(unix.NFPROTO_IPV4)...)
	v6         = append(meta(expr.MetaKeyNFPROTO, 0), is(unix.NFPROTO_IPV6)...)
	accept     = []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	drop       = []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	masquerade = []expr.Any{&expr.Masq{}}
	ctDNAT     = flags(expr.CtKeySTATUS, ipsDstNAT)
	ctState    = flags(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
	// noWayBack is the reverse path test of RFC 3704: the route to the source does not go through the link that the packet came in by.
	noWayBack = []expr.Any{
		&expr.Fib{Register: reg(0), FlagSADDR: true, FlagIIF: true, ResultOIF: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: make([]byte, 4)},
	}
	// etherDaddr is the frame's destination: the bridge's own where a packet is routed and not only bridged (br_netfilter).
	etherDaddr = addr(expr.Payload{Base: expr.PayloadBaseLLHeader, Offset: 0, Len: 6})
	// An ICMPv6 message's type, and after its 8 bytes the next header field of the packet that it reports (RFC 4443 3.4).
	icmpType       = addr(expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1})
	reportedHeader = addr(expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 8 + 6, Len: 1})
	toLocal        = []expr.Any{
		&expr.Fib{Register: reg(0), FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
)
