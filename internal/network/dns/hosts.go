package dns

import (
	"fmt"
	"net/netip"
	"strings"
)

// HostEntry is a line of /etc/hosts.
type HostEntry struct {
	Addr netip.Addr
	Name string
}

// hostGateway is the address of --add-host that stands for the host.
const hostGateway = "host-gateway"

// ParseAddHost reads `--add-host NAME:ADDRESS` or `NAME=ADDRESS`; an IPv6 address may be in brackets. gateway are the host's addresses
// for host-gateway.
func ParseAddHost(arg string, gateway []netip.Addr) ([]HostEntry, error) {
	name, value, ok := strings.Cut(arg, "=")
	if !ok {
		name, value, ok = strings.Cut(arg, ":")
	}
	if !ok || name == "" {
		return nil, fmt.Errorf("--add-host: bad format for add-host: %q", arg)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '#' || r == 0x7f }) {
		return nil, fmt.Errorf("--add-host: bad name in add-host: %q", name)
	}
	if value == hostGateway {
		if len(gateway) == 0 {
			return nil, fmt.Errorf("--add-host %s: unable to derive the IP value for host-gateway: the container has no network with a gateway", arg)
		}
		var all []HostEntry
		for _, a := range gateway {
			all = append(all, HostEntry{a, name})
		}
		return all, nil
	}
	if in, ok := strings.CutPrefix(value, "["); ok && strings.HasSuffix(in, "]") {
		value = strings.TrimSuffix(in, "]")
	}
	a, err := netip.ParseAddr(value)
	if err != nil {
		return nil, fmt.Errorf("--add-host: invalid IP address in add-host: %q", value)
	}
	return []HostEntry{{a, name}}, nil
}

// Self is the container's own line of /etc/hosts.
type Self struct {
	Addrs    []netip.Addr // on its networks; none for network none
	Hostname string       // with the domain in it, or
	Domain   string       // beside it
}

const localHosts = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
ff00::	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

// Hosts makes /etc/hosts: the local names, those of --add-host, the container's own. For network host, host is the host's file, in place of the local
// names; else it is nil.
func Hosts(host []byte, extra []HostEntry, self Self) []byte {
	var b strings.Builder
	if host == nil {
		b.WriteString(localHosts)
	} else if b.Write(host); len(host) > 0 && host[len(host)-1] != '\n' {
		b.WriteByte('\n')
	}
	for _, e := range extra {
		b.WriteString(e.Addr.String() + "\t" + e.Name + "\n")
	}
	for _, a := range self.Addrs {
		b.WriteString(a.String() + "\t" + self.Names() + "\n")
	}
	return []byte(b.String())
}

// Names are those on the container's own lines.
func (s Self) Names() string {
	name := s.Hostname
	if s.Domain != "" {
		name += "." + s.Domain
	}
	if short, _, ok := strings.Cut(name, "."); ok {
		name += " " + short
	}
	return name
}

// Hostname makes /etc/hostname.
func Hostname(name string) []byte { return []byte(name + "\n") }
