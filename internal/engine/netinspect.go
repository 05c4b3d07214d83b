package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"vitro/internal/network"
	"vitro/internal/network/cni"
)

// NetworkSettings is what docker inspect says of a container's networks. The fields of one endpoint at the top are those
// of the network bridge.
type NetworkSettings struct {
	SandboxKey string
	Ports      map[string][]PortBinding // nil: exposed only
	EndpointAddresses
	Networks map[string]*EndpointSettings
}

// EndpointAddresses are the parts that Docker prints twice.
type EndpointAddresses struct {
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	MacAddress          string
}

// EndpointSettings is a container on a network.
type EndpointSettings struct {
	IPAMConfig *EndpointIPAM
	Links      []string
	Aliases    []string
	DriverOpts map[string]string
	GwPriority int
	NetworkID  string
	EndpointAddresses
	DNSNames []string
}

// EndpointIPAM is what was asked for.
type EndpointIPAM struct {
	IPv4Address string `json:",omitempty"`
	IPv6Address string `json:",omitempty"`
}

// networkSettings describes the networks of a container.
func (e *Engine) networkSettings(l *Live) NetworkSettings {
	s := NetworkSettings{Ports: map[string][]PortBinding{}, Networks: map[string]*EndpointSettings{}}
	if l.Status == Running {
		s.SandboxKey = fmt.Sprintf("/proc/%d/ns/net", l.PID)
	}
	m, err := e.Networks()
	if err != nil {
		return s
	}
	nets, _ := m.List(context.Background())
	id := func(name string) string {
		if i := slices.IndexFunc(nets, func(n *network.Network) bool { return n.Name == name }); i >= 0 {
			return nets[i].ID
		}
		return ""
	}
	if mode := l.HostConfig.NetworkMode; mode == noneMode || mode == hostMode {
		s.Networks[mode] = &EndpointSettings{NetworkID: id(mode)}
	}
	for _, a := range e.networksOf(l.Container) {
		s.Networks[a.Network] = newEndpointSettings(l, a, id(a.Network))
	}
	if l.Status != Running || !l.HostConfig.wired() {
		return s
	}
	for key := range l.Config.ExposedPorts {
		s.Ports[key] = nil
	}
	eps, _ := e.Endpoints(l)
	for _, ep := range eps {
		if to := s.Networks[ep.NetworkName]; to != nil {
			to.fill(ep) // a plugin has its own below
		}
		for _, p := range ep.Ports {
			for _, at := range ep.HostAddrs(p) {
				s.Ports[PortKey(p)] = append(s.Ports[PortKey(p)], PortBinding{at.Addr().String(), strconv.Itoa(int(at.Port()))})
			}
		}
	}
	for name, r := range e.cniResults(l.ID) {
		if to := s.Networks[name]; to != nil {
			to.fillCNI(r.Result)
		}
	}
	if b := s.Networks[network.DefaultNetwork]; b != nil {
		s.EndpointAddresses = b.EndpointAddresses
	}
	return s
}

func newEndpointSettings(l *Live, a Attachment, id string) *EndpointSettings {
	s := &EndpointSettings{NetworkID: id, Aliases: a.Aliases}
	s.MacAddress = a.MAC
	if a.IP.IsValid() || a.IP6.IsValid() {
		s.IPAMConfig = &EndpointIPAM{text(a.IP), text(a.IP6)}
	}
	names := append([]string{l.Name}, a.Aliases...)
	s.DNSNames = append(names, shortID(l.ID))
	if !slices.Contains(s.DNSNames, l.Config.Hostname) {
		s.DNSNames = append(s.DNSNames, l.Config.Hostname)
	}
	return s
}

func (s *EndpointSettings) fill(ep *network.Endpoint) {
	s.EndpointAddresses = EndpointAddresses{
		EndpointID: ep.ID, Gateway: text(ep.Gateway4), IPv6Gateway: text(ep.Gateway6), MacAddress: ep.MAC,
	}
	s.setAddresses([]netip.Prefix{ep.IP4, ep.IP6})
}

func (s *EndpointSettings) fillCNI(r *cni.Result) {
	s.MacAddress = r.MAC
	s.setAddresses(r.IPs)
	for _, g := range r.Gateways {
		if g.Is4() {
			s.Gateway = g.String()
		} else {
			s.IPv6Gateway = g.String()
		}
	}
}

func (s *EndpointSettings) setAddresses(all []netip.Prefix) {
	for _, p := range all {
		switch {
		case p.Addr().Is4():
			s.IPAddress, s.IPPrefixLen = p.Addr().String(), p.Bits()
		case p.Addr().Is6():
			s.GlobalIPv6Address, s.GlobalIPv6PrefixLen = p.Addr().String(), p.Bits()
		}
	}
}

// text is "" for no address.
func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// Endpoints are what the running ones of these containers have on networks. A plugin's network has no record of it: the addresses are those that
// the plugin gave, the ports those that it was asked for.
func (e *Engine) Endpoints(list ...*Live) ([]*network.Endpoint, error) {
	list = slices.DeleteFunc(slices.Clone(list), func(l *Live) bool { return l.Status != Running || !l.HostConfig.wired() })
	if len(list) == 0 {
		return nil, nil
	}
	m, err := e.Networks()
	if err != nil {
		return nil, err
	}
	var out []*network.Endpoint
	for _, l := range list {
		eps, err := m.Endpoints(network.Filter{Container: l.ID})
		if err != nil {
			return nil, err
		}
		for name, r := range e.cniResults(l.ID) {
			ep := &network.Endpoint{Container: l.ID, Name: l.Name, NetworkName: name, Driver: cniPrefix[:len(cniPrefix)-1], MAC: r.MAC}
			for _, p := range r.IPs {
				if p.Addr().Is4() {
					ep.IP4 = p
				} else {
					ep.IP6 = p
				}
			}
			if r.Publishes {
				run, err := readRunState(e.runDir(l.ID))
				if err != nil {
					return nil, err
				}
				ep.Ports = run.Ports
			}
			eps = append(eps, ep)
		}
		out = append(out, eps...)
	}
	return out, nil
}

func (e *Engine) cniResults(id string) (all map[string]*cniResult) {
	if b, err := os.ReadFile(e.runDir(id, cniResultFile)); err == nil {
		_ = json.Unmarshal(b, &all)
	}
	return all
}

// NetworkNames are the networks that a container is on, in order; none, host or container:ID stand for themselves.
func (e *Engine) NetworkNames(c *Container) []string {
	if !c.HostConfig.wired() {
		return []string{strings.SplitN(c.HostConfig.NetworkMode, ":", 2)[0]}
	}
	var names []string
	for _, a := range e.networksOf(c) {
		names = append(names, a.Network)
	}
	return names
}

// NetworkInspect is a network in the shape of Docker's API.
type NetworkInspect struct {
	Name       string
	ID         string `json:"Id"`
	Created    string
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       IPAM
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom struct{ Network string }
	ConfigOnly bool
	Containers map[string]NetworkContainer
	Options    map[string]string
	Labels     map[string]string
}

// IPAM says where addresses come from.
type IPAM struct {
	Driver  string
	Options map[string]string
	Config  []IPAMConfig
}

// IPAMConfig is a subnet.
type IPAMConfig struct {
	Subnet             string
	IPRange            string            `json:",omitempty"`
	Gateway            string            `json:",omitempty"`
	AuxiliaryAddresses map[string]string `json:",omitempty"`
}

// NetworkContainer is a running container on a network.
type NetworkContainer struct {
	Name        string
	EndpointID  string
	MacAddress  string
	IPv4Address string // with the subnet's length
	IPv6Address string
}

// InspectNetwork describes a network; eps are its endpoints.
func InspectNetwork(n *network.Network, eps []*network.Endpoint) NetworkInspect {
	in := NetworkInspect{
		Name: n.Name, ID: n.ID, Created: stamp(n.Created), Scope: "local", Driver: n.Driver, EnableIPv6: n.IPv6, Internal: n.Internal, Attachable: n.Attachable,
		IPAM: IPAM{Driver: "default", Options: map[string]string{}, Config: []IPAMConfig{}}, Containers: map[string]NetworkContainer{},
		Options: nonNilMap(n.Options), Labels: nonNilMap(n.Labels),
	}
	for _, s := range n.Subnets {
		in.EnableIPv4 = in.EnableIPv4 || s.Prefix.Addr().Is4()
		c := IPAMConfig{Subnet: s.Prefix.String(), Gateway: text(s.Gateway)}
		if s.Range.IsValid() {
			c.IPRange = s.Range.String()
		}
		for name, a := range s.Aux {
			if c.AuxiliaryAddresses == nil {
				c.AuxiliaryAddresses = map[string]string{}
			}
			c.AuxiliaryAddresses[name] = a.String()
		}
		in.IPAM.Config = append(in.IPAM.Config, c)
	}
	for _, ep := range eps {
		c := NetworkContainer{Name: ep.Name, EndpointID: ep.ID, MacAddress: ep.MAC}
		if ep.IP4.IsValid() {
			c.IPv4Address = ep.IP4.String()
		}
		if ep.IP6.IsValid() {
			c.IPv6Address = ep.IP6.String()
		}
		in.Containers[ep.Container] = c
	}
	return in
}

func nonNilMap(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
