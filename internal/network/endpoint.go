package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"vitro/internal/sys"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Attach gives a namespace an interface on a network: addresses, routes, published ports. After an error nothing is left.
// Networks none and host are refused: they are a choice of namespace, made when a container starts.
func (m *Manager) Attach(ctx context.Context, r Request) (*Endpoint, error) {
	e, err := m.attach(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("network %s: container %s: %w", r.Network, cmp.Or(r.Name, r.Container), err)
	}
	return e, nil
}

func (m *Manager) attach(ctx context.Context, r Request) (*Endpoint, error) {
	if err := checkName(r.Container); err != nil {
		return nil, err
	}
	ns, owner, err := openNetNS(r)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if !r.Reserved && len(r.Ports) > 0 {
		held, err := m.Reserve(ctx, r.Ports)
		if err != nil {
			return nil, err
		}
		defer held.Close()
		r.Ports = held.Ports
	}
	n, err := m.Get(ctx, r.Network)
	if err != nil {
		return nil, err
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := os.Stat(m.root(n.ID + ".json")); err != nil {
		return nil, fmt.Errorf("it was removed: %w", ErrNotFound)
	}
	e, err := m.newEndpoint(n, r)
	if err != nil {
		return nil, err
	}
	e.PID, e.Start, e.NetNS = owner.PID, owner.Start, owner.NetNS
	var t txn
	t.inject = m.inject
	defer t.rollback()
	if err := m.build(&t, n, e, r, int(ns.Fd())); err != nil {
		return nil, err
	}
	t.commit()
	return e, nil
}

// openNetNS opens the namespace once, and gives its identity. The process is looked at after that, so that it cannot be
// another one with the same pid.
func openNetNS(r Request) (*os.File, *Endpoint, error) {
	e := &Endpoint{PID: r.PID}
	e.NetNS.Path = cmp.Or(r.NetNS, "/proc/"+strconv.Itoa(r.PID)+"/ns/net")
	if r.PID == 0 && r.NetNS == "" {
		return nil, nil, errors.New("no process and no network namespace given")
	}
	f, err := os.Open(e.NetNS.Path)
	if err != nil {
		return nil, nil, fmt.Errorf("network namespace: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("network namespace: %w", err)
	}
	e.NetNS.Dev, e.NetNS.Ino = st.Dev, st.Ino
	if r.PID > 0 {
		st, ok := sys.ReadProcStat(r.PID)
		if !ok || st.Dead() {
			f.Close()
			return nil, nil, fmt.Errorf("process %d has ended", r.PID)
		}
		e.Start = st.Start
	}
	var own unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &own); err == nil && own.Dev == st.Dev && own.Ino == st.Ino {
		f.Close()
		return nil, nil, errors.New("the container shares the host's network namespace")
	}
	return f, e, nil
}

// newEndpoint checks the request against the network and the container's other endpoints.
func (m *Manager) newEndpoint(n *Network, r Request) (*Endpoint, error) {
	switch n.Driver {
	case DriverHost, DriverNone:
		return nil, fmt.Errorf("driver %s: a container is started with it, not connected to it", n.Driver)
	case DriverMacvlan, DriverIPvlan:
		if len(r.Ports) > 0 {
			return nil, fmt.Errorf("--publish: containers on driver %s are reached at their own addresses", n.Driver)
		}
	}
	for _, p := range r.Ports {
		if p.HostPort == 0 {
			return nil, fmt.Errorf("--publish %d: not reserved", p.Port)
		}
		if n.Driver == DriverBridge && !n.Publishes(p) {
			why := "no subnet of this family"
			if p.HostIP.IsLoopback() && p.HostIP.Is6() {
				why = "no way back to ::1"
			}
			return nil, fmt.Errorf("--publish %s:%d: network %s has %s", netip.AddrPortFrom(p.HostIP, p.HostPort), p.Port, n.Name, why)
		}
	}
	if n.Internal && len(r.Ports) > 0 {
		return nil, fmt.Errorf("--publish: network %s is internal", n.Name)
	}
	e := &Endpoint{
		ID: newID(), Container: r.Container, Name: r.Name, Network: n.ID, NetworkName: n.Name, Driver: n.Driver,
		State: Attaching, IfName: r.IfName, MAC: r.MAC, Internal: n.Internal, Aliases: r.Aliases, Ports: slices.Clone(r.Ports),
	}
	if n.Driver == DriverBridge {
		e.HostLink = m.vethPrefix() + e.ID[:7]
		bindDefault(n, e.Ports)
	}
	if e.MAC != "" {
		mac, err := net.ParseMAC(e.MAC)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return nil, fmt.Errorf("--mac-address %s: not a unicast Ethernet address", e.MAC)
		}
		e.MAC = mac.String()
	}
	others, err := m.endpoints(Filter{Container: r.Container})
	if err != nil {
		return nil, err
	}
	for _, o := range others {
		if o.State == Attached && o.Alive() {
			if o.Network == n.ID {
				return nil, fmt.Errorf("endpoint with name %s %w in network %s", cmp.Or(o.Name, o.Container), ErrExists, n.Name)
			}
			continue
		}
		if err := m.detach(o); err != nil { // of an earlier run
			return nil, err
		}
	}
	return e, checkIfNames(n, e, others)
}

func checkIfNames(n *Network, e *Endpoint, others []*Endpoint) error {
	used := map[string]bool{}
	for _, o := range others {
		used[o.IfName] = o.Alive()
	}
	if e.IfName != "" {
		if used[e.IfName] {
			return fmt.Errorf("interface %s: the container has one of this name", e.IfName)
		}
		return checkIfName(e.IfName)
	}
	prefix := cmp.Or(n.Options[OptIfPrefix], defaultIfPrefix)
	for i := 0; e.IfName == "" || used[e.IfName]; i++ {
		e.IfName = prefix + strconv.Itoa(i)
	}
	return nil
}

// bindDefault puts the network's host_binding_ipv4 on ports without an address.
func bindDefault(n *Network, ports []Port) {
	ip, err := netip.ParseAddr(n.Options[OptHostBinding])
	for i := range ports {
		if err == nil && !ports[i].HostIP.IsValid() {
			ports[i].HostIP = ip
		}
	}
}

// build makes the endpoint: records first, so that each thing in the kernel has an owner on disk.
func (m *Manager) build(t *txn, n *Network, e *Endpoint, r Request, nsfd int) error {
	// On failure, also of a part, all leases go.
	t.undo = append(t.undo, func() { m.dropLease(e, e.IP4); m.dropLease(e, e.IP6) })
	if err := t.do("addresses", func() error { return m.giveAddresses(n, e, r) }, nil); err != nil {
		return err
	}
	if n.Driver == DriverBridge && !r.Again {
		for _, p := range []netip.Prefix{e.IP4, e.IP6} {
			if p.IsValid() {
				forgetAddr(p.Addr())
			}
		}
	}
	t.undo = append(t.undo, func() { m.dropPorts(e) })
	if err := t.do("ports", func() error { return m.indexPorts(e) }, nil); err != nil {
		return err
	}
	if err := t.do("record", func() error { return m.writeEndpoint(e) }, func() { m.removeEndpoint(e) }); err != nil {
		return err
	}
	if err := m.buildLink(t, n, e, nsfd); err != nil {
		return err
	}
	err := t.do("inside", func() error {
		if n.Driver == DriverBridge {
			if err := noRouters(nsfd, e.IfName); err != nil {
				return err
			}
		}
		return inside(nsfd, func(h *netlink.Handle) error {
			_, err := configure(h, e)
			return err
		})
	}, nil)
	if err != nil {
		return err
	}
	if n.Driver == DriverBridge {
		settle(e.HostLink, n.Link)
	}
	if els := endpointElements(e); len(els) > 0 {
		err := t.do("rules", func() error { return m.publish(els) }, func() { m.removeRules(els) })
		if err != nil {
			return err
		}
		flushUDP(e.Ports)
	}
	return t.do("attached", func() error {
		e.State = Attached
		return m.writeEndpoint(e)
	}, nil)
}

// publish adds elements, and makes the table first if somebody flushed it.
func (m *Manager) publish(els []element) error {
	err := m.changeRules(els, nil)
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if _, err := m.setRules(); err != nil {
		return err
	}
	return m.changeRules(els, nil)
}

func (m *Manager) buildLink(t *txn, n *Network, e *Endpoint, nsfd int) error {
	if n.Driver == DriverBridge {
		return m.buildVeth(t, n, e, nsfd)
	}
	return t.do("link", func() error { return addVlan(n, e, nsfd) }, func() { deleteInside(e, nsfd) })
}

func (m *Manager) buildVeth(t *txn, n *Network, e *Endpoint, nsfd int) error {
	br, err := m.ensure(t, n, len(e.Ports) > 0)
	if err != nil {
		return err
	}
	e.MTU = cmp.Or(n.mtu(), br.Attrs().MTU)
	err = t.do("veth", func() error { return addVeth(n, e, br.Attrs().Index, nsfd) }, func() { deleteLink(e.HostLink) })
	if err != nil {
		return err
	}
	return t.do("port", func() error { return setPort(n, e) }, nil)
}

// giveAddresses takes a lease of each of the network's subnets.
func (m *Manager) giveAddresses(n *Network, e *Endpoint, r Request) (err error) {
	want := map[string]netip.Addr{"4": r.IP4.Unmap(), "6": r.IP6}
	for _, s := range n.Subnets {
		f := family(s.Prefix.Addr())
		p, err := m.lease(e, s, want[f])
		if err != nil {
			return err
		}
		delete(want, f)
		gw := s.Gateway
		if n.Internal {
			gw = netip.Addr{}
		}
		if f == "4" {
			e.IP4, e.Gateway4 = p, gw
		} else {
			e.IP6, e.Gateway6 = p, gw
		}
	}
	for f, a := range want {
		if a.IsValid() {
			return fmt.Errorf("%s: network %s has no IPv%s subnet", a, n.Name, f)
		}
	}
	e.MAC = cmp.Or(e.MAC, macFor(e))
	return nil
}

// macFor is docker's: locally administered, made of the IPv4 address, so that who gets the address again has the MAC
// that its neighbours know.
func macFor(e *Endpoint) string {
	b := []byte{0x02, 0x42, 0, 0, 0, 0}
	if e.IP4.IsValid() {
		copy(b[2:], e.IP4.Addr().AsSlice())
	} else {
		copy(b[2:], hash(e.Container + e.Network)[:4])
	}
	return net.HardwareAddr(b).String()
}

func deleteInside(e *Endpoint, nsfd int) error {
	return inside(nsfd, func(h *netlink.Handle) error {
		l, err := h.LinkByName(e.IfName)
		if err != nil {
			return nil
		}
		return h.LinkDel(l)
	})
}

// Rename notes a container's new name in its endpoints.
func (m *Manager) Rename(ctx context.Context, container, name string) error {
	if err := checkName(container); err != nil {
		return err
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	eps, err := m.endpoints(Filter{Container: container})
	for _, e := range eps {
		e.Name = name
		err = errors.Join(err, m.writeEndpoint(e))
	}
	return err
}

// Detach undoes Attach, whether the namespace is still there or not. No such endpoint is no error.
func (m *Manager) Detach(ctx context.Context, container, network string) error {
	n, err := m.Get(ctx, network)
	if err != nil {
		return err
	}
	return m.detachAll(ctx, Filter{Container: container, Network: n.ID})
}

// DetachAll is Detach from every network.
func (m *Manager) DetachAll(ctx context.Context, container string) error {
	return m.detachAll(ctx, Filter{Container: container})
}

// detachAll deletes links without the lock: the kernel waits some 20 ms for RCU there, and many containers end at once.
func (m *Manager) detachAll(ctx context.Context, f Filter) error {
	if err := checkName(f.Container); err != nil {
		return err
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	eps, err := m.endpoints(f)
	var errs []error
	for _, e := range eps {
		e.State = Detaching
		errs = append(errs, m.writeEndpoint(e), m.at("detaching"), m.unpublish(e), m.at("unpublished"))
	}
	unlock()
	if err := errors.Join(append(errs, err)...); err != nil || len(eps) == 0 {
		return err
	}
	for _, e := range eps {
		errs = append(errs, m.deleteLinkOf(e), m.at("link deleted"))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if unlock, err = m.lock(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	defer unlock()
	for _, e := range eps {
		errs = append(errs, m.forget(e))
	}
	if f.Network != "" {
		errs = append(errs, m.moveDefaultRoute(f.Container))
	}
	return errors.Join(errs...)
}

// leave takes the bridge of the default network down, which stays between containers as docker0 does, and the table if no network needs
// it. Attach makes both again.
func (m *Manager) leave() error {
	eps, err := m.endpoints(Filter{})
	if err != nil || len(eps) > 0 {
		return err
	}
	nets, err := m.networks()
	if err != nil {
		return err
	}
	others := false
	for _, n := range nets {
		switch {
		case n.Driver != DriverBridge:
		case n.Name != DefaultNetwork:
			others = true
		default:
			err = errors.Join(err, m.removeRules(networkElements(n)), m.removeBridge(n))
		}
	}
	if has, herr := m.hasTable(); herr != nil || !has || others {
		return errors.Join(err, herr)
	}
	return errors.Join(err, m.deleteTable())
}

// detach is all of it, under the lock, for what an earlier run or a kill left.
func (m *Manager) detach(e *Endpoint) error {
	if err := m.unpublish(e); err != nil {
		return err
	}
	if err := m.deleteLinkOf(e); err != nil {
		return err
	}
	return m.forget(e)
}

func (m *Manager) unpublish(e *Endpoint) error {
	els := endpointElements(e)
	if len(els) == 0 {
		return nil
	}
	if err := m.removeRules(els); err != nil {
		return fmt.Errorf("endpoint %s: %w", e.label(), err)
	}
	flushUDP(e.Ports)
	return nil
}

func (m *Manager) deleteLinkOf(e *Endpoint) (err error) {
	if e.HostLink != "" {
		err = deleteLink(e.HostLink)
	} else if e.Alive() { // else the link has gone with its namespace
		var ns *os.File
		if ns, err = e.open(); err == nil {
			err = errors.Join(deleteInside(e, int(ns.Fd())), ns.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("endpoint %s: %w", e.label(), err)
	}
	return nil
}

// forget takes the record last: what a kill leaves is found by it. If there is another one by now, it is not ours.
func (m *Manager) forget(e *Endpoint) error {
	now := &Endpoint{}
	if err := readRecord(m.endpointPath(e.Container, e.Network), now); err != nil || now.ID != e.ID {
		return nil
	}
	m.dropLease(e, e.IP4)
	m.dropLease(e, e.IP6)
	m.dropPorts(e)
	if err := m.at("index dropped"); err != nil {
		return err
	}
	if err := m.removeEndpoint(e); err != nil {
		return fmt.Errorf("endpoint %s: %w", e.label(), err)
	}
	return nil
}

// open opens the endpoint's namespace if the path still leads to it.
func (e *Endpoint) open() (*os.File, error) {
	f, err := os.Open(e.NetNS.Path)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Dev != e.NetNS.Dev || st.Ino != e.NetNS.Ino {
		f.Close()
		return nil, fmt.Errorf("%s: not the endpoint's namespace any more", e.NetNS.Path)
	}
	return f, nil
}

// moveDefaultRoute lets a container that lost the network of its default route go out through another one.
func (m *Manager) moveDefaultRoute(container string) error {
	eps, err := m.Endpoints(Filter{Container: container})
	if err != nil {
		return err
	}
	for _, e := range eps {
		if !e.Gateway4.IsValid() && !e.Gateway6.IsValid() || !e.Alive() {
			continue
		}
		ns, err := e.open()
		if err != nil && !e.Alive() {
			continue
		}
		if err != nil {
			return err
		}
		err = inside(int(ns.Fd()), func(h *netlink.Handle) error {
			_, err := configure(h, e)
			return err
		})
		ns.Close()
		return err
	}
	return nil
}
