package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Reconcile makes the kernel agree with the records: it removes endpoints whose owner is gone, and makes again what
// somebody flushed or deleted: bridges, addresses, veths (if their container lives), rules. What cannot be repaired does not
// keep the rest from it.
func (m *Manager) Reconcile(ctx context.Context) (Report, error) {
	unlock, err := m.lock(ctx)
	if err != nil {
		return Report{}, err
	}
	defer unlock()
	r := Report{}
	var errs []error
	for _, step := range []func(*Report) error{m.reapEndpoints, m.reapLinks, m.repairBridges, m.repairEndpoints, m.reapIndex, m.reapStaged, m.repairRules, m.reapRoots, m.warn} {
		if err := step(&r); err != nil {
			errs = append(errs, fmt.Errorf("network reconcile: %w", err))
		}
	}
	return r, errors.Join(errs...)
}

func (r *Report) note(format string, args ...any) {
	r.Changes = append(r.Changes, fmt.Sprintf(format, args...))
}

// reapEndpoints: we hold the lock, so one that is being attached is one that a kill left.
func (m *Manager) reapEndpoints(r *Report) error {
	eps, err := m.endpoints(Filter{})
	if err != nil {
		return err
	}
	for _, e := range eps {
		if e.State == Attached && e.Alive() {
			r.Kept++
			continue
		}
		if err := m.detach(e); err != nil {
			return err
		}
		r.note("endpoint %s: removed, its owner is gone", e.label())
	}
	return nil
}

// reapLinks deletes bridges and veths that carry our mark and have no record.
func (m *Manager) reapLinks(r *Report) error {
	known := map[string]bool{}
	nets, err := m.networks()
	if err != nil {
		return err
	}
	for _, n := range nets {
		known[n.Link+" "+m.alias(n)] = true
	}
	eps, err := m.endpoints(Filter{})
	if err != nil {
		return err
	}
	for _, e := range eps {
		known[e.HostLink] = true
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("links: %w", err)
	}
	for _, l := range links {
		a := l.Attrs()
		bridge := l.Type() == "bridge" && strings.HasPrefix(a.Alias, m.opt.Table+":") && !known[a.Name+" "+a.Alias]
		veth := l.Type() == "veth" && strings.HasPrefix(a.Name, m.vethPrefix()) && len(a.Name) == 15 && !known[a.Name]
		if !bridge && !veth {
			continue
		}
		if err := deleteLink(a.Name); err != nil {
			return err
		}
		r.note("link %s: removed, it has no owner", a.Name)
	}
	return nil
}

func (m *Manager) repairBridges(r *Report) error {
	nets, err := m.networks()
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range nets {
		if n.Driver == DriverBridge {
			errs = append(errs, m.repairBridge(r, n))
		}
	}
	return errors.Join(errs...)
}

// repairBridge makes the bridge, but that of the default network only if somebody uses it.
func (m *Manager) repairBridge(r *Report, n *Network) error {
	br, err := m.bridge(n)
	if err != nil {
		return err
	}
	if br == nil {
		if eps, err := m.endpoints(Filter{Network: n.ID}); err != nil || len(eps) == 0 && n.Name == DefaultNetwork {
			return err
		}
		if err := m.addBridge(n); err != nil {
			return err
		}
		r.note("link %s: made", n.Link)
		return nil
	}
	if br.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(br); err != nil {
			return fmt.Errorf("link %s up: %w", n.Link, err)
		}
		r.note("link %s: set up", n.Link)
	}
	changed, err := m.configureBridge(n, br)
	if changed {
		r.note("link %s: addresses restored", n.Link)
	}
	return err
}

func (m *Manager) repairEndpoints(r *Report) error {
	eps, err := m.endpoints(Filter{})
	if err != nil {
		return err
	}
	nets, err := m.networks()
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range eps {
		n, err := find(nets, e.Network)
		if err != nil {
			errs = append(errs, m.detach(e))
			r.note("endpoint %s: removed, its network is gone", e.label())
			continue
		}
		changes, err := m.repairEndpoint(n, e)
		if err != nil {
			errs = append(errs, fmt.Errorf("endpoint %s: %w", e.label(), err))
		}
		for _, c := range changes {
			r.note("endpoint %s: %s", e.label(), c)
		}
	}
	return errors.Join(errs...)
}

// repairEndpoint makes the link again or puts it back into its bridge, and adds addresses and routes that are missing.
func (m *Manager) repairEndpoint(n *Network, e *Endpoint) (changes []string, err error) {
	ns, err := e.open()
	if err != nil {
		if !e.Alive() { // it has ended since we looked: who looks after it detaches it
			err = nil
		}
		return nil, err
	}
	defer ns.Close()
	made, err := m.repairLink(n, e, int(ns.Fd()))
	if err != nil {
		return nil, err
	}
	if made != "" {
		changes = append(changes, made)
		if err := m.writeEndpoint(e); err != nil {
			return changes, err
		}
		if n.Driver == DriverBridge {
			if err := noRouters(int(ns.Fd()), e.IfName); err != nil {
				return changes, err
			}
		}
	}
	return changes, inside(int(ns.Fd()), func(h *netlink.Handle) error {
		changed, err := configure(h, e)
		if (changed || made != "") && e.HostLink != "" {
			settle(e.HostLink, n.Link)
		}
		if changed {
			changes = append(changes, "addresses and routes added")
			return m.writeEndpoint(e)
		}
		return err
	})
}

func (m *Manager) repairLink(n *Network, e *Endpoint, nsfd int) (did string, err error) {
	if n.Driver != DriverBridge {
		gone := false
		err := inside(nsfd, func(h *netlink.Handle) error {
			_, err := h.LinkByName(e.IfName)
			gone = err != nil
			return nil
		})
		if err != nil || !gone {
			return "", err
		}
		e.Index = 0
		return "link made", addVlan(n, e, nsfd)
	}
	br, err := m.bridge(n)
	if err != nil {
		return "", err
	}
	if br == nil {
		return "", fmt.Errorf("link %s: %w", n.Link, unix.ENODEV)
	}
	l, err := linkByName(e.HostLink)
	if err == nil && l == nil {
		err = e.deleteRenamed()
	}
	if err != nil {
		return "", err
	}
	switch {
	case l == nil:
		if err := addVeth(n, e, br.Attrs().Index, nsfd); err != nil {
			return "", err
		}
		return "veth made", setPort(n, e)
	case l.Attrs().MasterIndex != br.Attrs().Index:
		did = "veth put into " + n.Link
	case l.Attrs().Flags&net.FlagUp == 0:
		did = "veth set up"
	case !bytes.Equal(l.Attrs().HardwareAddr, n.mac()):
		did = "veth has its MAC again"
	default:
		return "", setPort(n, e) // it costs less than to look whether somebody changed it
	}
	if err := errors.Join(netlink.LinkSetHardwareAddr(l, n.mac()), netlink.LinkSetMaster(l, br), netlink.LinkSetUp(l)); err != nil {
		return "", err
	}
	return did, setPort(n, e)
}

// deleteRenamed deletes the endpoint's veth if somebody gave the host's end another name: it has kept its index, and its peer's.
func (e *Endpoint) deleteRenamed() error {
	l, err := netlink.LinkByIndex(e.HostIndex)
	if err != nil || l.Type() != "veth" || l.Attrs().ParentIndex != e.Index || strings.HasPrefix(l.Attrs().Name, e.HostLink[:vethPrefixLen]) {
		return nil
	}
	return deleteLink(l.Attrs().Name)
}

// reapIndex removes leases and ports whose record is gone or says something else.
func (m *Manager) reapIndex(r *Report) error {
	eps, err := m.endpoints(Filter{})
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, e := range eps {
		known[m.leasePath(e, e.IP4.Addr().String())] = true
		known[m.leasePath(e, e.IP6.Addr().String())] = true
		for _, p := range e.Ports {
			for _, at := range e.HostAddrs(p) {
				known[filepath.Join(m.portDir(p.Proto, p.HostPort), at.Addr().String())] = true
			}
		}
	}
	for _, kind := range []string{"leases", "ports"} {
		err := filepath.WalkDir(m.run(kind), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || known[path] || strings.HasPrefix(d.Name(), "last") {
				return err
			}
			r.note("%s: removed, it has no owner", strings.TrimPrefix(path, m.run()+"/"))
			return os.Remove(path)
		})
		if err != nil {
			return err
		}
		dirs, _ := filepath.Glob(m.run(kind, "*"))
		for _, d := range dirs {
			os.Remove(d) // the empty ones
		}
	}
	return nil
}

// reapStaged removes records that a kill kept from being renamed: who writes one holds the lock, which is ours.
func (m *Manager) reapStaged(r *Report) error {
	for _, in := range []struct{ dir, pattern string }{{m.root(), ".*.json.new"}, {m.run("endpoints"), "*/.*.json.new"}} {
		names, err := fs.Glob(os.DirFS(in.dir), in.pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			path := filepath.Join(in.dir, name)
			if err := os.Remove(path); err != nil {
				return err
			}
			r.note("%s: removed, it was never finished", path)
			if dir := filepath.Dir(path); dir != in.dir {
				os.Remove(dir) // if it is empty
			}
		}
	}
	return nil
}

func (m *Manager) repairRules(r *Report) error {
	changes, err := m.setRules()
	r.Changes = append(r.Changes, changes...)
	return err
}

// reapRoots removes tables and bridges of roots whose folder is no more: nobody else would. Such a root is known by its table, which names it,
// and by the bridges that carry the table's name. While one of them has a port, a container lives there, and all stays.
func (m *Manager) reapRoots(r *Report) error {
	tables, err := lostTables()
	if err != nil || len(tables) == 0 {
		return err
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("links: %w", err)
	}
	ports := map[int]bool{}
	for _, l := range links {
		ports[l.Attrs().MasterIndex] = true
	}
	for _, t := range tables {
		var bridges []string
		busy := t == m.opt.Table
		for _, l := range links {
			if a := l.Attrs(); l.Type() == "bridge" && strings.HasPrefix(a.Alias, t+":") {
				bridges = append(bridges, a.Name)
				busy = busy || ports[a.Index]
			}
		}
		if busy {
			continue
		}
		for _, name := range bridges {
			if err := deleteLink(name); err != nil {
				return err
			}
			r.note("link %s: removed, its root is gone", name)
		}
		if err := (&Manager{opt: Options{Table: t}}).deleteTable(); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("nft table inet %s: %w", t, err)
		}
		r.note("nft table inet %s: removed, its root is gone", t)
	}
	return nil
}

// lostTables are the names of tables of roots that are not there any more.
func lostTables() ([]string, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	all, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("nft tables: %w", err)
	}
	var lost []string
	for _, t := range all {
		if !strings.HasPrefix(t.Name, defaultTable+"-") {
			continue
		}
		els, err := c.GetSetElements(&nftables.Set{Table: t, Name: rootSet, KeyType: nftables.TypeIFName})
		if err != nil || len(els) == 0 || !filepath.IsAbs(els[0].Comment) || tableOf(els[0].Comment) != t.Name {
			continue // not made by us, or by an older vitro
		}
		if _, err := os.Lstat(els[0].Comment); errors.Is(err, fs.ErrNotExist) {
			lost = append(lost, t.Name)
		}
	}
	return lost, nil
}

// warn looks for other tables' chains of policy drop: to accept a packet, all have to.
func (m *Manager) warn(r *Report) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	all, err := c.ListChains()
	if err != nil {
		return fmt.Errorf("nft chains: %w", err)
	}
	names := map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet"}
	for _, ch := range all {
		f, ip := names[ch.Table.Family]
		if ip && ch.Hooknum != nil && *ch.Hooknum == *nftables.ChainHookForward && ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop {
			r.Warnings = append(r.Warnings, fmt.Sprintf("nft table %s %s: chain %s drops what is forwarded and not allowed there, containers' traffic too",
				f, ch.Table.Name, ch.Name))
		}
	}
	return nil
}

// setRules makes the table what the records want. No networks: no table.
func (m *Manager) setRules() ([]string, error) {
	want, err := m.wantedRules()
	if err != nil {
		return nil, err
	}
	if len(want) > 0 {
		changes, err := m.setTable(want)
		if err == nil && len(changes) > 0 {
			forgetStrays(want)
		}
		return changes, err
	}
	if ok, err := m.hasTable(); !ok {
		return nil, err
	}
	return []string{"nft table inet " + m.opt.Table + ": removed, there are no networks"}, m.deleteTable()
}

// wantedRules are the elements for all bridges that there are, and all endpoints that are attached.
func (m *Manager) wantedRules() ([]element, error) {
	nets, err := m.networks()
	if err != nil {
		return nil, err
	}
	var want []element
	for _, n := range nets {
		if n.Driver != DriverBridge {
			continue
		}
		// One that somebody else has taken the name of has no rules.
		if br, err := m.bridge(n); err == nil && br != nil {
			want = append(want, networkElements(n)...)
		}
	}
	eps, err := m.Endpoints(Filter{})
	if err != nil {
		return nil, err
	}
	for _, e := range eps {
		want = append(want, endpointElements(e)...)
	}
	sortElements(want)
	return want, nil
}
