package cni

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// Result is what the plugins made.
type Result struct {
	IfName   string // in the container
	MAC      string
	MTU      int // bytes; 0: the plugin did not say
	HostLink string
	IPs      []netip.Prefix // with the subnet's length
	Gateways []netip.Addr
	Routes   []netip.Prefix
	DNS      DNS
}

// DNS is what a plugin knows of resolvers.
type DNS struct {
	Servers, Search, Options []string
	Domain                   string
}

// newResult reads the result for the interface; a chain may have made others.
func newResult(raw types.Result, ifName string) (*Result, error) {
	if raw == nil {
		return nil, fmt.Errorf("the plugins gave no result")
	}
	r, err := current.GetResult(raw)
	if err != nil {
		return nil, fmt.Errorf("read the result: %w", err)
	}
	out := &Result{IfName: ifName, DNS: DNS{r.DNS.Nameservers, r.DNS.Search, r.DNS.Options, r.DNS.Domain}}
	ours := -1
	for k, i := range r.Interfaces {
		switch {
		case i.Sandbox != "" && i.Name == ifName:
			ours, out.MAC, out.MTU = k, i.Mac, i.Mtu
		case i.Sandbox == "":
			out.HostLink = i.Name // the last is the veth's end: bridge names itself before it
		}
	}
	for _, ip := range r.IPs {
		if ip.Interface != nil && *ip.Interface != ours {
			continue
		}
		p, err := prefix(ip.Address)
		if err != nil {
			return nil, fmt.Errorf("read the result: ips: %w", err)
		}
		out.IPs = append(out.IPs, p)
		if g, ok := netip.AddrFromSlice(ip.Gateway); ok {
			out.Gateways = append(out.Gateways, g.Unmap())
		}
	}
	for _, route := range r.Routes {
		p, err := prefix(route.Dst)
		if err != nil {
			return nil, fmt.Errorf("read the result: routes: %w", err)
		}
		out.Routes = append(out.Routes, p)
	}
	return out, nil
}

func prefix(n net.IPNet) (netip.Prefix, error) {
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	if !ok {
		return netip.Prefix{}, fmt.Errorf("%q is no network", n.String())
	}
	return netip.PrefixFrom(a.Unmap(), bits), nil
}
