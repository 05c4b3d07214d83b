package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"vitro/internal/network"
	"vitro/internal/network/cni"
	"vitro/internal/network/dns"
)

// wires is what a container has of networks while it runs, in its monitor.
type wires struct {
	e    *Engine
	c    *Container
	m    *network.Manager
	nets []Attachment
	held *network.Reservation // its host ports
	dns  *dns.Server
	ns   *os.File // the container's namespace, for plugins: some find out in it what to undo, and it may end before them
}

// reservePorts takes the host's ports for a container that is about to start. It is nil for one without networks of its own.
func (e *Engine) reservePorts(c *Container) (*wires, error) {
	if !c.HostConfig.wired() {
		return nil, nil
	}
	m, err := e.Networks()
	if err != nil {
		return nil, netFailed(err)
	}
	w := &wires{e: e, c: c, m: m, nets: e.networksOf(c)}
	ports, err := c.ports()
	if err != nil {
		return nil, netFailed(err)
	}
	if len(ports) > 0 {
		if w.held, err = m.Reserve(context.Background(), ports); err != nil {
			return nil, netFailed(err)
		}
	}
	return w, nil
}

// attach puts the init, which waits, on its networks, with a name server in its namespace. After an error nothing is left.
func (w *wires) attach(pid int) error {
	ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return netFailed(err)
	}
	if w.plugins() {
		w.ns = ns
	} else {
		defer ns.Close()
	}
	served := make(chan error, 1)
	go func() { served <- w.serve(ns) }()
	own, gateways, err := w.connect(pid)
	if e := <-served; err == nil {
		err = e
	}
	w.e.namesChanged()
	if err == nil {
		err = w.e.writeHosts(w.c, own, gateways)
	}
	if err != nil {
		return errors.Join(netFailed(err), w.close())
	}
	return nil
}

func (w *wires) serve(ns *os.File) error {
	conf, err := resolver(w.c)
	if err != nil {
		return err
	}
	var names dns.Names = dns.NewRecords(w.e.endpointsDir(), w.c.ID)
	if w.plugins() {
		names = pluginNames{names}
	}
	w.dns, err = dns.Serve(ns, dns.Config{Upstreams: conf.Upstreams, NDots: conf.NDots, Names: names})
	return err
}

// pluginNames are for a container on a plugin's network, of which there is no endpoint record: it is taken to lead out.
type pluginNames struct{ dns.Names }

// Internal implements dns.Names.
func (pluginNames) Internal() bool { return false }

// plugins tells whether one of the networks is a plugin's.
func (w *wires) plugins() bool {
	return slices.ContainsFunc(w.nets, func(a Attachment) bool { return strings.HasPrefix(a.Network, cniPrefix) })
}

// connect attaches to all networks. The first that can publish has the ports.
func (w *wires) connect(pid int) (own, gateways []netip.Addr, err error) {
	plugins := w.plugins()
	made := map[string]*cniResult{}
	publisher := -1
	if w.held != nil {
		publisher = w.publisher()
	}
	for i, a := range w.nets {
		var ports []network.Port
		if i == publisher {
			ports = w.held.Ports
		}
		ifName := ""
		if plugins { // the manager does not know of the plugins' interfaces
			ifName = "eth" + strconv.Itoa(i)
		}
		if name, ok := strings.CutPrefix(a.Network, cniPrefix); ok {
			r, err := w.e.cni().Add(context.Background(), cniAttachment(name, w.c.ID, pid, ifName, a, ports))
			if err != nil {
				return nil, nil, err
			}
			made[a.Network] = &cniResult{r, len(ports) > 0}
			for _, p := range r.IPs {
				own = append(own, p.Addr())
			}
			gateways = append(gateways, r.Gateways...)
		} else {
			ep, err := w.m.Attach(context.Background(), w.e.request(w.c, pid, ifName, a, ports))
			if err != nil {
				return nil, nil, err
			}
			own = append(own, addresses(ep)...)
			gateways = append(gateways, gatewaysOf(ep)...)
		}
	}
	if plugins {
		b, err := json.Marshal(made)
		if err == nil {
			err = os.WriteFile(w.e.runDir(w.c.ID, cniResultFile), b, 0o600)
		}
		return own, gateways, err
	}
	return own, gateways, nil
}

// cniResult is what a plugin gave, and whether it has the published ports.
type cniResult struct {
	*cni.Result
	Publishes bool
}

// publisher is the place in nets of the network with the published ports: the first that leads out, which has the default route, too. If none
// does it is the first, which then says why.
func (w *wires) publisher() int {
	return max(0, slices.IndexFunc(w.nets, func(a Attachment) bool {
		if strings.HasPrefix(a.Network, cniPrefix) {
			return true
		}
		n, err := w.m.Get(context.Background(), a.Network)
		return err == nil && n.Driver == network.DriverBridge && !n.Internal
	}))
}

func (e *Engine) request(c *Container, pid int, ifName string, a Attachment, ports []network.Port) network.Request {
	if h := c.Config.Hostname; h != c.Name && !slices.Contains(a.Aliases, h) { // Docker's DNSNames have it
		a.Aliases = append(slices.Clip(a.Aliases), h)
	}
	return network.Request{
		Container: c.ID, Name: c.Name, Network: a.Network, PID: pid, IfName: ifName, MAC: a.MAC, IP4: a.IP, IP6: a.IP6,
		Aliases: a.Aliases, Ports: ports, Reserved: len(ports) > 0,
	}
}

func cniAttachment(name, id string, pid int, ifName string, a Attachment, ports []network.Port) cni.Attachment {
	out := cni.Attachment{Network: name, Container: id, NetNS: "/proc/" + strconv.Itoa(pid) + "/ns/net", IfName: ifName, MAC: a.MAC, Aliases: a.Aliases}
	for _, ip := range []netip.Addr{a.IP, a.IP6} {
		if ip.IsValid() {
			out.IPs = append(out.IPs, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	for _, p := range ports {
		m := cni.Port{HostPort: p.HostPort, ContainerPort: p.Port, Protocol: p.Proto}
		if p.HostIP.IsValid() {
			m.HostIP = p.HostIP.String()
		}
		out.Ports = append(out.Ports, m)
	}
	return out
}

func addresses(ep *network.Endpoint) (out []netip.Addr) {
	for _, p := range []netip.Prefix{ep.IP4, ep.IP6} {
		if p.IsValid() {
			out = append(out, p.Addr())
		}
	}
	return out
}

func gatewaysOf(ep *network.Endpoint) (out []netip.Addr) {
	for _, a := range []netip.Addr{ep.Gateway4, ep.Gateway6} {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// close undoes reservePorts and attach. The name server's sockets hold the namespace, so it goes first.
func (w *wires) close() error {
	if w == nil {
		return nil
	}
	if w.dns != nil {
		w.dns.Close()
		w.dns = nil
	}
	err := w.e.detachFrom(w.c.ID, w.ns)
	w.held.Close()
	if w.ns != nil {
		w.ns.Close()
		w.ns = nil
	}
	return err
}

// detach takes a container off all networks, whether it runs or not. The price if there is none: two stats.
func (e *Engine) detach(id string) error { return e.detachFrom(id, nil) }

// detachFrom is detach by who holds the container's namespace, which may be nil.
func (e *Engine) detachFrom(id string, ns *os.File) error {
	var errs []error
	ctx := context.Background()
	if _, err := os.Stat(filepath.Join(e.endpointsDir(), id)); err == nil {
		m, err := e.Networks()
		if err == nil {
			err = m.DetachAll(ctx, id)
		}
		e.namesChanged()
		errs = append(errs, err)
	}
	if _, err := os.Stat(e.cniDir()); err == nil {
		client := e.cni()
		attached, err := client.Attachments(id)
		errs = append(errs, err)
		for _, a := range attached {
			if ns != nil {
				a.NetNS = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
			} else if _, err := os.Stat(a.NetNS); errors.Is(err, fs.ErrNotExist) {
				a.NetNS = ""
			}
			errs = append(errs, client.Del(ctx, a))
		}
	}
	return errors.Join(errs...)
}
