package dns

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// How long an upstream may take, and all together: clients ask again after 5 s (resolv.conf(5)).
const (
	upstreamTime = 2 * time.Second
	forwardTime  = 4 * time.Second
)

// forward asks the upstreams in order until one gives an answer that is no failure of its own. Its last word is better than none.
func (s *Server) forward(cfg *Config, q *dns.Msg) *dns.Msg {
	ctx, cancel := context.WithTimeout(s.ctx, forwardTime)
	defer cancel()
	last := failure(q, dns.RcodeServerFailure)
	end, _ := ctx.Deadline()
	for k, u := range cfg.Upstreams { // the last is to have its turn, whatever the others do
		limit, cancel := context.WithTimeout(ctx, min(upstreamTime, time.Until(end)/time.Duration(len(cfg.Upstreams)-k)))
		r := s.ask(limit, u, q)
		cancel()
		if r == nil {
			continue
		}
		if last = r; r.Rcode != dns.RcodeServerFailure && r.Rcode != dns.RcodeRefused {
			break
		}
	}
	return last
}

// ask puts the question to one upstream, by TCP if the answer is too long for UDP. nil: no answer.
func (s *Server) ask(ctx context.Context, u Upstream, q *dns.Msg) *dns.Msg {
	out := upstreamQuery(q)
	r := s.exchange(ctx, "udp", u, out)
	if r != nil && r.Truncated {
		if long := s.exchange(ctx, "tcp", u, out); long != nil {
			r = long
		}
	}
	if r == nil || !r.Response || len(r.Question) != 1 || !sameQuestion(r.Question[0], q.Question[0]) {
		return nil
	}
	r.Id, r.Question = q.Id, q.Question
	return r
}

func sameQuestion(a, b dns.Question) bool {
	return a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}

// upstreamQuery is the question with an id of its own. Of the client's OPT record only the DO bit goes on: the rest (cookies) is between it and us.
func upstreamQuery(q *dns.Msg) *dns.Msg {
	out := &dns.Msg{MsgHdr: dns.MsgHdr{
		Id: dns.Id(), Opcode: dns.OpcodeQuery, RecursionDesired: q.RecursionDesired, CheckingDisabled: q.CheckingDisabled, AuthenticatedData: q.AuthenticatedData,
	}, Question: q.Question}
	if o := q.IsEdns0(); o != nil {
		out.SetEdns0(ednsSize, o.Do())
	}
	return out
}

// exchange opens a socket for each query, so each has a port of its own.
func (s *Server) exchange(ctx context.Context, network string, u Upstream, q *dns.Msg) *dns.Msg {
	conn, err := s.dial(ctx, network, u)
	if err != nil {
		return nil
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c := &dns.Client{Net: network, UDPSize: maxPacket, Timeout: upstreamTime}
	r, _, err := c.ExchangeWithConnContext(ctx, q, &dns.Conn{Conn: conn, UDPSize: maxPacket})
	if err != nil {
		return nil
	}
	return r
}

func (s *Server) dial(ctx context.Context, network string, u Upstream) (conn net.Conn, err error) {
	if !u.InNetNS {
		return (&net.Dialer{}).DialContext(ctx, network, u.Addr.String())
	}
	err = inNetNS(s.netns, func() error {
		conn, err = dialHere(network, u.Addr)
		return err
	})
	return conn, err
}

// dialHere connects on this thread: Go's dialer may use another for TCP. The address is a loopback one, so it does not take long.
func dialHere(network string, a netip.AddrPort) (net.Conn, error) {
	typ := unix.SOCK_DGRAM
	if network == "tcp" {
		typ = unix.SOCK_STREAM
	}
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	family := unix.AF_INET6
	if a.Addr().Is4() {
		sa, family = &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, unix.AF_INET
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "dns upstream")
	defer f.Close() // FileConn has its own
	limit := unix.NsecToTimeval(int64(upstreamTime))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	for err = unix.EINTR; err == syscall.EINTR; {
		err = unix.Connect(fd, sa)
	}
	if err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	return net.FileConn(f)
}

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("dup "+f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
