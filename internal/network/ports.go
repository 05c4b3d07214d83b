package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Port is one published port.
type Port struct {
	Proto    string     // tcp, udp, sctp
	HostIP   netip.Addr // zero: all addresses of the host, of the families that the container has
	HostPort uint16     // 0 in a request: one is chosen
	HostEnd  uint16     `json:",omitempty"` // in a request: last of the range to choose from; 0: HostPort
	Port     uint16     // the container's
}

// ParsePorts reads docker's `-p`: [ip:][host[-host]:]container[-container][/tcp|udp|sctp], [v6]:…, `ip::container`.
// A range on both sides is as many ports. A host range for one container port is a choice: HostPort to HostEnd.
func ParsePorts(arg string) ([]Port, error) {
	ports, err := parsePorts(arg)
	if err != nil {
		return nil, fmt.Errorf("--publish %s: %w", arg, err)
	}
	return ports, nil
}

func parsePorts(arg string) ([]Port, error) {
	rest, proto, err := splitProto(arg)
	if err != nil {
		return nil, err
	}
	var ip netip.Addr
	host, container, two := cutLast(rest, ":")
	if two {
		addr, hostPart, three := cutLast(host, ":")
		if three {
			host = hostPart
			if ip, err = parseHostIP(addr); err != nil {
				return nil, err
			}
		}
	}
	c, err := parseRange(container, "container port")
	if err != nil {
		return nil, err
	}
	if host == "0" { // as with docker
		host = ""
	}
	h := portRange{}
	if host != "" {
		if h, err = parseRange(host, "host port"); err != nil {
			return nil, err
		}
	}
	one := Port{Proto: proto, HostIP: ip, HostPort: h.first, Port: c.first}
	if c.size() == 1 && h.size() > 1 {
		one.HostEnd = h.last
		return []Port{one}, nil
	}
	if host != "" && h.size() != c.size() {
		return nil, fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", container, host)
	}
	var ports []Port
	for i := range c.size() {
		p := one
		p.Port += uint16(i)
		if host != "" {
			p.HostPort += uint16(i)
		}
		ports = append(ports, p)
	}
	return ports, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}

func splitProto(arg string) (rest, proto string, err error) {
	rest, proto, found := strings.Cut(arg, "/")
	if !found {
		return rest, "tcp", nil
	}
	proto = strings.ToLower(proto)
	if protocols[proto] == 0 {
		return "", "", fmt.Errorf("invalid proto: %s", proto)
	}
	return rest, proto, nil
}

// parseHostIP wants brackets around an IPv6 address. 0.0.0.0 and [::] are all addresses of one family.
func parseHostIP(s string) (netip.Addr, error) {
	text, v6 := s, false
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		text, v6 = s[1:len(s)-1], true
	}
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Is6() != v6 || ip.Zone() != "" {
		return ip, fmt.Errorf("invalid IP address: %s", s)
	}
	return ip.Unmap(), nil
}

type portRange struct{ first, last uint16 }

func (r portRange) size() int { return int(r.last) - int(r.first) + 1 }

func parseRange(s, what string) (portRange, error) {
	from, to, two := strings.Cut(s, "-")
	if !two {
		to = from
	}
	a, err1 := parsePort(from)
	b, err2 := parsePort(to)
	if err1 != nil || err2 != nil || b < a {
		return portRange{}, fmt.Errorf("invalid %s: %s", what, strconv.Quote(s))
	}
	return portRange{a, b}, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && (n == 0 || s[0] == '+') {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

// ParseExpose reads `--expose` and an image's ExposedPorts: port[-port][/proto]. HostPort is 0, as -P wants it.
func ParseExpose(arg string) ([]Port, error) {
	rest, proto, err := splitProto(arg)
	if err != nil {
		return nil, fmt.Errorf("--expose %s: %w", arg, err)
	}
	c, err := parseRange(rest, "range format for --expose")
	if err != nil {
		return nil, fmt.Errorf("--expose %s: %w", arg, err)
	}
	var ports []Port
	for i := range c.size() {
		ports = append(ports, Port{Proto: proto, Port: c.first + uint16(i)})
	}
	return ports, nil
}

// Publishes tells whether a port's host address is of a family that the network has. ::1 leads to none: it cannot be the
// source of a packet that leaves the host.
func (n *Network) Publishes(p Port) bool {
	if p.HostIP == netip.IPv6Loopback() {
		return false
	}
	return !p.HostIP.IsValid() || slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return s.Prefix.Addr().Is4() == p.HostIP.Is4() })
}

// HostAddrs are the addresses as `docker port` prints them: 0.0.0.0:8080, and [::]:8080 if the endpoint has IPv6.
func (e *Endpoint) HostAddrs(p Port) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range p.hostAddrs(e.IP4.IsValid(), e.IP6.IsValid()) {
		out = append(out, netip.AddrPortFrom(a, p.HostPort))
	}
	return out
}

// hostAddrs are the addresses to bind; 0.0.0.0 and :: stand for all of a family.
func (p Port) hostAddrs(v4, v6 bool) []netip.Addr {
	if p.HostIP.IsValid() {
		return []netip.Addr{p.HostIP}
	}
	var out []netip.Addr
	if v4 {
		out = append(out, netip.IPv4Unspecified())
	}
	if v6 {
		out = append(out, netip.IPv6Unspecified())
	}
	return out
}

// Reservation holds host ports for one container.
type Reservation struct {
	Ports []Port     // with HostPort set
	Files []*os.File // bound sockets, not listening: nobody else gets the ports while they are open
}

// Close gives the ports back.
func (r *Reservation) Close() {
	if r == nil {
		return
	}
	for _, f := range r.Files {
		f.Close()
	}
	r.Files = nil
}

// Reserve picks and binds host ports before anything starts. A port in use, by an endpoint of ours or by a socket of
// anyone, is an error in docker's words: "Bind for 0.0.0.0:8080 failed: port is already allocated". The caller's
// monitor keeps Files open (they can be inherited) until after Detach.
func (m *Manager) Reserve(ctx context.Context, ports []Port) (*Reservation, error) {
	r := &Reservation{}
	for _, p := range ports {
		if err := ctx.Err(); err != nil {
			r.Close()
			return nil, err
		}
		chosen, files, err := m.reserve(p)
		if err != nil {
			r.Close()
			return nil, err
		}
		r.Ports = append(r.Ports, chosen)
		r.Files = append(r.Files, files...)
	}
	return r, nil
}

// reserve tries the ports of the range until one is free on all addresses.
func (m *Manager) reserve(p Port) (Port, []*os.File, error) {
	first, size := int(p.HostPort), int(cmp.Or(p.HostEnd, p.HostPort))-int(p.HostPort)+1
	start := 0
	if p.HostPort == 0 {
		first, size = ephemeral()
		start = rand.IntN(size)
	}
	var firstErr error
	for i := range size {
		try := p
		try.HostPort, try.HostEnd = uint16(first+(start+i)%size), 0
		files, err := m.bind(try)
		if err == nil {
			return try, files, nil
		}
		firstErr = cmp.Or(firstErr, err)
		if !errors.Is(err, errAllocated) {
			break
		}
	}
	return p, nil, firstErr
}

// ephemeral is the range that the kernel takes ports from, so that what is chosen is not another service's fixed port.
func ephemeral() (first, size int) {
	b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	f := strings.Fields(string(b))
	if len(f) == 2 {
		lo, err1 := strconv.Atoi(f[0])
		hi, err2 := strconv.Atoi(f[1])
		if err1 == nil && err2 == nil && lo <= hi {
			return lo, hi - lo + 1
		}
	}
	return 32768, 60999 - 32768 + 1
}

var errAllocated = errors.New("port is already allocated")

// BindError is about a host port that cannot be had, in docker's words.
type BindError struct {
	Addr netip.AddrPort
	By   string // the endpoint that has it; "" if it is not one of ours
	Err  error
}

func (e *BindError) Error() string {
	s := "Bind for " + e.Addr.String() + " failed: " + e.Err.Error()
	if e.By != "" {
		s += " (by " + e.By + ")"
	}
	return s
}

func (e *BindError) Unwrap() error { return e.Err }

// bind binds all addresses of one port.
func (m *Manager) bind(p Port) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			files = nil
		}
	}()
	for _, a := range p.hostAddrs(true, true) {
		at := netip.AddrPortFrom(a, p.HostPort)
		if o := m.portOwner(p.Proto, at); o != nil && o.Alive() {
			return files, &BindError{at, o.label(), errAllocated}
		}
		f, err := bindSocket(p.Proto, at)
		switch {
		case err == nil:
			files = append(files, f)
		case errors.Is(err, unix.EADDRINUSE):
			return files, &BindError{Addr: at, Err: errAllocated}
		case (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) && !p.HostIP.IsValid():
			// no IPv6 on this host
		case errors.Is(err, unix.EPROTONOSUPPORT) && p.Proto == "sctp":
			// the kernel has no SCTP, so nobody here listens on it
		default:
			return files, &BindError{Addr: at, Err: err}
		}
	}
	return files, nil
}

// bindSocket binds without SO_REUSEADDR, so that it conflicts with whoever is there and whoever comes. A UDP socket
// gets the smallest buffer: it is never read.
func bindSocket(proto string, at netip.AddrPort) (*os.File, error) {
	domain, kind := unix.AF_INET, unix.SOCK_STREAM
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(at.Port())}
	if at.Addr().Is4() {
		sa = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	} else {
		domain, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	if proto == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, int(protocols[proto]))
	if err != nil {
		return nil, err
	}
	if domain == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil && proto == "udp" {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), proto+" "+at.String()), nil
}

// The index of published ports: <run root>/network/ports/<proto>-<port>/<address>, a symbolic link to the record.
func (m *Manager) portDir(proto string, port uint16) string {
	return m.run("ports", proto+"-"+strconv.Itoa(int(port)))
}

// portOwner finds the endpoint that publishes this address, or one that overlaps with it.
func (m *Manager) portOwner(proto string, at netip.AddrPort) *Endpoint {
	dir := m.portDir(proto, at.Port())
	entries, _ := os.ReadDir(dir)
	for _, ent := range entries {
		a, err := netip.ParseAddr(ent.Name())
		if err != nil || a.Is4() != at.Addr().Is4() || a != at.Addr() && !a.IsUnspecified() && !at.Addr().IsUnspecified() {
			continue
		}
		e := &Endpoint{}
		if err := readRecord(filepath.Join(dir, ent.Name()), e); err == nil { // else what a kill left
			return e
		}
	}
	return nil
}

// indexPorts enters the ports, or says who has one of them. It wants the lock.
func (m *Manager) indexPorts(e *Endpoint) error {
	target := filepath.Join("../../endpoints", e.Container, e.Network+".json")
	for _, p := range e.Ports {
		for _, at := range e.HostAddrs(p) {
			if o := m.portOwner(p.Proto, at); o != nil {
				if o.Alive() {
					return &BindError{at, o.label(), errAllocated}
				}
				if err := m.detach(o); err != nil {
					return err
				}
			}
			dir := m.portDir(p.Proto, p.HostPort)
			if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			path := filepath.Join(dir, at.Addr().String())
			os.Remove(path)
			if err := os.Symlink(target, path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Manager) dropPorts(e *Endpoint) {
	target := filepath.Join("../../endpoints", e.Container, e.Network+".json")
	for _, p := range e.Ports {
		for _, at := range e.HostAddrs(p) {
			dir := m.portDir(p.Proto, p.HostPort)
			path := filepath.Join(dir, at.Addr().String())
			if t, _ := os.Readlink(path); t == target { // another's, if we are the undo of a refusal
				os.Remove(path)
			}
			os.Remove(dir)
		}
	}
}

func checkBinding(s string) error {
	ip, err := netip.ParseAddr(s)
	if err != nil || !ip.Is4() {
		return errors.New("not an IPv4 address")
	}
	return nil
}
