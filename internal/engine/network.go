package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
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

// Attachment is a network that a container is to be on, as asked for.
type Attachment struct {
	Network string     // name, or cni:NAME
	Aliases []string   `json:",omitempty"`
	IP      netip.Addr `json:",omitzero"`
	IP6     netip.Addr `json:",omitzero"`
	MAC     string     `json:",omitempty"`
}

// Words of --network that are no network of the container's own.
const (
	noneMode      = network.NoneNetwork
	hostMode      = network.HostNetwork
	joinedPrefix  = "container:"
	cniPrefix     = "cni:"
	networksFile  = "networks.json"
	cniResultFile = "cni.json" // in the run folder: what plugins made, by network
)

// wired tells whether the container has networks of its own.
func (h *HostConfig) wired() bool {
	return h.NetworkMode != noneMode && h.NetworkMode != hostMode && h.joined() == ""
}

// joined is the container whose network namespace is shared.
func (h *HostConfig) joined() string {
	id, _ := strings.CutPrefix(h.NetworkMode, joinedPrefix)
	if id == h.NetworkMode {
		return ""
	}
	return id
}

// Networks is the manager of the networks of this engine.
func (e *Engine) Networks() (*network.Manager, error) {
	return network.Open(network.Options{Root: e.Root, RunRoot: e.RunRoot})
}

func (e *Engine) cni() *cni.Client {
	return cni.New(cni.Options{CacheDir: filepath.Join(e.RunRoot, "network", "cni")})
}

// setPorts takes the ports that are published and exposed.
func (c *Container) setPorts(image map[string]struct{}, o CreateOptions) error {
	expose := func(p network.Port) {
		if c.Config.ExposedPorts == nil {
			c.Config.ExposedPorts = map[string]struct{}{}
		}
		c.Config.ExposedPorts[PortKey(p)] = struct{}{}
	}
	for _, arg := range slices.AppendSeq(slices.Clone(o.Expose), maps.Keys(image)) {
		ports, err := network.ParseExpose(arg)
		if err != nil {
			return err
		}
		for _, p := range ports {
			expose(p)
		}
	}
	h := &c.HostConfig
	for _, arg := range o.Publish {
		ports, err := network.ParsePorts(arg)
		if err != nil {
			return err
		}
		for _, p := range ports {
			expose(p)
			if h.PortBindings == nil {
				h.PortBindings = map[string][]PortBinding{}
			}
			h.PortBindings[PortKey(p)] = append(h.PortBindings[PortKey(p)], newBinding(p))
		}
	}
	return nil
}

// PortKey is Docker's name of a container's port: 80/tcp.
func PortKey(p network.Port) string { return strconv.Itoa(int(p.Port)) + "/" + p.Proto }

func newBinding(p network.Port) PortBinding {
	b := PortBinding{}
	if p.HostIP.IsValid() {
		b.HostIP = p.HostIP.String()
	}
	if p.HostPort != 0 {
		b.HostPort = strconv.Itoa(int(p.HostPort))
	}
	if p.HostEnd != 0 {
		b.HostPort += "-" + strconv.Itoa(int(p.HostEnd))
	}
	return b
}

// ports are those to publish, in the order of their numbers.
func (c *Container) ports() (out []network.Port, err error) {
	h := &c.HostConfig
	for key, bindings := range h.PortBindings {
		for _, b := range bindings {
			arg := b.HostPort + ":" + key
			if strings.Contains(b.HostIP, ":") {
				arg = "[" + b.HostIP + "]:" + arg
			} else if b.HostIP != "" {
				arg = b.HostIP + ":" + arg
			}
			p, err := network.ParsePorts(strings.TrimPrefix(arg, ":"))
			if err != nil {
				return nil, err
			}
			out = append(out, p...)
		}
	}
	for key := range c.Config.ExposedPorts {
		if _, bound := h.PortBindings[key]; bound || !h.PublishAllPorts {
			continue
		}
		p, err := network.ParseExpose(key)
		if err != nil {
			return nil, err
		}
		out = append(out, p...)
	}
	slices.SortStableFunc(out, func(a, b network.Port) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.HostPort, b.HostPort))
	})
	return out, nil
}

// setNetworks takes the networks, with Docker's rules about what does not go together.
func (c *Container) setNetworks(o CreateOptions) error {
	h, nets := &c.HostConfig, slices.Clone(o.Networks)
	if len(nets) == 0 {
		nets = []Attachment{{Network: pick(h.NetworkMode, noneMode)}}
	}
	for i := range nets {
		n := &nets[i]
		if n.Network == "default" {
			n.Network = network.DefaultNetwork
		}
		if slices.ContainsFunc(nets[:i], func(o Attachment) bool { return o.Network == n.Network }) {
			return fmt.Errorf("network %q is specified multiple times", n.Network)
		}
		if err := n.check(); err != nil {
			return err
		}
	}
	h.NetworkMode = nets[0].Network
	special := func(n Attachment) bool { return !(&HostConfig{NetworkMode: n.Network}).wired() }
	if len(nets) > 1 && slices.ContainsFunc(nets, special) {
		return errors.New("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
	}
	if !special(nets[0]) {
		c.Networks = nets
	}
	if err := c.checkMode(nets[0], o); err != nil {
		return err
	}
	return dns.CheckOptions(dns.Options{Servers: h.DNS, Search: h.DNSSearch, Opts: h.DNSOptions})
}

func (a *Attachment) check() error {
	if a.IP.IsValid() && !a.IP.Is4() {
		return fmt.Errorf("invalid IPv4 address: %s", a.IP)
	}
	if a.IP6.IsValid() && !a.IP6.Is6() {
		return fmt.Errorf("invalid IPv6 address: %s", a.IP6)
	}
	if _, err := net.ParseMAC(a.MAC); a.MAC != "" && err != nil {
		return fmt.Errorf("%s is not a valid mac address", a.MAC)
	}
	return nil
}

// checkMode refuses what has no meaning with host, none and container. Ports of a container on the host's network are
// dropped with a warning in Docker: that is the caller's to print.
func (c *Container) checkMode(n Attachment, o CreateOptions) error {
	h := &c.HostConfig
	if h.wired() {
		return nil
	}
	published := len(h.PortBindings) > 0 || h.PublishAllPorts
	joined := h.joined() != ""
	for _, conflict := range []struct {
		is   bool
		text string
	}{
		{joined && o.Hostname != "", "hostname and the network mode"},
		{joined && len(h.DNS)+len(h.DNSSearch)+len(h.DNSOptions) > 0, "dns and the network mode"},
		{joined && len(h.ExtraHosts) > 0, "custom host-to-IP mapping and the network mode"},
		{n.MAC != "", "mac-address and the network mode"},
		{joined && published, "port publishing and the container type network mode"},
		{h.NetworkMode == noneMode && published, "port publishing and the none type network mode"},
		{joined && len(o.Expose) > 0, "port exposing and the container type network mode"},
		{n.IP.IsValid() || n.IP6.IsValid() || len(n.Aliases) > 0, "--ip, --ip6, --network-alias and the network mode"},
	} {
		if conflict.is {
			return errors.New("conflicting options: " + conflict.text)
		}
	}
	return nil
}

// resolveNetworks finds the networks and the container that are named, before anything is made.
func (e *Engine) resolveNetworks(c *Container) error {
	h := &c.HostConfig
	if ref := h.joined(); ref != "" {
		l, err := e.Find(ref)
		if err != nil {
			return err
		}
		h.NetworkMode, c.Config.Hostname = joinedPrefix+l.ID, l.Config.Hostname
		return nil
	}
	if !h.wired() {
		return nil
	}
	for _, a := range h.ExtraHosts {
		if _, err := dns.ParseAddHost(a, []netip.Addr{netip.IPv4Unspecified()}); err != nil {
			return err
		}
	}
	m, err := e.Networks()
	if err != nil {
		return err
	}
	for i := range c.Networks {
		a := &c.Networks[i]
		if strings.HasPrefix(a.Network, cniPrefix) {
			continue // its file is read when the plugins run
		}
		n, err := FindNetwork(context.Background(), m, a.Network)
		if err != nil {
			return err
		}
		if i == 0 {
			h.NetworkMode = n.Name
		}
		a.Network = n.Name
	}
	return nil
}

// networksOf are the networks that a container is on, or will be when it starts.
func (e *Engine) networksOf(c *Container) []Attachment {
	var now []Attachment
	if b, err := os.ReadFile(e.dir(c.ID, networksFile)); err == nil && json.Unmarshal(b, &now) == nil {
		return now
	}
	return c.Networks
}

// netError is a failure of the container's networks: its exit status is 125, whatever errno is in it.
type netError struct{ error }

func (n netError) Unwrap() error { return n.error }

func netFailed(err error) error {
	return netError{fmt.Errorf("failed to set up container networking: %w", err)}
}

// wires is what a container has of networks while it runs, in its monitor.
type wires struct {
	e    *Engine
	c    *Container
	m    *network.Manager
	nets []Attachment
	held *network.Reservation // its host ports
	dns  *dns.Server
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
	defer ns.Close()
	served := make(chan error, 1)
	go func() { served <- w.serve(ns) }()
	own, gateways, err := w.connect(pid)
	if e := <-served; err == nil {
		err = e
	}
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
	var names dns.Names = dns.NewRecords(filepath.Join(w.e.RunRoot, "network", "endpoints"), w.c.ID)
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

// connect attaches to all networks. The first has the published ports.
func (w *wires) connect(pid int) (own, gateways []netip.Addr, err error) {
	plugins := w.plugins()
	made := map[string]*cni.Result{}
	var ports []network.Port
	if w.held != nil {
		ports = w.held.Ports
	}
	for i, a := range w.nets {
		ifName := ""
		if plugins { // the manager does not know of the plugins' interfaces
			ifName = "eth" + strconv.Itoa(i)
		}
		if name, ok := strings.CutPrefix(a.Network, cniPrefix); ok {
			r, err := w.e.cni().Add(context.Background(), cniAttachment(name, w.c.ID, pid, ifName, a, ports))
			if err != nil {
				return nil, nil, err
			}
			made[a.Network] = r
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
		ports = nil
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

func (e *Engine) request(c *Container, pid int, ifName string, a Attachment, ports []network.Port) network.Request {
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
	err := w.e.detach(w.c.ID)
	w.held.Close()
	return err
}

// detach takes a container off all networks, whether it runs or not. The price if there is none: two stats.
func (e *Engine) detach(id string) error {
	var errs []error
	ctx := context.Background()
	if _, err := os.Stat(filepath.Join(e.RunRoot, "network", "endpoints", id)); err == nil {
		m, err := e.Networks()
		if err == nil {
			err = m.DetachAll(ctx, id)
		}
		errs = append(errs, err)
	}
	if _, err := os.Stat(filepath.Join(e.RunRoot, "network", "cni")); err == nil {
		client := e.cni()
		attached, err := client.Attachments(id)
		errs = append(errs, err)
		for _, a := range attached {
			if _, err := os.Stat(a.NetNS); errors.Is(err, fs.ErrNotExist) {
				a.NetNS = ""
			}
			errs = append(errs, client.Del(ctx, a))
		}
	}
	return errors.Join(errs...)
}
