package dns

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	ttl         = 10               // seconds, of names that we answer for: a container may go any time
	maxForwards = 256              // at once; one more is SERVFAIL
	maxConns    = 64               // TCP connections at once; one more waits
	tcpIdle     = 10 * time.Second // RFC 7766: seconds, not minutes
	ednsSize    = 1232             // bytes of UDP that we ask upstreams for (DNS flag day 2020)
	maxPacket   = 4096             // bytes of UDP, either way
)

// Names knows the containers.
type Names interface {
	// Lookup gives the addresses of a name (lower case, no dot at the end), of both families. known without addresses is a name without
	// an endpoint that has one.
	Lookup(name string) (addrs []netip.Addr, known bool)
	// Reverse gives the full name of an address.
	Reverse(addr netip.Addr) (name string, ok bool)
	// Internal tells that nothing may be forwarded.
	Internal() bool
}

// Config is what a server answers from.
type Config struct {
	Names     Names      // nil: no names
	Upstreams []Upstream // asked in order
	Internal  bool       // nothing is forwarded, whatever Names says
	NDots     int        // as asked for by --dns-opt; above 0, single labels are not forwarded
}

// Upstream is a resolver.
type Upstream struct {
	Addr    netip.AddrPort
	InNetNS bool // asked from the container's namespace
}

// Server serves one network namespace.
type Server struct {
	sockets *sockets
	netns   *os.File
	config  atomic.Pointer[Config]
	turn    atomic.Uint32 // rotates answers
	slots   chan struct{} // forwards on their way
	conns   chan struct{}
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

// Serve starts a server in the network namespace, whose file stays the caller's.
func Serve(netns *os.File, cfg Config) (*Server, error) {
	s := newServer(cfg)
	fd, err := dup(netns)
	if err != nil {
		return nil, err
	}
	s.netns = fd
	if s.sockets, err = listen(netns); err != nil {
		fd.Close()
		return nil, err
	}
	s.done.Go(s.serveUDP)
	s.done.Go(s.serveTCP)
	return s, nil
}

func newServer(cfg Config) *Server {
	s := &Server{slots: make(chan struct{}, maxForwards), conns: make(chan struct{}, maxConns)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.Set(cfg)
	return s
}

// Set is the configuration from the next query on.
func (s *Server) Set(cfg Config) { s.config.Store(&cfg) }

// Close ends all: open queries are not answered.
func (s *Server) Close() {
	s.cancel()
	s.sockets.close()
	s.done.Wait()
	s.netns.Close()
}

// serveUDP answers from what is known at once, and forwards beside.
func (s *Server) serveUDP() {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := s.sockets.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if s.ctx.Err() != nil {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of memory, most likely
			continue
		}
		q := parse(buf[:n])
		if q == nil || n == len(buf) {
			continue
		}
		s.answer(q, func(r *dns.Msg) {
			r.Truncate(udpSize(q))
			if out, err := r.Pack(); err == nil {
				_, _ = s.sockets.udp.WriteToUDPAddrPort(out, from)
			}
		})
	}
}

// udpSize is the size in bytes that the client takes.
func udpSize(q *dns.Msg) int {
	if o := q.IsEdns0(); o != nil {
		return min(max(dns.MinMsgSize, int(o.UDPSize())), maxPacket)
	}
	return dns.MinMsgSize
}

func (s *Server) serveTCP() {
	for {
		select {
		case s.conns <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		c, err := s.sockets.tcp.Accept()
		if err != nil {
			<-s.conns
			if s.ctx.Err() != nil {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of fds, most likely
			continue
		}
		s.done.Go(func() {
			defer func() { <-s.conns }()
			defer c.Close()
			stop := context.AfterFunc(s.ctx, func() { c.Close() })
			defer stop()
			s.serveConn(&dns.Conn{Conn: c})
		})
	}
}

// serveConn answers one query after the other.
func (s *Server) serveConn(c *dns.Conn) {
	for {
		if c.SetDeadline(time.Now().Add(tcpIdle)) != nil {
			return
		}
		b, err := c.ReadMsgHeader(nil)
		if err != nil {
			return
		}
		q := parse(b)
		if q == nil {
			return
		}
		sent := make(chan error, 1)
		s.answer(q, func(r *dns.Msg) { sent <- c.WriteMsg(r) })
		if <-sent != nil {
			return
		}
	}
}

// parse is nil for what is no query: it is dropped, as an answer to it could make two servers talk forever.
func parse(b []byte) *dns.Msg {
	q := new(dns.Msg)
	if err := q.Unpack(b); err != nil || q.Response {
		return nil
	}
	return q
}

// answer calls reply once, now or (forwarded) later.
func (s *Server) answer(q *dns.Msg, reply func(*dns.Msg)) {
	cfg := s.config.Load()
	r, local := s.local(cfg, q)
	if local {
		reply(finish(q, r))
		return
	}
	select {
	case s.slots <- struct{}{}:
	default:
		reply(finish(q, failure(q, dns.RcodeServerFailure)))
		return
	}
	s.done.Go(func() {
		defer func() { <-s.slots }()
		reply(finish(q, s.forward(cfg, q)))
	})
}

// local answers what is not to be forwarded.
func (s *Server) local(cfg *Config, q *dns.Msg) (*dns.Msg, bool) {
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return failure(q, dns.RcodeNotImplemented), true
	case len(q.Question) != 1:
		return failure(q, dns.RcodeFormatError), true
	case q.Question[0].Qtype == dns.TypeAXFR || q.Question[0].Qtype == dns.TypeIXFR:
		return failure(q, dns.RcodeRefused), true
	}
	if o := q.IsEdns0(); o != nil && o.Version() != 0 {
		return failure(q, dns.RcodeBadVers), true
	}
	ask := q.Question[0]
	if cfg.Names != nil && ask.Qclass == dns.ClassINET {
		if rrs, known := s.known(cfg.Names, ask); known {
			r := failure(q, dns.RcodeSuccess)
			r.RecursionAvailable, r.Answer = true, rrs
			return r, true
		}
	}
	switch {
	case cfg.Internal, cfg.Names != nil && cfg.Names.Internal(), len(cfg.Upstreams) == 0:
		return failure(q, dns.RcodeServerFailure), true
	case cfg.NDots > 0 && isAddress(ask.Qtype) && !strings.Contains(strings.TrimSuffix(ask.Name, "."), "."):
		return failure(q, dns.RcodeNameError), true // the client goes on to its search domains
	}
	return nil, false
}

func isAddress(t uint16) bool { return t == dns.TypeA || t == dns.TypeAAAA }

// known gives the records of a name or address that is a container's.
func (s *Server) known(names Names, ask dns.Question) ([]dns.RR, bool) {
	head := func(t uint16) dns.RR_Header {
		return dns.RR_Header{Name: ask.Name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
	}
	name := strings.ToLower(strings.TrimSuffix(ask.Name, "."))
	if addr, ok := reversed(name); ok {
		host, known := names.Reverse(addr)
		if !known || ask.Qtype != dns.TypePTR && ask.Qtype != dns.TypeANY {
			return nil, known
		}
		return []dns.RR{&dns.PTR{Hdr: head(dns.TypePTR), Ptr: dns.Fqdn(host)}}, true
	}
	addrs, known := names.Lookup(name)
	var rrs []dns.RR
	for _, a := range addrs {
		switch {
		case a.Is4() && (ask.Qtype == dns.TypeA || ask.Qtype == dns.TypeANY):
			rrs = append(rrs, &dns.A{Hdr: head(dns.TypeA), A: a.AsSlice()})
		case a.Is6() && (ask.Qtype == dns.TypeAAAA || ask.Qtype == dns.TypeANY):
			rrs = append(rrs, &dns.AAAA{Hdr: head(dns.TypeAAAA), AAAA: a.AsSlice()})
		}
	}
	if n := len(rrs); n > 1 {
		k := int((s.turn.Add(1) - 1) % uint32(n))
		rrs = append(rrs[k:n:n], rrs[:k]...)
	}
	return rrs, known
}

// failure is an empty answer with a code.
func failure(q *dns.Msg, code int) *dns.Msg {
	r := new(dns.Msg)
	r.SetRcode(q, code)
	r.RecursionAvailable = true
	return r
}

// finish gives an answer our OPT record, if the query has one (RFC 6891: hop by hop), and compresses names.
func finish(q, r *dns.Msg) *dns.Msg {
	r.Compress = true
	r.Extra = withoutOPT(r.Extra)
	if o := q.IsEdns0(); o != nil {
		r.SetEdns0(ednsSize, o.Do())
	} else {
		r.Rcode &= 0xf // the upper bits are OPT's
	}
	return r
}

func withoutOPT(rrs []dns.RR) (out []dns.RR) {
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeOPT {
			out = append(out, rr)
		}
	}
	return out
}

// reversed reads a name below in-addr.arpa or ip6.arpa.
func reversed(name string) (netip.Addr, bool) {
	if v4, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		p := strings.Split(v4, ".")
		if len(p) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(p[3] + "." + p[2] + "." + p[1] + "." + p[0])
		return a, err == nil
	}
	v6, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(v6) != 63 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for k := range 32 {
		d := strings.IndexByte("0123456789abcdef", v6[62-2*k])
		if d < 0 || k < 31 && v6[61-2*k] != '.' {
			return netip.Addr{}, false
		}
		b[k/2] = b[k/2]<<4 | byte(d)
	}
	return netip.AddrFrom16(b), true
}
