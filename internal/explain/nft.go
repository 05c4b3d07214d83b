package explain

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// Rule is a rule of nf_tables, as nft would print it, that applies to the container's traffic.
type Rule struct {
	Family, Table, Chain string
	Hook                 string `json:",omitempty"` // of a base chain: "prerouting nat, policy accept"
	Text                 string
	Packets, Bytes       *uint64 `json:",omitempty"`
}

// who is a container on a network: its addresses, and the links on the host that its packets pass.
type who struct {
	addrs []netip.Addr
	links []string
}

func (w *who) hasAddr(a netip.Addr) bool { return slices.Contains(w.addrs, a.Unmap()) }

// nftLoaded: asking nf_tables for a list makes the kernel load its module, and explain changes nothing.
func nftLoaded() bool {
	if b, err := os.ReadFile("/proc/modules"); err != nil || strings.Contains("\n"+string(b), "\nnf_tables ") {
		return true // a kernel without modules, or it is there
	}
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	found, _ := filepath.Glob("/lib/modules/" + unix.ByteSliceToString(u.Release[:]) + "/kernel/net/netfilter/nf_tables.ko*")
	return len(found) == 0 // built in
}

// nft reads the whole rule set once.
type nft struct {
	conn   *nftables.Conn
	sets   map[string]*set // by table and name
	listed map[string]bool // tables whose sets are in sets
	rules  map[string][]*decoded
	order  []*nftables.Chain
}

type set struct {
	*nftables.Set
	read  bool
	elems []nftables.SetElement
}

// maxRules bounds what is looked at.
const maxRules = 5000

func readNFT() (*nft, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, err
	}
	defer conn.CloseLasting()
	n := &nft{conn: conn, sets: map[string]*set{}, listed: map[string]bool{}, rules: map[string][]*decoded{}}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, err
	}
	total := 0
	for _, c := range chains {
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			continue
		}
		n.order = append(n.order, c)
		for _, r := range rules {
			if total++; total > maxRules {
				return n, nil
			}
			n.rules[chainKey(c.Table, c.Name)] = append(n.rules[chainKey(c.Table, c.Name)], n.decode(c.Table, r.Exprs))
		}
	}
	return n, nil
}

// ownRules counts the rules of nf_tables in a network namespace, up to maxRules: a container may have made any number, so the dump is left
// when there are enough. A kernel that has not loaded them has none.
func ownRules(netns int) (total int) {
	if !nftLoaded() {
		return 0
	}
	fd := -1
	inThread(func() {
		if unix.Setns(netns, unix.CLONE_NEWNET) == nil {
			fd, _ = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		}
	})
	if fd < 0 {
		return 0
	}
	defer unix.Close(fd)
	const newRule, getRule = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE, unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE
	req := make([]byte, unix.SizeofNlMsghdr+4) // nlmsghdr, then nfgenmsg: all families
	binary.NativeEndian.PutUint32(req, uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], getRule)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) != nil {
		return 0
	}
	buf := make([]byte, 64<<10)
	for total < maxRules {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil || n < unix.SizeofNlMsghdr {
			return total
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b)+3) &^ 3
			switch kind := binary.NativeEndian.Uint16(b[4:]); {
			case kind == newRule:
				total++
			case kind == unix.NLMSG_DONE, kind == unix.NLMSG_ERROR, size < unix.SizeofNlMsghdr:
				return total
			}
			b = b[min(size, len(b)):]
		}
	}
	return maxRules
}

func chainKey(t *nftables.Table, name string) string {
	return fmt.Sprint(t.Family, " ", t.Name, " ", name)
}

func (n *nft) set(t *nftables.Table, name string) *set {
	if table := chainKey(t, ""); n.conn != nil && !n.listed[table] {
		n.listed[table] = true
		list, _ := n.conn.GetSets(t) // one that is gone is printed by name
		for _, s := range list {
			s.Table = t
			n.sets[chainKey(t, s.Name)] = &set{Set: s}
		}
	}
	s := n.sets[chainKey(t, name)]
	if s != nil && !s.read {
		s.read = true
		s.elems, _ = n.conn.GetSetElements(s.Set)
	}
	return s
}

// operand is what a register holds: the name of a field, or a constant.
type operand struct {
	name  string
	size  int // bytes
	mask  []byte
	value []byte
	from  *set // a map's answer for keys
	keys  []operand
}

// match is a test of one field.
type match struct {
	name string
	neg  bool
	sets [][]byte // alternatives, or from and to
	span bool     // sets are pairs, first and last
	mask []byte
}

// decoded is a rule with what matters to find out whom it is about.
type decoded struct {
	words          []string
	matches        []match
	target         string // jump or goto
	packets, bytes *uint64
	dnat           *operand // address, when it is a dnat
	dport          *operand
	regs           [20]operand // 32 bit registers
	l4             string
	table          *nftables.Table
}

// slot is the index of a register; 1 to 4 are the old ones of 16 bytes.
func slot(r uint32) int {
	switch {
	case r >= unix.NFT_REG32_00 && r < unix.NFT_REG32_00+16:
		return int(r - unix.NFT_REG32_00)
	case r >= 1 && r <= 4:
		return int(r-1) * 4
	}
	return 19
}

func (d *decoded) add(format string, a ...any) { d.words = append(d.words, fmt.Sprintf(format, a...)) }

func (n *nft) decode(t *nftables.Table, exprs []expr.Any) *decoded {
	d := &decoded{table: t}
	for _, e := range exprs {
		if !d.load(e) && !n.test(d, e) && !d.act(e) {
			d.add("(%s)", strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", e), "*expr.")))
		}
	}
	return d
}

var metaNames = map[expr.MetaKey]string{
	expr.MetaKeyIIFNAME: "iifname", expr.MetaKeyOIFNAME: "oifname", expr.MetaKeyIIF: "iif", expr.MetaKeyOIF: "oif",
	expr.MetaKeyL4PROTO: "meta l4proto", expr.MetaKeyNFPROTO: "meta nfproto", expr.MetaKeyMARK: "meta mark",
	expr.MetaKeyPKTTYPE: "meta pkttype", expr.MetaKeySKUID: "meta skuid", expr.MetaKeySKGID: "meta skgid", expr.MetaKeyPROTOCOL: "meta protocol",
}

// load handles what fills a register.
func (d *decoded) load(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Meta:
		if e.SourceRegister {
			d.add("%s set %s", cmpName(metaNames[e.Key], "meta"), d.regs[slot(e.Register)].text())
			return true
		}
		d.regs[slot(e.Register)] = operand{name: cmpName(metaNames[e.Key], fmt.Sprint("meta ", e.Key)), size: metaSize(e.Key)}
	case *expr.Payload:
		if e.OperationType != expr.PayloadLoad {
			return false
		}
		d.regs[slot(e.DestRegister)] = operand{name: d.field(e), size: int(e.Len)}
	case *expr.Ct:
		if e.SourceRegister {
			return false
		}
		name := map[expr.CtKey]string{expr.CtKeySTATE: "ct state", expr.CtKeySTATUS: "ct status", expr.CtKeyMARK: "ct mark", expr.CtKeyDIRECTION: "ct direction"}[e.Key]
		d.regs[slot(e.Register)] = operand{name: cmpName(name, fmt.Sprint("ct ", e.Key)), size: 4}
	case *expr.Fib:
		d.regs[slot(e.Register)] = fibOperand(e)
	case *expr.Immediate:
		d.regs[slot(e.Register)] = operand{value: e.Data, size: len(e.Data)}
	case *expr.Bitwise:
		o := d.regs[slot(e.SourceRegister)]
		o.mask = e.Mask
		d.regs[slot(e.DestRegister)] = o
	case *expr.Byteorder:
		d.regs[slot(e.DestRegister)] = d.regs[slot(e.SourceRegister)]
	default:
		return false
	}
	return true
}

// fibOperand names a look-up in the routes as nft does.
func fibOperand(e *expr.Fib) operand {
	name := "fib daddr"
	if e.FlagSADDR {
		name = "fib saddr"
	}
	for _, f := range []struct {
		set  bool
		name string
	}{{e.FlagMARK, "mark"}, {e.FlagIIF, "iif"}, {e.FlagOIF, "oif"}} {
		if f.set {
			name += " . " + f.name
		}
	}
	switch {
	case e.ResultOIFNAME:
		return operand{name: name + " oifname", size: 16}
	case e.ResultOIF:
		return operand{name: name + " oif", size: 4}
	}
	return operand{name: name + " type", size: 4}
}

func cmpName(name, or string) string {
	if name == "" {
		return or
	}
	return name
}

func metaSize(k expr.MetaKey) int {
	switch k {
	case expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME:
		return 16
	case expr.MetaKeyL4PROTO, expr.MetaKeyNFPROTO:
		return 1
	}
	return 4
}

// field names a part of a header (RFC 791, 8200, 768). A short load of an address is a prefix of whole bytes.
func (d *decoded) field(e *expr.Payload) string {
	switch {
	case e.Base == expr.PayloadBaseTransportHeader && e.Len == 2 && e.Offset == 0:
		return cmpName(d.l4, "th") + " sport"
	case e.Base == expr.PayloadBaseTransportHeader && e.Len == 2 && e.Offset == 2:
		return cmpName(d.l4, "th") + " dport"
	case e.Base == expr.PayloadBaseTransportHeader && e.Offset == 0 && e.Len == 1 && strings.HasPrefix(d.l4, "icmp"):
		return d.l4 + " type"
	case e.Base == expr.PayloadBaseLLHeader && e.Len == 6 && e.Offset == 0:
		return "ether daddr"
	case e.Base == expr.PayloadBaseLLHeader && e.Len == 6 && e.Offset == 6:
		return "ether saddr"
	case e.Base != expr.PayloadBaseNetworkHeader:
	case e.Offset == 8 && (e.Len == 16 || d.table.Family == nftables.TableFamilyIPv6 && e.Len > 4):
		return "ip6 saddr"
	case e.Offset == 24:
		return "ip6 daddr"
	case e.Offset == 12 && e.Len <= 4:
		return "ip saddr"
	case e.Offset == 16 && e.Len <= 4:
		return "ip daddr"
	case e.Offset == 9 && e.Len == 1:
		return "ip protocol"
	}
	return fmt.Sprintf("@%s,%d,%d", [...]string{"ll", "nh", "th", "inner"}[e.Base&3], e.Offset*8, e.Len*8)
}

// test handles comparisons and look-ups.
func (n *nft) test(d *decoded, e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Cmp:
		d.compare(d.regs[slot(e.Register)], e.Op, e.Data)
	case *expr.Range:
		o := d.regs[slot(e.Register)]
		d.matches = append(d.matches, match{name: o.name, neg: e.Op == expr.CmpOpNeq, sets: [][]byte{e.FromData, e.ToData}, span: true, mask: o.mask})
		d.add("%s %s%s-%s", o.name, not(e.Op == expr.CmpOpNeq), formatValue(o, e.FromData), formatValue(o, e.ToData))
	case *expr.Lookup:
		n.lookup(d, e)
	case *expr.Match:
		d.xtMatch(e)
	default:
		return false
	}
	return true
}

func not(neg bool) string {
	if neg {
		return "!= "
	}
	return ""
}

func (d *decoded) compare(o operand, op expr.CmpOp, data []byte) {
	switch {
	case o.name == "meta nfproto" && len(data) == 1:
		return // the addresses say it
	case (o.name == "ct state" || o.name == "ct status") && o.mask != nil:
		d.add("%s %s%s", o.name, not(op == expr.CmpOpEq), formatValue(o, o.mask))
		return
	case o.name == "meta l4proto" || o.name == "ip protocol":
		d.l4 = formatValue(o, data)
	}
	d.matches = append(d.matches, match{name: o.name, neg: op != expr.CmpOpEq, sets: [][]byte{data}, mask: o.mask})
	sign := map[expr.CmpOp]string{expr.CmpOpNeq: "!= ", expr.CmpOpLt: "< ", expr.CmpOpLte: "<= ", expr.CmpOpGt: "> ", expr.CmpOpGte: ">= "}[op]
	d.add("%s %s%s", o.name, sign, formatValue(o, data))
}

func (n *nft) lookup(d *decoded, e *expr.Lookup) {
	s := n.set(d.table, e.SetName)
	first := slot(e.SourceRegister)
	var keys []operand
	for at, size := first, 0; at < len(d.regs) && (len(keys) == 0 || s != nil && size < int(s.KeyType.Bytes)); {
		o := d.regs[at]
		words := max(1, (o.size+3)/4)
		keys, at, size = append(keys, o), at+words, size+4*words
	}
	var fields []string
	for _, k := range keys {
		fields = append(fields, k.name)
	}
	name := strings.Join(fields, " . ")
	if s != nil {
		d.setMatches(s, keys, e.Invert)
	}
	if e.IsDestRegSet && (s == nil || s.DataType.Name != "verdict") {
		d.regs[slot(e.DestRegister)] = operand{name: name + " map @" + e.SetName, from: s, keys: keys}
		if s != nil { // a port that comes behind the address
			addr := 4 * ((len(firstValue(s)) - 2 + 3) / 4)
			if addr > 0 {
				d.regs[slot(e.DestRegister)+addr/4] = operand{name: "map", from: s}
			}
		}
		return
	}
	what := "@" + e.SetName
	if s != nil && s.Anonymous {
		what = s.text(keys)
	}
	if s != nil && s.DataType.Name == "verdict" {
		what = "vmap " + what
	}
	d.add("%s %s%s", name, not(e.Invert), what)
}

func firstValue(s *set) []byte {
	for _, e := range s.elems {
		if len(e.Val) > 0 {
			return e.Val
		}
	}
	return nil
}

// setMatches remembers the set's elements, field by field.
func (d *decoded) setMatches(s *set, keys []operand, neg bool) {
	elems := slices.Clone(s.elems)
	slices.SortFunc(elems, func(a, b nftables.SetElement) int { return bytes.Compare(a.Key, b.Key) })
	at := 0
	for _, k := range keys {
		m := match{name: k.name, neg: neg, mask: k.mask, span: true}
		part := func(b []byte) []byte {
			if len(keys) == 1 {
				return b
			}
			return b[min(at, len(b)):min(at+k.size, len(b))]
		}
		for i, e := range elems {
			switch {
			case e.IntervalEnd:
			case e.KeyEnd != nil:
				m.sets = append(m.sets, part(e.Key), part(e.KeyEnd))
			case s.Interval && len(keys) == 1 && i+1 < len(elems) && elems[i+1].IntervalEnd:
				m.sets = append(m.sets, e.Key, before(elems[i+1].Key))
			default:
				m.sets = append(m.sets, part(e.Key), part(e.Key))
			}
		}
		at += 4 * max(1, (k.size+3)/4)
		d.matches = append(d.matches, m)
	}
}

// before is the number before b.
func before(b []byte) []byte {
	b = slices.Clone(b)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]--; b[i] != 0xff {
			break
		}
	}
	return b
}

func (s *set) text(keys []operand) string {
	var out []string
	for _, e := range s.elems {
		if e.IntervalEnd || len(out) > 20 {
			continue
		}
		var fields []string
		at := 0
		for _, k := range keys {
			v := e.Key
			if len(keys) > 1 {
				v = e.Key[min(at, len(e.Key)):min(at+k.size, len(e.Key))]
			}
			fields = append(fields, formatValue(k, v))
			at += 4 * max(1, (k.size+3)/4)
		}
		one := strings.Join(fields, " . ")
		if e.VerdictData != nil {
			one += " : " + verdictText(e.VerdictData)
		}
		out = append(out, one)
	}
	return "{ " + strings.Join(out, ", ") + " }"
}

// act handles statements.
func (d *decoded) act(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Verdict:
		d.add("%s", verdictText(e))
		d.target = e.Chain
	case *expr.Counter:
		d.packets, d.bytes = &e.Packets, &e.Bytes
	case *expr.Masq:
		d.add("masquerade")
	case *expr.Redir:
		d.add("redirect to :%s", d.regs[slot(e.RegisterProtoMin)].text())
	case *expr.NAT:
		d.nat(e)
	case *expr.Reject:
		d.add("reject")
	case *expr.Log:
		d.add("log prefix %s", Safe(strconv.Quote(strings.TrimRight(string(e.Data), "\x00")), 80))
	case *expr.Limit:
		d.add("limit rate %d/%ds", e.Rate, e.Unit)
	case *expr.Notrack:
		d.add("notrack")
	case *expr.Target:
		d.xtTarget(e)
	default:
		return false
	}
	return true
}

func verdictText(v *expr.Verdict) string {
	switch v.Kind {
	case expr.VerdictAccept:
		return "accept"
	case expr.VerdictDrop:
		return "drop"
	case expr.VerdictReturn:
		return "return"
	case expr.VerdictJump:
		return "jump " + v.Chain
	case expr.VerdictGoto:
		return "goto " + v.Chain
	case expr.VerdictContinue:
		return "continue"
	}
	return fmt.Sprint("verdict ", v.Kind)
}

func (d *decoded) nat(e *expr.NAT) {
	kind := "snat"
	addr, port := d.regs[slot(e.RegAddrMin)], operand{}
	if e.RegProtoMin != 0 {
		port = d.regs[slot(e.RegProtoMin)]
		port.name = cmpName(port.name, "th dport") // a constant is a port
	}
	if e.Type == expr.NATTypeDestNAT {
		kind, d.dnat, d.dport = "dnat", &addr, &port
	}
	text := addr.text()
	if port.value != nil {
		if strings.Contains(text, ":") {
			text = "[" + text + "]"
		}
		text += ":" + port.text()
	}
	d.add("%s to %s", kind, text)
}

// text is a register that a statement takes: a constant, or where it comes from.
func (o operand) text() string {
	if o.value == nil {
		return o.name
	}
	if o.name == "" && len(o.value) >= 4 {
		if a, ok := netip.AddrFromSlice(o.value); ok {
			return a.String()
		}
	}
	if len(o.value) == 2 {
		return fmt.Sprint(binary.BigEndian.Uint16(o.value))
	}
	return formatValue(o, o.value)
}

var protocols = map[byte]string{1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp", 136: "udplite"}

// formatValue prints a constant as nft does for the field.
func formatValue(o operand, v []byte) string {
	field := o.name[strings.LastIndexByte(o.name, ' ')+1:]
	switch {
	case strings.HasSuffix(o.name, "ifname"):
		name, _, ended := strings.Cut(string(v), "\x00")
		if !ended && len(v) < 16 {
			name += "*"
		}
		return Safe(strconv.Quote(name), 40)
	case strings.HasPrefix(o.name, "ether ") && len(v) == 6:
		return net.HardwareAddr(v).String()
	case strings.HasPrefix(o.name, "fib") && field == "oif" && len(v) == 4:
		return cmpName(map[uint32]string{0: "missing"}[binary.NativeEndian.Uint32(v)], fmt.Sprint(binary.NativeEndian.Uint32(v)))
	case field == "saddr" || field == "daddr":
		return formatPrefix(v, o.mask, strings.HasPrefix(o.name, "ip6"))
	case (field == "sport" || field == "dport") && len(v) == 2:
		return fmt.Sprint(binary.BigEndian.Uint16(v))
	case (field == "l4proto" || field == "protocol") && len(v) == 1:
		return cmpName(protocols[v[0]], fmt.Sprint(v[0]))
	case field == "nfproto" && len(v) == 1:
		return cmpName(map[byte]string{2: "ipv4", 10: "ipv6"}[v[0]], fmt.Sprint(v[0]))
	case field == "state" && len(v) == 4:
		return flagNames(v, []string{"invalid", "established", "related", "new", "", "", "untracked"})
	case field == "status" && len(v) == 4:
		return flagNames(v, []string{"expected", "seen-reply", "assured", "confirmed", "snat", "dnat"})
	case strings.HasPrefix(o.name, "fib") && len(v) == 4:
		n := binary.NativeEndian.Uint32(v)
		return cmpName(map[uint32]string{1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast"}[n], fmt.Sprint(n))
	case len(v) == 4:
		return fmt.Sprintf("0x%08x", binary.NativeEndian.Uint32(v))
	case len(v) == 1:
		return fmt.Sprint(v[0])
	}
	return fmt.Sprintf("0x%x", v)
}

func flagNames(v []byte, names []string) string {
	n := binary.NativeEndian.Uint32(v)
	var out []string
	for i := range 32 {
		if n&(1<<i) == 0 {
			continue
		}
		if i < len(names) && names[i] != "" {
			out = append(out, names[i])
		} else {
			out = append(out, fmt.Sprintf("0x%x", 1<<i))
		}
	}
	return strings.Join(out, ",")
}

// formatPrefix completes what is shorter than an address.
func formatPrefix(v, mask []byte, v6 bool) string {
	size := 4
	if v6 {
		size = 16
	}
	if len(v) > size {
		return fmt.Sprintf("0x%x", v)
	}
	bits := 8 * len(v)
	if mask != nil {
		bits = 0
		for _, b := range mask {
			for ; b != 0; b <<= 1 {
				bits++
			}
		}
	}
	a, _ := netip.AddrFromSlice(append(slices.Clone(v), make([]byte, size-len(v))...))
	if bits == 8*size {
		return a.String()
	}
	return netip.PrefixFrom(a, bits).String()
}

// xtMatch prints the matches that iptables-nft leaves as they are.
func (d *decoded) xtMatch(e *expr.Match) {
	ports := func(what string, p [2]uint16) {
		switch {
		case p[0] == 0 && p[1] == 0xffff:
		case p[0] == p[1]:
			d.add("%s %d", what, p[0])
		default:
			d.add("%s %d-%d", what, p[0], p[1])
		}
	}
	dports := func(p [2]uint16, inverted bool) {
		m := match{name: e.Name + " dport", span: true, neg: inverted}
		for _, v := range p {
			m.sets = append(m.sets, binary.BigEndian.AppendUint16(nil, v))
		}
		d.matches = append(d.matches, m)
	}
	switch info := e.Info.(type) {
	case *xt.Tcp:
		ports("tcp sport", info.SrcPorts)
		ports("tcp dport", info.DstPorts)
		dports(info.DstPorts, info.InvFlags&xt.TcpInvDestPorts != 0)
	case *xt.Udp:
		ports("udp sport", info.SrcPorts)
		ports("udp dport", info.DstPorts)
		dports(info.DstPorts, info.InvFlags&xt.UdpInvDestPorts != 0)
	case *xt.AddrTypeV1:
		if info.Dest == 1<<unix.RTN_LOCAL {
			d.add("fib daddr type local")
			return
		}
		d.add("addrtype src 0x%x dst 0x%x", info.Source, info.Dest)
	case *xt.ConntrackMtinfo3:
		d.add("ct state %s", xtState(info.StateMask))
	case *xt.ConntrackMtinfo2:
		d.add("ct state %s", xtState(info.StateMask))
	case *xt.Comment:
	default:
		d.add("xt match %s", Safe(e.Name, 32))
	}
}

// xtState: XT_CONNTRACK_STATE_BIT; INVALID is bit 0, the others as in nf_tables' ct state.
func xtState(mask uint16) string {
	return flagNames(binary.NativeEndian.AppendUint32(nil, uint32(mask)), []string{"invalid", "established", "related", "new", "", "", "snat", "dnat"})
}

func (d *decoded) xtTarget(e *expr.Target) {
	dnat := func(addr, port []byte) {
		d.dnat, d.dport = &operand{value: addr}, &operand{value: port}
		a, _ := netip.AddrFromSlice(addr)
		d.add("dnat to %s", netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(port)))
	}
	switch info := e.Info.(type) {
	case *xt.NatRange2:
		dnat(short(info.MinIP), binary.BigEndian.AppendUint16(nil, info.MinPort))
	case *xt.NatRange:
		dnat(short(info.MinIP), binary.BigEndian.AppendUint16(nil, info.MinPort))
	default:
		d.add("%s", strings.ToLower(Safe(e.Name, 32)))
	}
}

func short(ip []byte) []byte {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap().AsSlice()
}

// about says whether a rule names the container (its address or a link of its way), names others only, or nobody.
func (d *decoded) about(w *who) (named, others bool) {
	for _, m := range d.matches {
		switch m.kind() {
		case "addr":
			hit := slices.ContainsFunc(w.addrs, m.contains)
			named, others = named || hit && !m.neg, others || !hit || m.neg
		case "link":
			hit := slices.ContainsFunc(w.links, m.names)
			named, others = named || hit && !m.neg, others || !hit || m.neg
		}
	}
	if d.dnat != nil {
		hit := false
		for _, a := range d.destinations() {
			hit = hit || w.hasAddr(a)
		}
		// A rule that sends all it takes to another container's address is not about this one.
		named, others = hit, others || !hit
	}
	return named, others
}

func (m *match) kind() string {
	switch {
	case strings.HasSuffix(m.name, "addr"):
		return "addr"
	case strings.HasSuffix(m.name, "ifname"):
		return "link"
	}
	return ""
}

func (m *match) contains(a netip.Addr) bool {
	b := a.AsSlice()
	if strings.HasPrefix(m.name, "ip6") != a.Is6() {
		return false
	}
	if m.span {
		for i := 0; i+1 < len(m.sets); i += 2 {
			if bytes.Compare(m.sets[i], b) <= 0 && bytes.Compare(b, m.sets[i+1]) <= 0 {
				return true
			}
		}
		return false
	}
	for i := range m.mask {
		if i < len(b) {
			b[i] &= m.mask[i]
		}
	}
	return len(m.sets) > 0 && bytes.HasPrefix(b, m.sets[0])
}

func (m *match) names(link string) bool {
	full := make([]byte, 16)
	copy(full, link)
	for _, s := range m.sets {
		if bytes.HasPrefix(full, s) && len(s) > 0 {
			return true
		}
	}
	return false
}

func (d *decoded) destinations() (out []netip.Addr) {
	if a, ok := netip.AddrFromSlice(d.dnat.value); ok {
		return []netip.Addr{a.Unmap()}
	}
	if d.dnat.from != nil {
		for _, e := range d.dnat.from.elems {
			if a, ok := mapAddr(e.Val); ok {
				out = append(out, a)
			}
		}
	}
	return out
}

// mapAddr is the address at the begin of a map's value, before a port that is filled up to four bytes.
func mapAddr(v []byte) (netip.Addr, bool) {
	if len(v) >= 16 {
		return netip.AddrFromSlice(v[:16])
	}
	return netip.AddrFromSlice(v[:min(4, len(v))])
}

// apply lists the rules that a container's packets meet: those that name it, those that name nobody in a chain that
// packets pass on their way, and jumps to such.
func (n *nft) apply(w *who) (out []Rule) {
	takes := map[string]bool{} // chains with a rule that applies
	chosen := func(c *nftables.Chain, d *decoded) bool {
		named, others := d.about(w)
		if !named && others || !named && c.Hooknum != nil && aside(c) {
			return false
		}
		return d.target == "" || takes[chainKey(c.Table, d.target)]
	}
	for more := true; more; {
		more = false
		for _, c := range n.order {
			key := chainKey(c.Table, c.Name)
			if !takes[key] && slices.ContainsFunc(n.rules[key], func(d *decoded) bool { return len(d.words) > 0 && chosen(c, d) }) {
				takes[key], more = true, true
			}
		}
	}
	reached := n.reached(chosen)
	for _, c := range n.order {
		rules := slices.DeleteFunc(slices.Clone(n.rules[chainKey(c.Table, c.Name)]), func(d *decoded) bool { return !chosen(c, d) })
		if !reached[chainKey(c.Table, c.Name)] || idle(c, rules, w) {
			continue
		}
		for _, d := range rules {
			if len(d.words) > 0 {
				out = append(out, Rule{familyName(c.Table.Family), Safe(c.Table.Name, 64), Safe(c.Name, 64), hookText(c), strings.Join(d.words, " "), d.packets, d.bytes})
			}
		}
	}
	return out
}

// idle: a chain that accepts what it accepts anyway, and names nobody, as other engines' chains do with what is not theirs.
func idle(c *nftables.Chain, rules []*decoded, w *who) bool {
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		return false
	}
	return !slices.ContainsFunc(rules, func(d *decoded) bool {
		named, _ := d.about(w)
		return named || len(d.words) > 0 && d.words[len(d.words)-1] != "accept"
	})
}

// reached are base chains, and those that an applying rule jumps to.
func (n *nft) reached(chosen func(*nftables.Chain, *decoded) bool) map[string]bool {
	out := map[string]bool{}
	for more := true; more; {
		more = false
		for _, c := range n.order {
			key := chainKey(c.Table, c.Name)
			if c.Hooknum != nil && !out[key] {
				out[key], more = true, true
			}
			if !out[key] {
				continue
			}
			for _, d := range n.rules[key] {
				if to := chainKey(c.Table, d.target); d.target != "" && !out[to] && chosen(c, d) {
					out[to], more = true, true
				}
			}
		}
	}
	return out
}

// aside are base chains for packets of the host's own.
func aside(c *nftables.Chain) bool {
	return *c.Hooknum == *nftables.ChainHookInput || *c.Hooknum == *nftables.ChainHookOutput && c.Type != nftables.ChainTypeNAT
}

func familyName(f nftables.TableFamily) string {
	return cmpName(map[nftables.TableFamily]string{
		nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
		nftables.TableFamilyARP: "arp", nftables.TableFamilyNetdev: "netdev", nftables.TableFamilyBridge: "bridge",
	}[f], fmt.Sprint(f))
}

func hookText(c *nftables.Chain) string {
	if c.Hooknum == nil {
		return ""
	}
	hook := fmt.Sprint(*c.Hooknum)
	if int(*c.Hooknum) < 5 {
		hook = [...]string{"prerouting", "input", "forward", "output", "postrouting"}[*c.Hooknum]
	}
	policy := "accept"
	if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
		policy = "drop"
	}
	return fmt.Sprintf("%s %s, policy %s", hook, c.Type, policy)
}

// published finds the ports that destination NAT sends to the container.
func (n *nft) published(w *who) (out []Port) {
	for _, c := range n.order {
		for _, d := range n.rules[chainKey(c.Table, c.Name)] {
			if d.dnat == nil {
				continue
			}
			how := fmt.Sprintf("%s %s %s", familyName(c.Table.Family), Safe(c.Table.Name, 64), Safe(c.Name, 64))
			if d.dnat.from != nil {
				out = append(out, d.dnat.from.ports(d.dnat.keys, w, how)...)
				continue
			}
			to, _ := netip.AddrFromSlice(d.dnat.value)
			if !w.hasAddr(to) {
				continue
			}
			p := Port{Protocol: d.l4, To: to.Unmap(), How: how, host: c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookOutput}
			if len(d.dport.value) == 2 {
				p.ToPort = int(binary.BigEndian.Uint16(d.dport.value))
			}
			for _, m := range d.matches {
				p.match(m)
			}
			out = append(out, p)
		}
	}
	return out
}

// match takes over what a rule asks of the destination.
func (p *Port) match(m match) {
	switch {
	case m.neg || len(m.sets) == 0:
	case strings.HasSuffix(m.name, "dport") && len(m.sets[0]) == 2:
		p.Port = int(binary.BigEndian.Uint16(m.sets[0]))
		if p.Protocol == "" {
			p.Protocol, _, _ = strings.Cut(m.name, " ")
		}
	case strings.HasSuffix(m.name, " daddr") && !m.span:
		if a, ok := netip.AddrFromSlice(m.sets[0]); ok && m.mask == nil {
			p.Host = a
		}
	case m.name == "iifname" && !m.span:
		p.Link, _, _ = strings.Cut(string(m.sets[0]), "\x00")
	}
}

// ports reads the elements of a map that lead to the container: [address .] protocol . port : address . port
func (s *set) ports(keys []operand, w *who, how string) (out []Port) {
	for _, e := range s.elems {
		to, ok := mapAddr(e.Val)
		if !ok || !w.hasAddr(to) {
			continue
		}
		p := Port{To: to.Unmap(), How: how + " @" + Safe(s.Name, 64)}
		if rest := e.Val[to.BitLen()/8:]; len(rest) >= 2 {
			p.ToPort = int(binary.BigEndian.Uint16(rest))
		}
		at := 0
		for _, k := range keys {
			v := e.Key[min(at, len(e.Key)):min(at+k.size, len(e.Key))]
			switch {
			case strings.HasSuffix(k.name, "l4proto") && len(v) == 1:
				p.Protocol = cmpName(protocols[v[0]], fmt.Sprint(v[0]))
			default:
				p.match(match{name: k.name, sets: [][]byte{v}})
			}
			at += 4 * max(1, (k.size+3)/4)
		}
		out = append(out, p)
	}
	return out
}
