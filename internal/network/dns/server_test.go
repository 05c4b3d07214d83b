package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vitro/internal/testenv"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// newNetNS makes a network namespace with lo up.
func newNetNS(t *testing.T) *os.File {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.NetNS)
	type result struct {
		f   *os.File
		err error
	}
	made := make(chan result)
	go func() { // its thread ends with it
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = loUp()
		}
		var f *os.File
		if err == nil {
			f, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- result{f, err}
	}()
	r := <-made
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.f.Close() })
	return r.f
}

func loUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// upstream is a resolver of the test.
type upstream struct {
	addr Upstream
	mu   sync.Mutex
	seen []string // "udp name type", and " do" for the DO bit
}

func (u *upstream) queries() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.seen)
}

// startUpstream serves on loopback, in the host's namespace or in netns. It answers a few names:
// <anything>.example A 192.0.2.9, many.example with 100 addresses, nx. NXDOMAIN, fail. SERVFAIL, silent. nothing, liar. another question's answer.
func startUpstream(t *testing.T, netns *os.File) *upstream {
	t.Helper()
	u := &upstream{}
	var pc net.PacketConn
	var l net.Listener
	open := func() (err error) {
		for range 10 { // one port for both
			if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
				return err
			}
			if l, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
				return nil
			}
			pc.Close()
		}
		return err
	}
	run := open
	if netns != nil {
		run = func() error { return inNetNS(netns, open) }
	}
	if err := run(); err != nil {
		t.Fatal(err)
	}
	u.addr = Upstream{netip.MustParseAddrPort(pc.LocalAddr().String()), netns != nil}
	for _, s := range []*dns.Server{{PacketConn: pc, Net: "udp"}, {Listener: l, Net: "tcp"}} {
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { u.serve(w, q) })
		started, done := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(done)
			_ = s.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			_ = s.Shutdown()
			<-done
		})
	}
	return u
}

func (u *upstream) serve(w dns.ResponseWriter, q *dns.Msg) {
	ask := q.Question[0]
	line := w.RemoteAddr().Network() + " " + ask.Name + " " + dns.TypeToString[ask.Qtype]
	size := dns.MinMsgSize
	if o := q.IsEdns0(); o != nil {
		size = int(o.UDPSize())
		if o.Do() {
			line += " do"
		}
	}
	u.mu.Lock()
	u.seen = append(u.seen, line)
	u.mu.Unlock()
	r := new(dns.Msg)
	r.SetReply(q)
	add := func(ip string) {
		r.Answer = append(r.Answer, &dns.A{Hdr: dns.RR_Header{Name: ask.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}, A: net.ParseIP(ip)})
	}
	switch name := strings.ToLower(ask.Name); {
	case name == "silent.":
		return
	case name == "nx.":
		r.Rcode = dns.RcodeNameError
	case name == "fail.":
		r.Rcode = dns.RcodeServerFailure
	case name == "liar.":
		r.Question[0].Name = "other."
	case name == "many.example.":
		for k := range 100 {
			add(fmt.Sprintf("192.0.2.%d", k))
		}
	case ask.Qtype == dns.TypeA:
		add("192.0.2.9")
	}
	if o := q.IsEdns0(); o != nil {
		r.SetEdns0(4096, o.Do())
	}
	if w.RemoteAddr().Network() == "udp" {
		r.Truncate(size)
	}
	_ = w.WriteMsg(r)
}

// inside asks from the namespace.
func inside(t *testing.T, netns *os.File, network, server string, q *dns.Msg) (*dns.Msg, error) {
	t.Helper()
	var conn net.Conn
	if err := inNetNS(netns, func() (err error) { conn, err = net.DialTimeout(network, server, time.Second); return err }); err != nil {
		return nil, err
	}
	defer conn.Close()
	r, _, err := (&dns.Client{Net: network, Timeout: 8 * time.Second}).ExchangeWithConn(q, &dns.Conn{Conn: conn})
	return r, err
}

// dig is one question, answered as "RCODE [tc] data…".
func dig(t *testing.T, netns *os.File, network, name string, typ uint16, change ...func(*dns.Msg)) string {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), typ)
	for _, f := range change {
		f(q)
	}
	r, err := inside(t, netns, network, Addr+":53", q)
	if err != nil {
		return err.Error()
	}
	out := dns.RcodeToString[r.Rcode]
	if r.Truncated {
		out += " tc"
	}
	if o := r.IsEdns0(); o != nil {
		out += fmt.Sprintf(" edns(%v)", o.Do())
	}
	if len(r.Answer) > 9 {
		return fmt.Sprintf("%s %d records", out, len(r.Answer))
	}
	for _, rr := range r.Answer {
		f := strings.Fields(rr.String())
		out += " " + f[len(f)-1]
	}
	return out
}

func serve(t *testing.T, netns *os.File, cfg Config) *Server {
	t.Helper()
	s, err := Serve(netns, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestServe(t *testing.T) {
	netns := newNetNS(t)
	up := startUpstream(t, nil)
	serve(t, netns, Config{Names: NewRecords(testRecords(t), idA), Upstreams: []Upstream{up.addr}})
	do := func(q *dns.Msg) { q.SetEdns0(4096, true) }
	version := func(q *dns.Msg) { do(q); q.IsEdns0().SetVersion(1) }
	for _, c := range []struct {
		network, name string
		typ           uint16
		change        []func(*dns.Msg)
		want          string
	}{
		{"udp", "b", dns.TypeA, nil, "NOERROR 10.1.0.3"},
		{"tcp", "B", dns.TypeA, nil, "NOERROR 10.1.0.3"},
		{"udp", "b", dns.TypeAAAA, nil, "NOERROR"},
		{"udp", "b", dns.TypeMX, nil, "NOERROR"},
		{"udp", "c", dns.TypeAAAA, nil, "NOERROR fd00::4"},
		{"udp", "c", dns.TypeANY, nil, "NOERROR 10.2.0.4 fd00::4"},
		{"udp", "web.back", dns.TypeA, []func(*dns.Msg){do}, "NOERROR edns(true) 10.2.0.4"},
		{"udp", "3.0.1.10.in-addr.arpa", dns.TypePTR, nil, "NOERROR B.front."},
		{"tcp", "4.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", dns.TypePTR, nil, "NOERROR c.back."},
		{"udp", "d", dns.TypeA, nil, "NOERROR 192.0.2.9"}, // no network in common: a name as any other
		{"udp", "www.example", dns.TypeA, nil, "NOERROR 192.0.2.9"},
		{"tcp", "www.example", dns.TypeA, nil, "NOERROR 192.0.2.9"},
		{"udp", "www.example", dns.TypeA, []func(*dns.Msg){do}, "NOERROR edns(true) 192.0.2.9"},
		{"udp", "nx", dns.TypeA, nil, "NXDOMAIN"},
		{"udp", "fail", dns.TypeA, nil, "SERVFAIL"},
		{"udp", "liar", dns.TypeA, nil, "SERVFAIL"},
		{"udp", "many.example", dns.TypeA, []func(*dns.Msg){do}, "NOERROR edns(true) 100 records"},
		{"udp", "many.example", dns.TypeA, nil, "NOERROR tc 30 records"},
		{"tcp", "many.example", dns.TypeA, nil, "NOERROR 100 records"},
		{"udp", "b", dns.TypeAXFR, nil, "REFUSED"},
		{"udp", "b", dns.TypeA, []func(*dns.Msg){version}, "BADSIG edns(true)"}, // BADVERS is the same number
		{"udp", "b", dns.TypeA, []func(*dns.Msg){func(q *dns.Msg) { q.Opcode = dns.OpcodeUpdate }}, "NOTIMP"},
		{"udp", "b", dns.TypeA, []func(*dns.Msg){func(q *dns.Msg) { q.Question = append(q.Question, q.Question[0]) }}, "FORMERR"},
	} {
		if got := dig(t, netns, c.network, c.name, c.typ, c.change...); got != c.want {
			t.Errorf("%s %s %s: got %s, want %s", c.network, c.name, dns.TypeToString[c.typ], got, c.want)
		}
	}
	seen := up.queries()
	for _, want := range []string{"udp www.example. A", "udp www.example. A do", "tcp many.example. A"} {
		if !slices.Contains(seen, want) {
			t.Errorf("the upstream has not seen %q", want)
		}
	}
	for _, line := range seen {
		if strings.Contains(line, " b. ") || strings.Contains(line, "arpa") {
			t.Errorf("a known name was forwarded: %s", line)
		}
	}
}

func TestRoundRobin(t *testing.T) {
	netns := newNetNS(t)
	dir := testRecords(t)
	for k := range 3 {
		id := fmt.Sprintf("e%d", k)
		write(t, dir, id, "front", endpoint(id, id, "front", "eth0", fmt.Sprintf("10.1.0.%d/24", 20+k), "", `,"Aliases":["svc"]`))
	}
	serve(t, netns, Config{Names: NewRecords(dir, idA)})
	first := map[string]int{}
	for range 9 {
		f := strings.Fields(dig(t, netns, "udp", "svc", dns.TypeA))
		if len(f) != 4 {
			t.Fatal(f)
		}
		first[f[1]]++
	}
	if len(first) != 3 || first["10.1.0.20"] != 3 {
		t.Errorf("first addresses: %v", first)
	}
}

func TestInternal(t *testing.T) {
	netns := newNetNS(t)
	up := startUpstream(t, nil)
	s := serve(t, netns, Config{Names: NewRecords(testRecords(t), idC), Upstreams: []Upstream{up.addr}}) // c is on back only, which is internal
	for _, name := range []string{"www.example", "b", "1.2.0.192.in-addr.arpa"} {
		if got := dig(t, netns, "udp", name, dns.TypeA); got != "SERVFAIL" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := dig(t, netns, "tcp", "a", dns.TypeA); got != "NOERROR 10.2.0.2" {
		t.Errorf("a: %s", got)
	}
	s.Set(Config{Upstreams: []Upstream{up.addr}, Internal: true})
	if got := dig(t, netns, "udp", "a", dns.TypeA); got != "SERVFAIL" {
		t.Errorf("Config.Internal: %s", got)
	}
	if seen := up.queries(); len(seen) > 0 {
		t.Errorf("left an internal network: %v", seen)
	}
	s.Set(Config{Upstreams: []Upstream{up.addr}, NDots: 1})
	if got := dig(t, netns, "udp", "a", dns.TypeA) + dig(t, netns, "udp", "a.example", dns.TypeA); got != "NXDOMAINNOERROR 192.0.2.9" {
		t.Errorf("ndots:1: %s", got)
	}
}

func TestUpstreams(t *testing.T) {
	netns := newNetNS(t)
	up := startUpstream(t, nil)
	closed := Upstream{Addr: netip.MustParseAddrPort("127.0.0.1:1")}
	s := serve(t, netns, Config{Upstreams: []Upstream{closed, up.addr}})
	if got := dig(t, netns, "udp", "www.example", dns.TypeA); got != "NOERROR 192.0.2.9" {
		t.Errorf("the first is closed: %s", got)
	}
	if got := dig(t, netns, "udp", "silent", dns.TypeA); got != "SERVFAIL" {
		t.Errorf("silent: %s", got)
	}
	mute, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	silent := Upstream{Addr: netip.MustParseAddrPort(mute.LocalAddr().String())}
	s.Set(Config{Upstreams: []Upstream{silent, silent, up.addr}})
	if got := dig(t, netns, "udp", "www.example", dns.TypeA); got != "NOERROR 192.0.2.9" {
		t.Errorf("two are silent: %s", got)
	}
	s.Set(Config{Upstreams: []Upstream{closed}})
	if got := dig(t, netns, "udp", "www.example", dns.TypeA); got != "SERVFAIL" {
		t.Errorf("all closed: %s", got)
	}
	in := startUpstream(t, netns)
	s.Set(Config{Upstreams: []Upstream{in.addr}})
	for _, network := range []string{"udp", "tcp"} {
		if got := dig(t, netns, network, "many.example", dns.TypeA); !strings.HasPrefix(got, "NOERROR") || len(in.queries()) == 0 {
			t.Errorf("the container's own loopback by %s: %s", network, got)
		}
	}
}

// A container's own name server has 0.0.0.0:53, whichever comes first, and 127.0.0.11 is still ours.
func TestOwnServer(t *testing.T) {
	netns := newNetNS(t)
	listenOwn := func() {
		err := inNetNS(netns, func() error {
			u, err := net.ListenPacket("udp4", "0.0.0.0:53")
			if err != nil {
				return err
			}
			l, err := net.Listen("tcp4", "0.0.0.0:53")
			if err != nil {
				return errors.Join(err, u.Close())
			}
			t.Cleanup(func() { u.Close(); l.Close() })
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{Names: NewRecords(testRecords(t), idA)}
	s, err := Serve(netns, cfg)
	if err != nil {
		t.Fatal(err)
	}
	listenOwn()
	for range 2 {
		for _, network := range []string{"udp", "tcp"} {
			if got := dig(t, netns, network, "b", dns.TypeA); got != "NOERROR 10.1.0.3" {
				t.Errorf("%s: %s", network, got)
			}
		}
		s.Close()
		if s, err = Serve(netns, cfg); err != nil { // again, after the other
			t.Fatal(err)
		}
	}
	s.Close()
}

// What is no query gets no answer, and does no harm.
func TestMalformed(t *testing.T) {
	netns := newNetNS(t)
	serve(t, netns, Config{Names: NewRecords(testRecords(t), idA)})
	var conn net.Conn
	if err := inNetNS(netns, func() (err error) { conn, err = net.Dial("udp", Addr+":53"); return err }); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	response := new(dns.Msg)
	response.SetQuestion("b.", dns.TypeA)
	response.Response = true
	packed, err := response.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{{}, {1}, []byte("GET / HTTP/1.1\r\n\r\n"), packed, make([]byte, 5000), packed[:14]} {
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if got := dig(t, netns, "udp", "b", dns.TypeA); got != "NOERROR 10.1.0.3" {
		t.Errorf("afterwards: %s", got)
	}
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(make([]byte, 512))
	if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("answered with %d bytes (%v)", n, err)
	}
}

func TestServeErrors(t *testing.T) {
	testenv.Need(t, testenv.Root)
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const want = "DNS server at 127.0.0.11: enter the network namespace /dev/null: invalid argument"
	if _, err := Serve(f, Config{}); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestReversed(t *testing.T) {
	for name, want := range map[string]string{
		"4.3.2.1.in-addr.arpa": "1.2.3.4",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa": "2001:db8::1",
		"3.2.1.in-addr.arpa":     "",
		"4.3.2.x.in-addr.arpa":   "",
		"1.0.ip6.arpa":           "",
		"4.3.2.1.in-addr.arpa.x": "",
	} {
		a, ok := reversed(name)
		if ok != (want != "") || ok && a.String() != want {
			t.Errorf("%s: %v %v", name, a, ok)
		}
	}
}

// FuzzAnswer gives the handler foreign bytes: it must answer once, with something that fits.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"b.", "x.", ".", "4.3.2.1.in-addr.arpa."} {
		q := new(dns.Msg)
		q.SetQuestion(name, dns.TypeA)
		q.SetEdns0(1, true)
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	s := newServer(Config{Names: fixed{}})
	f.Fuzz(func(t *testing.T, b []byte) {
		q := parse(b)
		if q == nil {
			return
		}
		answers := 0
		s.answer(q, func(r *dns.Msg) {
			answers++
			r.Truncate(udpSize(q))
			out, err := r.Pack()
			if err == nil && len(out) > udpSize(q) {
				t.Errorf("%d bytes, the client takes %d", len(out), udpSize(q))
			}
		})
		if answers != 1 {
			t.Errorf("%d answers", answers)
		}
	})
}

// fixed knows b and is internal.
type fixed struct{}

func (fixed) Lookup(name string) ([]netip.Addr, bool) {
	return addrs("10.0.0.1", "fd00::1"), name == "b"
}
func (fixed) Reverse(a netip.Addr) (string, bool) { return "b.net", a.Is4() }
func (fixed) Internal() bool                      { return true }

// The C library's own resolver, with the files that a container gets.
func TestGetent(t *testing.T) {
	testenv.Need(t, testenv.MountNS, testenv.Tool("getent"), testenv.Tool("unshare"), testenv.Tool("ip"))
	netns, up, dir := newNetNS(t), startUpstream(t, nil), t.TempDir()
	r := Resolve([]byte("search corp.example\n"), Embedded, Options{})
	hosts := Hosts(nil, []HostEntry{{netip.MustParseAddr("192.0.2.50"), "extra"}}, Self{Addrs: addrs("10.1.0.2"), Hostname: "a"})
	for name, b := range map[string][]byte{"resolv.conf": r.File, "hosts": hosts} {
		if err := os.WriteFile(dir+"/"+name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(script string) string {
		var out []byte
		err := inNetNS(netns, func() (err error) {
			out, err = exec.Command("unshare", "-m", "sh", "-c", script).CombinedOutput()
			return err
		})
		if err != nil {
			return err.Error()
		}
		return strings.Join(strings.Fields(string(out)), " ")
	}
	serve(t, netns, Config{Names: NewRecords(testRecords(t), idA), Upstreams: []Upstream{up.addr}})
	run("ip addr add 10.1.0.2/24 dev lo; ip addr add fd00::2/64 dev lo nodad") // else the C library does not ask for addresses (AI_ADDRCONFIG)
	for args, want := range map[string]string{
		"ahostsv4 b":            "10.1.0.3",
		"ahostsv6 c":            "fd00::4",
		"hosts 10.1.0.3":        "10.1.0.3 B.front",
		"ahostsv4 extra":        "192.0.2.50",
		"ahostsv4 a":            "10.1.0.2",
		"ahostsv4 x":            "192.0.2.9",  // ndots:0: as it is first, then with the search domain
		"ahostsv4 nx":           "192.0.2.9",  // nx.corp.example
		"ahostsv4 many.example": "192.0.2.99", // too long for UDP
	} {
		script := "mount --bind " + dir + "/resolv.conf /etc/resolv.conf && mount --bind " + dir + "/hosts /etc/hosts && getent " + args
		if got := run(script); !strings.Contains(got, want) {
			t.Errorf("getent %s: %s, want %s", args, got, want)
		}
	}
}
