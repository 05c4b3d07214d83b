package explain

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Network is a network namespace and its way to the host's.
type Network struct {
	Host       bool // it is the host's own
	Links      []Link
	Routes     []Route         // inside
	HostRoutes []Route         `json:",omitempty"` // of the host, to the container's addresses
	Forwarding map[string]bool `json:",omitempty"` // by the host: ipv4, ipv6
	Rules      []Rule          `json:",omitempty"` // of the host's nf_tables, that apply
	Inside     int             `json:",omitempty"` // rules of nf_tables in the namespace itself, counted up to maxRules
	Ports      []Port          `json:",omitempty"`
	Sockets    []Socket        `json:",omitempty"`
	Notes      []string        `json:",omitempty"` // what could not be found out
}

// Link is a network interface.
type Link struct {
	Index     int
	Name      string
	Type      string
	MAC       string `json:",omitempty"`
	MTU       int
	Up        bool
	Addresses []string
	Peer      *Peer `json:",omitempty"` // veth: the other end; macvlan, ipvlan, vlan: the parent
}

// Peer is the other end of a link.
type Peer struct {
	Index     int
	Name      string   `json:",omitempty"`
	Where     string   // host, this namespace, namespace 4026532456 (web), or unknown
	Bridge    string   `json:",omitempty"` // that it is a port of
	Addresses []string `json:",omitempty"` // of the bridge, or its own
}

// Route is a route of the main table.
type Route struct {
	To, Via, Link, From string
	Scope               string
}

// Port is a published port.
type Port struct {
	Protocol string
	Host     netip.Addr // address of the host that it is bound to; invalid: all
	Link     string     `json:",omitempty"` // for packets that come in here only
	Port     int
	To       netip.Addr
	ToPort   int    // 0: as Port
	How      string // what does it: a table and chain of nf_tables, or a proxy process
	Reach    string // who can reach it
	host     bool   // seen in an output chain: same port for packets of the host itself
}

// Socket is one that listens, or for UDP one that is bound.
type Socket struct {
	Protocol string
	Address  netip.AddrPort
	PID      int    `json:",omitempty"` // of the container's processes; 0: held by none of them
	Process  string `json:",omitempty"`
	inode    uint64
}

func (m *machine) network(t *target) *Network {
	n := &Network{Host: t.p.NS[KindNet] == m.self.NS[KindNet]}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { n.Sockets = m.sockets(t) })
	fd, err := openat(t.dir.fd, "ns/net", unix.O_RDONLY)
	if err != nil {
		n.note("namespace: %v", err)
		return n
	}
	defer unix.Close(fd)
	in, err := netlink.NewHandleAt(netns.NsHandle(fd), unix.NETLINK_ROUTE)
	if err != nil {
		n.note("rtnetlink inside: %v", err)
		return n
	}
	defer in.Close()
	links, err := in.LinkList()
	if err != nil {
		n.note("links: %v", err)
	}
	addrs := addresses(in)
	for _, l := range links {
		n.Links = append(n.Links, newLink(l, addrs))
	}
	if to, err := netlink.NewHandleAt(netns.NsHandle(fd), unix.NETLINK_ROUTE); err != nil {
		n.note("routes: %v", err)
	} else {
		n.Routes = n.routes(to, links, nil)
	}
	if !n.Host {
		n.Inside = ownRules(fd)
		m.outside(t, n, in, links, fd)
	}
	return n
}

func (n *Network) note(format string, a ...any) {
	n.Notes = append(n.Notes, Safe(fmt.Sprintf(format, a...), 200))
}

// addresses by link.
func addresses(h *netlink.Handle) map[int][]string {
	list, _ := h.AddrList(nil, netlink.FAMILY_ALL)
	out := map[int][]string{}
	for _, a := range list {
		out[a.LinkIndex] = append(out[a.LinkIndex], a.IPNet.String())
	}
	return out
}

func newLink(l netlink.Link, addrs map[int][]string) Link {
	a := l.Attrs()
	return Link{Index: a.Index, Name: a.Name, Type: l.Type(), MAC: a.HardwareAddr.String(), MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, Addresses: addrs[a.Index]}
}

// maxRoutes bounds what is read of a namespace's routes: a container may have made any number.
const maxRoutes = 5000

// routes lists the main table, or of it what leads to one of the addresses. It closes the handle, as it may leave its answer unread.
func (n *Network) routes(h *netlink.Handle, links []netlink.Link, to []netip.Addr) (out []Route) {
	defer h.Close()
	name := map[int]string{}
	for _, l := range links {
		name[l.Attrs().Index] = l.Attrs().Name
	}
	main := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	err := h.RouteListFilteredIter(netlink.FAMILY_ALL, main, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		whole := r.Dst == nil || r.Dst.IP.IsUnspecified() && isZeroMask(r.Dst)
		if to != nil && (whole || !slices.ContainsFunc(to, func(a netip.Addr) bool { return r.Dst.Contains(a.AsSlice()) })) {
			return true
		}
		if len(out) == maxRoutes {
			n.note("routes: %d were read, there are more", maxRoutes)
			return false
		}
		out = append(out, newRoute(r, whole, name[r.LinkIndex]))
		return true
	})
	if err != nil {
		n.note("routes: %v", err)
	}
	return out
}

func newRoute(r netlink.Route, whole bool, link string) Route {
	one := Route{To: "default", Link: link, Scope: r.Scope.String()}
	if !whole {
		one.To = r.Dst.String()
	}
	if r.Gw != nil {
		one.Via = r.Gw.String()
	}
	if r.Src != nil {
		one.From = r.Src.String()
	}
	if len(r.MultiPath) > 0 {
		one.Via = fmt.Sprintf("%d next hops", len(r.MultiPath))
	}
	return one
}

func isZeroMask(n *net.IPNet) bool { ones, _ := n.Mask.Size(); return ones == 0 }

// outside finds the links' other ends and what the host does with the container's packets.
func (m *machine) outside(t *target, n *Network, in *netlink.Handle, links []netlink.Link, fd int) {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		n.note("rtnetlink of the host: %v", err)
		return
	}
	defer host.Close()
	hostLinks, err := host.LinkList()
	if err != nil {
		n.note("links of the host: %v", err)
	}
	w := m.peers(t, n, in, links, host, hostLinks, fd)
	if len(w.addrs) == 0 {
		return
	}
	if to, err := netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		n.note("routes of the host: %v", err)
	} else {
		n.HostRoutes = n.routes(to, hostLinks, w.addrs)
	}
	n.Forwarding = map[string]bool{"ipv4": sysctl("net/ipv4/ip_forward"), "ipv6": sysctl("net/ipv6/conf/all/forwarding")}
	m.firewall(n, w)
}

func sysctl(name string) bool {
	b, err := os.ReadFile("/proc/sys/" + name)
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// peers fills in Link.Peer. A veth names its other end by index and the id of that end's namespace (IFLA_LINK,
// IFLA_LINK_NETNSID); the same id is what RTM_GETNSID gives for a namespace's fd.
func (m *machine) peers(t *target, n *Network, in *netlink.Handle, links []netlink.Link, host *netlink.Handle, hostLinks []netlink.Link, fd int) *who {
	w := &who{}
	for _, l := range n.Links {
		for _, a := range l.Addresses {
			if p, err := netip.ParsePrefix(a); err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
				w.addrs = append(w.addrs, p.Addr())
			}
		}
	}
	hostID := -1
	if self, err := os.Open("/proc/self/ns/net"); err == nil {
		if id, err := in.GetNetNsIdByFd(int(self.Fd())); err == nil {
			hostID = id
		}
		self.Close()
	}
	hostAddrs := addresses(host)
	for i, l := range links {
		a := l.Attrs()
		if a.ParentIndex == 0 || a.ParentIndex == a.Index {
			continue
		}
		p := &Peer{Index: a.ParentIndex, Where: "unknown"}
		n.Links[i].Peer = p
		switch {
		case a.NetNsID < 0:
			p.Where, p.Name = "this namespace", linkName(links, a.ParentIndex)
		case a.NetNsID == hostID:
			p.Where = "host"
			p.describe(hostLinks, hostAddrs)
			w.links = append(w.links, p.Name)
			if p.Bridge != "" {
				w.links = append(w.links, p.Bridge)
			}
		default:
			m.peerElsewhere(p, in, a.NetNsID)
		}
	}
	return w
}

func linkName(links []netlink.Link, index int) string {
	for _, l := range links {
		if l.Attrs().Index == index {
			return l.Attrs().Name
		}
	}
	return ""
}

func (p *Peer) describe(links []netlink.Link, addrs map[int][]string) {
	for _, l := range links {
		if l.Attrs().Index != p.Index {
			continue
		}
		p.Name, p.Addresses = l.Attrs().Name, addrs[p.Index]
		if master := l.Attrs().MasterIndex; master != 0 {
			p.Bridge, p.Addresses = linkName(links, master), addrs[master]
		}
	}
}

// maxNamespaces bounds the search for the namespace with an id.
const maxNamespaces = 256

// peerElsewhere looks through the other network namespaces of the machine.
func (m *machine) peerElsewhere(p *Peer, in *netlink.Handle, id int) {
	seen := map[uint64]bool{m.self.NS[KindNet]: true}
	for _, proc := range m.all {
		ns := proc.NS[KindNet]
		if ns == 0 || seen[ns] || len(seen) > maxNamespaces {
			continue
		}
		seen[ns] = true
		if dir, err := openProc(proc.PID); err == nil {
			fd, err := openat(dir.fd, "ns/net", unix.O_RDONLY)
			dir.close()
			if err != nil {
				continue
			}
			got, err := in.GetNetNsIdByFd(fd)
			if err == nil && got == id {
				p.Where = fmt.Sprintf("namespace %d", ns)
				if proc.Container != "" {
					p.Where += " (" + proc.Container + ")"
				}
				if h, err := netlink.NewHandleAt(netns.NsHandle(fd), unix.NETLINK_ROUTE); err == nil {
					links, _ := h.LinkList()
					p.describe(links, addresses(h))
					h.Close()
				}
			}
			unix.Close(fd)
		}
	}
}

// firewall reads nf_tables of the host, and the proxies that publish ports by copying.
func (m *machine) firewall(n *Network, w *who) {
	n.Ports = m.proxies(w)
	if legacy, err := os.ReadFile("/proc/net/ip_tables_names"); err == nil && len(legacy) > 0 {
		n.note("rules of iptables-legacy (tables %s) are not shown", strings.Join(strings.Fields(string(legacy)), ", "))
	}
	if !nftLoaded() {
		n.note("nf_tables is not loaded: no rules")
	} else if tables, err := readNFT(); err != nil {
		n.note("nf_tables: %v", err)
	} else {
		n.Rules = tables.apply(w)
		n.Ports = append(n.Ports, tables.published(w)...)
	}
	n.Ports = mergePorts(n.Ports)
}

// mergePorts puts the ways to one port together: rules for packets from outside, for those of the host, and a proxy.
func mergePorts(ports []Port) (out []Port) {
	for _, p := range ports {
		p.Reach = p.reach()
		i := slices.IndexFunc(out, func(q Port) bool {
			return q.Protocol == p.Protocol && q.Port == p.Port && q.ToPort == p.ToPort && q.To == p.To && q.Reach == p.Reach
		})
		if i >= 0 {
			if !strings.Contains(out[i].How, p.How) {
				out[i].How += ", " + p.How
			}
			continue
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), strings.Compare(a.Protocol, b.Protocol), a.Host.Compare(b.Host), a.To.Compare(b.To))
	})
	return out
}

func (p *Port) reach() string {
	switch {
	case p.Link != "":
		return "who comes in by " + p.Link
	case !p.Host.IsValid(), p.Host.IsUnspecified():
		return "everyone who can reach this host"
	case p.Host.IsLoopback():
		return "this host only"
	}
	return "who can reach " + p.Host.String()
}

// proxies are docker-proxy's, who have all they need to know on their command line.
func (m *machine) proxies(w *who) (out []Port) {
	var list []*Process
	for _, p := range m.all {
		if p.Name == "docker-proxy" && m.mayPublish(p) {
			copied := *p
			list = append(list, &copied)
		}
	}
	readCommands(list)
	for _, p := range list {
		args := map[string]string{}
		f := strings.Fields(p.Command)
		for i := 1; i+1 < len(f); i++ {
			args[strings.TrimLeft(f[i], "-")] = f[i+1]
		}
		to, err := netip.ParseAddr(args["container-ip"])
		if err != nil || !w.hasAddr(to) {
			continue
		}
		host, _ := netip.ParseAddr(args["host-ip"])
		out = append(out, Port{
			Protocol: Safe(args["proto"], 8), Host: host, Port: atoi(args["host-port"]),
			To: to, ToPort: atoi(args["container-port"]), How: fmt.Sprintf("docker-proxy (pid %d)", p.PID),
		})
	}
	return out
}

// mayPublish: a process of a container, or of anybody but root, may call itself what it likes, and publishes nothing.
func (m *machine) mayPublish(p *Process) bool {
	for _, kind := range []int{KindNet, KindPID, KindUser} {
		if p.NS[kind] != m.self.NS[kind] {
			return false
		}
	}
	return p.Container == "" && p.UID[1] == 0
}

// maxFDs bounds the search for the processes that hold sockets.
const maxFDs = 4096

// sockets lists what listens in the namespace; of the host's namespace what the container's processes hold.
func (m *machine) sockets(t *target) (out []Socket) {
	for _, proto := range []string{"tcp", "tcp6", "udp", "udp6", "udplite", "sctp"} {
		b, err := t.dir.read("net/" + proto)
		if err == nil && proto != "sctp" {
			out = append(out, parseSockets(proto, b)...)
		}
	}
	owners := m.socketOwners(t, len(out))
	for i := range out {
		if p := owners[out[i].inode]; p != nil {
			out[i].PID, out[i].Process = p.PID, p.Name
		}
	}
	if t.p.NS[KindNet] == m.self.NS[KindNet] {
		out = slices.DeleteFunc(out, func(s Socket) bool { return s.PID == 0 })
	}
	slices.SortFunc(out, func(a, b Socket) int {
		return cmp.Or(cmp.Compare(a.Address.Port(), b.Address.Port()), strings.Compare(a.Protocol, b.Protocol), a.Address.Compare(b.Address))
	})
	return out
}

func (m *machine) socketOwners(t *target, sockets int) map[uint64]*Process {
	owners := map[uint64]*Process{}
	if sockets == 0 {
		return owners
	}
	left := maxFDs
	for _, p := range t.procs {
		dir, err := openProc(p.PID)
		if err != nil {
			continue
		}
		fd, err := openat(dir.fd, "fd", unix.O_RDONLY|unix.O_DIRECTORY)
		if err == nil {
			f := os.NewFile(uintptr(fd), "fd")
			list, _ := f.Readdirnames(min(left, 1024) + 1)
			for _, n := range list {
				rest, ok := strings.CutPrefix(dir.readlink("fd/"+n), "socket:[")
				if inode, err := strconv.ParseUint(strings.TrimSuffix(rest, "]"), 10, 64); ok && err == nil && owners[inode] == nil {
					owners[inode] = p
				}
			}
			f.Close()
			left -= len(list)
		}
		dir.close()
		if left <= 0 {
			break
		}
	}
	return owners
}

// parseSockets reads /proc/PID/net/tcp and the like (proc_pid_net(5)): state 0A listens, an unconnected UDP socket is 07.
func parseSockets(proto string, b []byte) (out []Socket) {
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) < 10 || f[0] == "sl" {
			continue
		}
		listens := f[3] == "0A"
		if !strings.HasPrefix(proto, "tcp") {
			_, port, _ := strings.Cut(f[2], ":")
			listens = f[3] == "07" && port == "0000"
		}
		a, ok := hexAddress(f[1])
		if !listens || !ok {
			continue
		}
		inode, _ := strconv.ParseUint(f[9], 10, 64)
		out = append(out, Socket{Protocol: proto, Address: a, inode: inode})
	}
	return out
}

// hexAddress reads "0100007F:1F90": words of the machine's byte order, which is little endian on all that Vitro runs on.
func hexAddress(s string) (netip.AddrPort, bool) {
	addr, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(addr)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, uint16(n)), ok
}
