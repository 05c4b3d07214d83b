package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"vitro/internal/engine"
	"vitro/internal/network"
)

// netFlags are run's flags about networks, as given.
type netFlags struct {
	networks, aliases, addHosts []string
	ip, ip6, mac                string
}

func (f *runFlags) addNetFlags(cmd *cobra.Command) {
	p, n := cmd.Flags(), &f.net
	p.StringVarP(&f.Hostname, "hostname", "h", "", "Container host name")
	p.StringArrayVar(&n.networks, "network", nil, "Connect a container to a network: NAME[,alias=NAME,ip=ADDRESS,ip6=ADDRESS,mac-address=MAC], none, host, container:NAME or cni:NAME (default bridge)")
	p.StringArrayVar(&n.aliases, "network-alias", nil, "Add network-scoped alias for the container")
	p.StringVar(&n.ip, "ip", "", "IPv4 address (e.g., 172.30.100.104)")
	p.StringVar(&n.ip6, "ip6", "", "IPv6 address (e.g., 2001:db8::33)")
	p.StringVar(&n.mac, "mac-address", "", "Container MAC address (e.g., 92:d0:c6:0a:29:33)")
	p.StringArrayVarP(&f.Publish, "publish", "p", nil, "Publish a container's port(s) to the host: [IP:][PORT[-PORT]:]PORT[-PORT][/tcp|udp|sctp]")
	p.BoolVarP(&f.HostConfig.PublishAllPorts, "publish-all", "P", false, "Publish all exposed ports to random ports")
	p.StringArrayVar(&f.Expose, "expose", nil, "Expose a port or a range of ports")
	p.StringArrayVar(&f.HostConfig.DNS, "dns", nil, "Set custom DNS servers")
	p.StringArrayVar(&f.HostConfig.DNSOptions, "dns-option", nil, "Set DNS options")
	p.StringArrayVar(&f.HostConfig.DNSSearch, "dns-search", nil, "Set custom DNS search domains")
	p.StringArrayVar(&n.addHosts, "add-host", nil, "Add a custom host-to-IP mapping (host:ip)")
	old := map[string]string{"net": "network", "net-alias": "network-alias", "dns-opt": "dns-option"} // Docker's other names
	p.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if now, ok := old[name]; ok {
			name = now
		}
		return pflag.NormalizedName(name)
	})
}

// finishNetwork decodes the flags about networks.
func (f *runFlags) finishNetwork() (err error) {
	for _, h := range f.net.addHosts {
		name, addr, ok := strings.Cut(h, "=") // Docker keeps NAME:ADDRESS
		if ok {
			h = name + ":" + strings.Trim(addr, "[]")
		}
		f.HostConfig.ExtraHosts = append(f.HostConfig.ExtraHosts, h)
	}
	if len(f.net.networks) == 0 {
		f.net.networks = []string{network.DefaultNetwork}
	}
	for _, arg := range f.net.networks {
		a, err := parseNetwork(arg)
		if err != nil {
			return err
		}
		f.Networks = append(f.Networks, a)
	}
	if err := f.net.first(&f.Networks[0]); err != nil {
		return err
	}
	if f.Networks[0].Network == network.HostNetwork && (len(f.Publish) > 0 || f.HostConfig.PublishAllPorts) {
		fmt.Fprintln(os.Stderr, "WARNING: Published ports are discarded when using host network mode")
	}
	return nil
}

// first gives --ip, --network-alias and the others to the first network.
func (n *netFlags) first(a *engine.Attachment) error {
	both := func(flag, field string) error {
		return fmt.Errorf("conflicting options: cannot specify both --%s and per-network %s", flag, field)
	}
	if len(n.aliases) > 0 {
		if len(a.Aliases) > 0 {
			return both("network-alias", "alias")
		}
		a.Aliases = n.aliases
	}
	if n.ip != "" && a.IP.IsValid() {
		return both("ip", "IPv4 address")
	}
	if n.ip6 != "" && a.IP6.IsValid() {
		return both("ip6", "IPv6 address")
	}
	if n.mac != "" {
		if a.MAC != "" {
			return both("mac-address", "MAC address")
		}
		a.MAC = n.mac
	}
	return setIPs(a, n.ip, n.ip6)
}

func setIPs(a *engine.Attachment, ip, ip6 string) (err error) {
	if ip != "" {
		if a.IP, err = netip.ParseAddr(ip); err != nil || !a.IP.Is4() {
			return fmt.Errorf("invalid IPv4 address: %s", ip)
		}
	}
	if ip6 != "" {
		if a.IP6, err = netip.ParseAddr(ip6); err != nil || !a.IP6.Is6() {
			return fmt.Errorf("invalid IPv6 address: %s", ip6)
		}
	}
	return nil
}

// parseNetwork reads NAME or Docker's name=NAME,alias=…; the first field may be the name alone.
func parseNetwork(arg string) (a engine.Attachment, err error) {
	if arg == "" {
		return a, errors.New("--network: no name specified")
	}
	if !strings.ContainsAny(arg, ",=") {
		a.Network = arg
		return a, nil
	}
	fields, err := csv.NewReader(strings.NewReader(arg)).Read()
	if err != nil {
		return a, fmt.Errorf("--network %s: %w", arg, err)
	}
	ip, ip6 := "", ""
	for i, field := range fields {
		key, value, ok := strings.Cut(strings.TrimSpace(field), "=")
		if !ok && i == 0 {
			key, value, ok = "name", key, true
		}
		if !ok || value == "" {
			return a, fmt.Errorf("invalid field %s", field)
		}
		switch key {
		case "name":
			a.Network = value
		case "alias":
			a.Aliases = append(a.Aliases, value)
		case "ip":
			ip = value
		case "ip6":
			ip6 = value
		case "mac-address":
			a.MAC = value
		default:
			return a, fmt.Errorf("invalid field key %s", key)
		}
	}
	if a.Network == "" {
		return a, errors.New("network name/id is not specified")
	}
	return a, setIPs(&a, ip, ip6)
}

// openPorts says on a terminal where a container's ports are open. eol is "\r\n" on one in raw mode.
func openPorts(w io.Writer, e *engine.Engine, c *engine.Container, eol string) {
	if !term.IsTerminal(2) || len(c.HostConfig.PortBindings) == 0 && !c.HostConfig.PublishAllPorts {
		return
	}
	l, err := e.Find(c.ID)
	if err != nil {
		return
	}
	eps, _ := e.Endpoints(l)
	for _, l := range portLines(eps) {
		fmt.Fprintf(w, "port %s is open on %s%s", l.key, l.at, eol)
	}
}

// portLine is a container's port and an address of the host's.
type portLine struct {
	key string // 80/tcp
	at  netip.AddrPort
}

func portLines(eps []*network.Endpoint) (out []portLine) {
	for _, ep := range eps {
		for _, p := range ep.Ports {
			for _, at := range ep.HostAddrs(p) {
				out = append(out, portLine{engine.PortKey(p), at})
			}
		}
	}
	return out
}
