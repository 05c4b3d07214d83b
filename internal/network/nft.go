package network

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// element is one element of a set or map, comparable: what there shall be and what there is are sets of these.
type element struct {
	set, key, val string
	keyEnd        string // of an interval; the last, inclusive
}

// networkElements are what the rules know of a network.
func networkElements(n *Network) []element {
	if n.Driver != DriverBridge {
		return nil
	}
	link := ifnameKey(n.Link)
	out := []element{{set: "bridges", key: link}, {set: "routed", key: string(n.mac())}}
	if n.Internal {
		out = append(out, element{set: "internal", key: link})
	}
	if n.flag(OptICC) {
		out = append(out, element{set: "icc", key: link + link})
	}
	for _, s := range n.Subnets {
		f, first, last := family(s.Prefix.Addr()), s.Prefix.Addr(), lastAddr(s.Prefix)
		el := element{set: "subnets" + f, key: addrKey(first) + link, keyEnd: addrKey(last) + link}
		out = append(out, el)
		if n.flag(OptMasquerade) && !n.Internal {
			el.set = "masquerade" + f
			out = append(out, el)
		}
	}
	return out
}

// endpointElements are the published ports: one map element for each and family.
func endpointElements(e *Endpoint) []element {
	if e.Driver != DriverBridge {
		return nil
	}
	var out []element
	for _, p := range e.Ports {
		for _, to := range []netip.Addr{e.IP4.Addr(), e.IP6.Addr()} {
			if !to.IsValid() || p.HostIP.IsValid() && p.HostIP.Is4() != to.Is4() {
				continue
			}
			el := element{set: "ports" + family(to), key: protoKey(p.Proto) + portKey(p.HostPort), val: addrKey(to) + portKey(p.Port)}
			if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
				el.set, el.key = "bound"+family(to), addrKey(p.HostIP)+el.key
			}
			out = append(out, el)
		}
	}
	return out
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "4"
	}
	return "6"
}

func ifnameKey(name string) string { return name + string(make([]byte, 16-len(name))) }
func addrKey(a netip.Addr) string  { return string(a.AsSlice()) }

// portKey and protoKey are padded to a register, as each field of a concatenation is.
func portKey(port uint16) string {
	return string(binary.BigEndian.AppendUint16(nil, port)) + "\x00\x00"
}

func protoKey(proto string) string { return string([]byte{protocols[proto], 0, 0, 0}) }

var protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

func (m *Manager) table() *nftables.Table {
	return &nftables.Table{Name: m.opt.Table, Family: nftables.TableFamilyINet}
}

func datatype(types []nftables.SetDatatype) nftables.SetDatatype {
	if len(types) == 1 {
		return types[0]
	}
	return nftables.MustConcatSetType(types...)
}

// set is what names a set in a transaction, and with def's other fields makes it.
func (d setDef) set(t *nftables.Table) *nftables.Set {
	s := &nftables.Set{Table: t, Name: d.name, KeyType: datatype(d.key), Interval: d.interval, Concatenation: len(d.key) > 1}
	if len(d.key) == 1 && d.key[0] == nftables.TypeIFName {
		s.KeyByteOrder = binaryutil.NativeEndian // for nft, which prints "" else
	}
	if d.data != nil {
		s.IsMap, s.DataType = true, datatype(d.data)
	}
	return s
}

func (e element) nft() nftables.SetElement {
	return nftables.SetElement{Key: []byte(e.key), Val: []byte(e.val), KeyEnd: []byte(e.keyEnd)}
}

// perMessage keeps the list of a message's elements below a netlink attribute's 64 KiB.
const perMessage = 200

// rootSet is the set whose elements have the root that the table is of as their comment.
const rootSet = "bridges"

// bySet hands each set's elements to f, in portions.
func (m *Manager) bySet(t *nftables.Table, els []element, f func(*nftables.Set, []nftables.SetElement) error) error {
	for _, d := range sets() {
		var list []nftables.SetElement
		for _, e := range els {
			if e.set == d.name {
				list = append(list, e.nft())
				if root := filepath.Clean(m.opt.Root); e.set == rootSet && len(root) < 250 { // userdata has one byte for a length
					list[len(list)-1].Comment = root
				}
			}
		}
		for part := range slices.Chunk(list, perMessage) {
			if err := f(d.set(t), part); err != nil {
				return fmt.Errorf("nft set %s: %w", d.name, err)
			}
		}
	}
	return nil
}

// changeRules adds and removes elements in one transaction.
func (m *Manager) changeRules(add, del []element) error {
	if len(add)+len(del) == 0 {
		return nil
	}
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := m.table()
	if err := m.bySet(t, del, c.SetDeleteElements); err != nil {
		return err
	}
	if err := m.bySet(t, add, c.SetAddElements); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nft table inet %s: %w", t.Name, err)
	}
	return nil
}

// removeRules deletes elements that may be gone already: then it deletes one by one what is left.
func (m *Manager) removeRules(els []element) error {
	err := m.changeRules(nil, els)
	if err == nil || !errors.Is(err, unix.ENOENT) {
		return err
	}
	have, err := m.readTable()
	if err != nil || have == nil {
		return err
	}
	return m.changeRules(nil, slices.DeleteFunc(slices.Clone(els), func(e element) bool { return !have.elements[e] }))
}

// hasTable is one round trip.
func (m *Manager) hasTable() (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("nftables: %w", err)
	}
	_, err = c.ListTableOfFamily(m.opt.Table, nftables.TableFamilyINet)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("nft table inet %s: %w", m.opt.Table, err)
	}
	return true, nil
}

// kernelTable is the table as the kernel has it.
type kernelTable struct {
	intact   bool // chains, rules and sets are ours
	elements map[element]bool
}

// readTable gives nil if there is no table.
func (m *Manager) readTable() (*kernelTable, error) {
	if ok, err := m.hasTable(); !ok {
		return nil, err
	}
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	defer c.CloseLasting()
	t := m.table()
	k := &kernelTable{elements: map[element]bool{}}
	if k.intact, err = chainsIntact(c, t); err != nil {
		return nil, fmt.Errorf("nft table inet %s: %w", t.Name, err)
	}
	have, err := c.GetSets(t)
	if err != nil {
		return nil, fmt.Errorf("nft table inet %s: %w", t.Name, err)
	}
	defs := sets()
	k.intact = k.intact && len(have) == len(defs)
	for _, s := range have {
		i := slices.IndexFunc(defs, func(d setDef) bool { return d.name == s.Name })
		if i < 0 || s.KeyType.Bytes != datatype(defs[i].key).Bytes || s.IsMap != (defs[i].data != nil) || s.Interval != defs[i].interval {
			k.intact = false
			continue
		}
		els, err := c.GetSetElements(defs[i].set(t))
		if err != nil {
			return nil, fmt.Errorf("nft set inet %s %s: %w", t.Name, s.Name, err)
		}
		for _, e := range els {
			k.elements[element{set: s.Name, key: string(e.Key), val: string(e.Val), keyEnd: string(e.KeyEnd)}] = true
		}
	}
	return k, nil
}

// chainsIntact tells whether the table has our chains, no others, with our rules in order. A rule is known by its
// comment, which has a hash of its text: what the kernel gives back of an expression is not what it was given.
func chainsIntact(c *nftables.Conn, t *nftables.Table) (bool, error) {
	all, err := c.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return false, err
	}
	have := slices.DeleteFunc(all, func(ch *nftables.Chain) bool { return ch.Table.Name != t.Name })
	want := chains()
	if len(have) != len(want) {
		return false, nil
	}
	for _, w := range want {
		i := slices.IndexFunc(have, func(h *nftables.Chain) bool { return h.Name == w.name })
		if i < 0 || !w.isLike(have[i]) {
			return false, nil
		}
		rules, err := c.GetRules(t, have[i])
		if err != nil {
			return false, err
		}
		if !slices.EqualFunc(rules, w.rules, func(r *nftables.Rule, d ruleDef) bool {
			text, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			return text == d.comment()
		}) {
			return false, nil
		}
	}
	return true, nil
}

// isLike compares all but the rules.
func (d chainDef) isLike(c *nftables.Chain) bool {
	if d.hook == nil || c.Hooknum == nil {
		return d.hook == nil && c.Hooknum == nil
	}
	return *c.Hooknum == *d.hook && c.Type == d.kind && *c.Priority == *d.prio && (c.Policy == nil || *c.Policy == nftables.ChainPolicyAccept)
}

func (r ruleDef) comment() string {
	c := "vitro " + hash(r.text)[:8]
	if r.why != "" {
		c += ": " + r.why
	}
	return c
}

// setTable makes the table what the records want: the difference, or the whole table if its rules are not ours. One transaction.
func (m *Manager) setTable(want []element) (changes []string, err error) {
	have, err := m.readTable()
	if err != nil {
		return nil, err
	}
	if have == nil || !have.intact {
		what := "made"
		if have != nil {
			what = "made again, it was not as it should be"
		}
		return []string{"nft table inet " + m.opt.Table + ": " + what}, m.makeTable(want)
	}
	var add, del []element
	wanted := map[element]bool{}
	for _, e := range want {
		wanted[e] = true
		if !have.elements[e] {
			add = append(add, e)
		}
	}
	for e := range have.elements {
		if !wanted[e] {
			del = append(del, e)
		}
	}
	for _, d := range sets() {
		a, r := count(add, d.name), count(del, d.name)
		if a+r > 0 {
			changes = append(changes, fmt.Sprintf("nft set inet %s %s: %d added, %d removed", m.opt.Table, d.name, a, r))
		}
	}
	return changes, m.changeRules(add, del)
}

func count(els []element, set string) (n int) {
	for _, e := range els {
		if e.set == set {
			n++
		}
	}
	return n
}

// makeTable replaces the table as a whole. Connections go on: conntrack is not touched.
func (m *Manager) makeTable(want []element) error {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	defer c.CloseLasting()
	t := m.table()
	c.AddTable(t) // so that there is one to delete
	c.DelTable(t)
	c.AddTable(t)
	for _, d := range sets() {
		if err := c.AddSet(d.set(t), nil); err != nil {
			return fmt.Errorf("nft set %s: %w", d.name, err)
		}
	}
	accept := nftables.ChainPolicyAccept
	for _, d := range chains() {
		def := &nftables.Chain{Name: d.name, Table: t, Type: d.kind, Hooknum: d.hook, Priority: d.prio}
		if d.hook != nil {
			def.Policy = &accept
		}
		ch := c.AddChain(def)
		for _, r := range d.rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: r.exprs, UserData: userdata.AppendString(nil, userdata.TypeComment, r.comment())})
		}
	}
	if err := m.bySet(t, want, c.SetAddElements); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nft table inet %s: %w", t.Name, err)
	}
	return nil
}

func (m *Manager) deleteTable() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.DelTable(m.table())
	return c.Flush()
}

func sortElements(els []element) {
	slices.SortFunc(els, func(a, b element) int {
		return cmp.Or(cmp.Compare(a.set, b.set), cmp.Compare(a.key, b.key), cmp.Compare(a.keyEnd, b.keyEnd))
	})
}
