package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Mode says what a container's resolv.conf leads to.
type Mode int

const (
	Embedded Mode = iota // 127.0.0.11: bridge, macvlan, ipvlan and CNI networks, the default one too
	Host                 // network host: the host's file
	None                 // network none: the host's file without the resolvers on the host's loopback
)

// Options are the flags --dns, --dns-search, --dns-opt. Each replaces what the host's file says.
type Options struct {
	Servers []string // addresses
	Search  []string // domains; "." alone is none
	Opts    []string
}

// Resolved is a container's resolver.
type Resolved struct {
	File      []byte     // /etc/resolv.conf
	Upstreams []Upstream // Embedded: what the server forwards to
	NDots     int        // Embedded: for Config
}

// resolv is a resolv.conf(5).
type resolv struct {
	servers         []string
	search, options []string
}

// Resolve makes a container's resolv.conf from the host's. The options have been checked (CheckOptions).
func Resolve(host []byte, mode Mode, o Options) Resolved {
	r := parseResolv(host)
	if mode == Host && len(o.Servers)+len(o.Search)+len(o.Opts) == 0 {
		return Resolved{File: host}
	}
	if mode == None {
		r.servers = slices.DeleteFunc(r.servers, loopback)
	}
	if len(o.Servers) > 0 {
		r.servers = o.Servers
	}
	if len(o.Search) > 0 {
		r.search = o.Search
		if slices.Equal(o.Search, []string{"."}) {
			r.search = nil
		}
	}
	if len(o.Opts) > 0 {
		r.options = o.Opts
	}
	if mode != Embedded {
		return Resolved{File: r.file("")}
	}
	return r.embedded(len(o.Servers) > 0)
}

// embedded puts our server in front of the others.
func (r *resolv) embedded(given bool) (out Resolved) {
	var names []string
	for _, s := range r.servers {
		a, err := netip.ParseAddr(s)
		if err != nil {
			continue
		}
		own := given && a.Unmap().IsLoopback() // --dns 127.0.0.1 is the container's own
		if own && a.Unmap().String() == Addr {
			continue // --dns 127.0.0.11 is this server, which would ask itself until no slot is free
		}
		out.Upstreams = append(out.Upstreams, Upstream{netip.AddrPortFrom(a.Unmap(), 53), own})
		where := "from the host"
		if own {
			where = "in the container"
		}
		names = append(names, s+" "+where)
	}
	n := slices.IndexFunc(r.options, func(o string) bool { return strings.HasPrefix(o, "ndots:") })
	if n < 0 {
		r.options = append(slices.Clip(r.options), "ndots:0")
	} else if given := r.options[n][len("ndots:"):]; given != "" {
		out.NDots, _ = strconv.Atoi(given)
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	r.servers = []string{Addr}
	out.File = r.file("# Names of containers are answered by vitro. The rest goes to: " + strings.Join(names, ", ") + ".\n")
	return out
}

func (r *resolv) file(note string) []byte {
	var b strings.Builder
	b.WriteString("# Written by vitro when the container was made; an edit stays.\n\n")
	for _, s := range r.servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(r.search) > 0 {
		b.WriteString("search " + strings.Join(r.search, " ") + "\n")
	}
	if len(r.options) > 0 {
		b.WriteString("options " + strings.Join(r.options, " ") + "\n")
	}
	if note != "" {
		b.WriteString("\n" + note)
	}
	return []byte(b.String())
}

// parseResolv reads what resolv.conf(5) knows; of several search or domain lines the last counts.
func parseResolv(b []byte) *resolv {
	r := new(resolv)
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || strings.HasPrefix(f[0], "#") || strings.HasPrefix(f[0], ";") {
			continue
		}
		switch f[0] {
		case "nameserver":
			if _, err := netip.ParseAddr(f[1]); err == nil {
				r.servers = append(r.servers, f[1])
			}
		case "domain":
			r.search = f[1:2]
		case "search":
			r.search = f[1:]
			if slices.Equal(r.search, []string{"."}) {
				r.search = nil
			}
		case "options":
			r.options = append(r.options, f[1:]...)
		}
	}
	return r
}

func loopback(s string) bool {
	a, err := netip.ParseAddr(s)
	return err != nil || a.Unmap().IsLoopback()
}

// CheckOptions refuses what Docker's flags refuse, with its words where it has some.
func CheckOptions(o Options) error {
	for _, s := range o.Servers {
		if _, err := netip.ParseAddr(s); err != nil {
			return fmt.Errorf("--dns: IP address is not correctly formatted: %s", s)
		}
	}
	for _, d := range o.Search {
		if d != "." && !isDomain(d) {
			return fmt.Errorf("--dns-search: %s is not a valid domain", d)
		}
	}
	for _, s := range o.Opts {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return fmt.Errorf("--dns-opt: %q is not an option of resolv.conf(5)", s)
		}
		if n, ok := strings.CutPrefix(s, "ndots:"); ok {
			if v, err := strconv.Atoi(n); err != nil || v < 0 {
				return fmt.Errorf("--dns-opt: invalid number for ndots option: %s", n)
			}
		}
	}
	return nil
}

// isDomain: labels of letters, digits, "-" and "_", at most 63 bytes each (RFC 1035 2.3.4).
func isDomain(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool {
			return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		}) {
			return false
		}
	}
	return true
}
