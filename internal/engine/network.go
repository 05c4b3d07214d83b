package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

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

func (e *Engine) endpointsDir() string { return filepath.Join(e.RunRoot, "network", "endpoints") }

// namesChanged has the name servers of all containers look at the endpoints when they are next asked (dns.Records), not 200 ms
// later.
func (e *Engine) namesChanged() {
	now := time.Now()
	_ = os.Chtimes(e.endpointsDir(), now, now) // it may not be there yet
}

func (e *Engine) cniDir() string { return filepath.Join(e.RunRoot, "network", "cni") }

func (e *Engine) cni() *cni.Client { return cni.New(cni.Options{CacheDir: e.cniDir()}) }

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
