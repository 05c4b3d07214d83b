package engine

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"vitro/internal/network/dns"
)

const hostResolvConf = "/etc/resolv.conf"

// writeFiles makes the three files that are bind-mounted over the image's. A container in the network of another has that
// one's.
func (e *Engine) writeFiles(c *Container) error {
	if c.HostConfig.joined() != "" {
		return nil
	}
	conf, err := resolver(c)
	if err != nil {
		return err
	}
	if err := os.WriteFile(e.dir(c.ID, "resolv.conf"), conf.File, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(e.dir(c.ID, "hostname"), dns.Hostname(c.Config.Hostname), 0o644); err != nil {
		return err
	}
	return e.writeHosts(c, nil, nil)
}

// filesDir is where they are: the one whose network is shared may itself share that of another.
func (e *Engine) filesDir(c *Container) (string, error) {
	for c.HostConfig.joined() != "" {
		l, err := e.Find(c.HostConfig.joined())
		if err != nil {
			return "", err
		}
		c = l.Container
	}
	return e.dir(c.ID), nil
}

// resolver reads the host's resolv.conf, for the container's and for its name server.
func resolver(c *Container) (dns.Resolved, error) {
	host, err := os.ReadFile(hostResolvConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return dns.Resolved{}, err
	}
	mode := dns.Embedded
	switch c.HostConfig.NetworkMode {
	case hostMode:
		mode = dns.Host
	case noneMode:
		mode = dns.None
	}
	h := &c.HostConfig
	return dns.Resolve(host, mode, dns.Options{Servers: h.DNS, Search: h.DNSSearch, Opts: h.DNSOptions}), nil
}

// writeHosts makes /etc/hosts, in place: it may be mounted already. The gateways are what host-gateway stands for; before
// there is a network it has no line.
func (e *Engine) writeHosts(c *Container, own, gateways []netip.Addr) error {
	var host []byte
	if c.HostConfig.NetworkMode == hostMode {
		host, _ = os.ReadFile("/etc/hosts")
		gateways = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	}
	var extra []dns.HostEntry
	for _, h := range c.HostConfig.ExtraHosts {
		if own == nil && gateways == nil && strings.HasSuffix(h, ":host-gateway") && c.HostConfig.wired() {
			continue
		}
		entries, err := dns.ParseAddHost(h, gateways)
		if err != nil {
			return err
		}
		extra = append(extra, entries...)
	}
	b := dns.Hosts(host, extra, dns.Self{Addrs: own, Hostname: c.Config.Hostname, Domain: c.Config.Domainname})
	return overwrite(e.dir(c.ID, "hosts"), b)
}

// overwrite writes a file in place, which is mounted somewhere and so cannot be replaced. Who is killed meanwhile leaves the old content or the
// new, perhaps with empty lines behind: there is one write, and nothing is cut off before it.
func overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	padded := append(slices.Clip(b), bytes.Repeat([]byte("\n"), max(0, int(min(st.Size(), maxHosts))-len(b)))...)
	if _, err := f.WriteAt(padded, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(b)))
}

// maxHosts bounds a hosts file that is edited, in bytes.
const maxHosts = 1 << 20

// readHosts gives nil for a file that is too long: the container writes to it, and may have made it any size. It is left as it is.
func readHosts(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxHosts+1))
	if len(b) > maxHosts {
		return nil, err
	}
	return b[:len(b):len(b)], err
}

// editHosts takes a running container's own lines with the addresses gone out of /etc/hosts, and adds lines for those that are new;
// what the container itself wrote there stays.
func (e *Engine) editHosts(c *Container, gone, added []netip.Addr) error {
	path := e.dir(c.ID, "hosts")
	old, err := readHosts(path)
	if err != nil || old == nil {
		return err
	}
	var b bytes.Buffer
	for line := range bytes.Lines(old) {
		f := strings.Fields(string(line))
		if len(f) > 1 && slices.ContainsFunc(gone, func(a netip.Addr) bool { return a.String() == f[0] }) {
			continue
		}
		b.Write(line)
	}
	all := dns.Hosts(b.Bytes(), nil, dns.Self{Addrs: added, Hostname: c.Config.Hostname, Domain: c.Config.Domainname})
	return overwrite(path, all)
}

// dropLostHosts takes lines of a container's own names out of its /etc/hosts whose addresses it has no more: a command was killed before it
// could.
func (e *Engine) dropLostHosts(l *Live) error {
	has := map[string]bool{}
	eps, err := e.Endpoints(l)
	if err != nil {
		return err
	}
	for _, ep := range eps {
		for _, a := range addresses(ep) {
			has[a.String()] = true
		}
	}
	for _, h := range l.HostConfig.ExtraHosts {
		if entries, err := dns.ParseAddHost(h, nil); err == nil {
			for _, x := range entries {
				has[x.Addr.String()] = true
			}
		}
	}
	b, err := readHosts(e.dir(l.ID, "hosts"))
	if err != nil {
		return err
	}
	own := dns.Self{Hostname: l.Config.Hostname, Domain: l.Config.Domainname}.Names()
	var gone []netip.Addr
	for line := range strings.Lines(string(b)) {
		addr, names, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if a, err := netip.ParseAddr(addr); err == nil && names == own && !has[addr] {
			gone = append(gone, a)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return e.editHosts(l.Container, gone, nil)
}
