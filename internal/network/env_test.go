package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vitro/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// ns is a network namespace with a thread in it.
type ns struct {
	t    testing.TB
	file *os.File
	jobs chan func()
}

func newNS(t testing.TB) *ns {
	t.Helper()
	testenv.Need(t, testenv.Root)
	jobs := make(chan func())
	n := &ns{t: t, jobs: jobs}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		if err == nil {
			err = netlink.LinkSetUp(byIndex(1))
		}
		ready <- err
		for f := range jobs {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	return n
}

func (n *ns) close() {
	if n.jobs != nil {
		close(n.jobs)
		n.file.Close()
		n.jobs = nil
	}
}

// path is what a Request takes.
func (n *ns) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// do runs f in the namespace and fails the test with its error.
func (n *ns) do(f func() error) {
	n.t.Helper()
	if err := n.try(f); err != nil {
		n.t.Fatal(err)
	}
}

func (n *ns) try(f func() error) error {
	done := make(chan error)
	n.jobs <- func() { done <- f() }
	return <-done
}

// echo serves tcp and udp on a port of all addresses: the answer is the client's address as the server sees it.
func (n *ns) echo(port int) {
	n.t.Helper()
	n.do(func() error {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			return err
		}
		n.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, host(c.RemoteAddr()))
				c.Close()
			}
		}()
		u, err := net.ListenPacket("udp", ":"+strconv.Itoa(port))
		if err != nil {
			return err
		}
		n.t.Cleanup(func() { u.Close() })
		go func() {
			b := make([]byte, 100)
			for {
				_, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				u.WriteTo([]byte(host(from)), from)
			}
		}()
		return nil
	})
}

func host(a net.Addr) string {
	ap := netip.MustParseAddrPort(a.String())
	return ap.Addr().Unmap().String()
}

var errNoAnswer = errors.New("no answer")

// ask connects and gives the answer.
func (n *ns) ask(proto, addr string, patience time.Duration) (answer string, err error) {
	err = n.try(func() error {
		c, err := (&net.Dialer{Timeout: patience}).Dial(proto, addr)
		if err != nil {
			return errors.Join(errNoAnswer, err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if proto == "udp" {
			c.Write([]byte("?"))
		}
		b := make([]byte, 100)
		k, err := c.Read(b)
		answer = string(b[:k])
		return err
	})
	return answer, err
}

func (n *ns) wantAnswer(proto, addr, from string) {
	n.t.Helper()
	got, err := n.ask(proto, addr, 5*time.Second)
	if err != nil || from != "" && got != from {
		n.t.Errorf("%s %s: seen as %q, %v; want %q", proto, addr, got, err, from)
	}
}

func (n *ns) wantSilence(proto, addr string) {
	n.t.Helper()
	if got, err := n.ask(proto, addr, 300*time.Millisecond); err == nil {
		n.t.Errorf("%s %s: seen as %q; want no connection", proto, addr, got)
	}
}

// routeLoopback sends packets for 127.0.0.2 to a neighbour, and takes its answers.
func (n *ns) routeLoopback(link, neighbour string) {
	n.t.Helper()
	n.do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		if err := setSysctl("/proc/sys/net/ipv4/conf/"+link+"/route_localnet", "1"); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{ // the local table has 127.0.0.0/8 and comes before all others
			Table: unix.RT_TABLE_LOCAL, LinkIndex: l.Attrs().Index, Dst: ipnet(netip.MustParsePrefix("127.0.0.2/32")), Gw: net.ParseIP(neighbour),
		})
	})
}

// world is a LAN host, a container host and its manager.
type world struct {
	t         *testing.T
	lan, host *ns
	m         *Manager
}

const (
	lanIP, lanIP6   = "198.51.100.2", "2001:db8:1::2"
	hostIP, hostIP6 = "198.51.100.1", "2001:db8:1::1"
)

func newWorld(t *testing.T) *world { return newWorldNF(t, "0") }

// newWorldNF sets bridge-nf-call-iptables and -ip6tables of the container host.
func newWorldNF(t *testing.T, nf string) *world {
	w := &world{t: t, lan: newNS(t), host: newNS(t)}
	w.host.do(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lan0", Flags: net.FlagUp}, PeerName: "eth0", PeerNamespace: netlink.NsFd(w.lan.file.Fd())}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		return setUp("lan0", hostIP+"/24", hostIP6+"/64", lanIP, lanIP6)
	})
	w.lan.do(func() error { return setUp("eth0", lanIP+"/24", lanIP6+"/64", "", "") })
	w.host.do(func() (err error) {
		dir := t.TempDir()
		if err := setSysctl("/proc/sys/net/bridge/bridge-nf-call-iptables", nf); err != nil {
			return err
		}
		if err := setSysctl("/proc/sys/net/bridge/bridge-nf-call-ip6tables", nf); err != nil {
			return err
		}
		w.m, err = Open(Options{Root: dir, RunRoot: dir + "/run", Table: "vitro"})
		return err
	})
	return w
}

func setUp(name string, addrs ...string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.LinkSetUp(lo), netlink.LinkSetUp(l)); err != nil {
		return err
	}
	for _, a := range addrs[:2] {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(l, addr); err != nil {
			return err
		}
	}
	for _, gw := range addrs[2:] {
		if gw == "" {
			continue
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(gw)}); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) create(o CreateOptions) *Network {
	w.t.Helper()
	var n *Network
	w.host.do(func() (err error) {
		n, err = w.m.Create(context.Background(), o)
		return err
	})
	return n
}

// container makes a namespace and attaches it.
func (w *world) container(name, network, publish string, change ...func(*Request)) (*ns, *Endpoint) {
	w.t.Helper()
	c := newNS(w.t)
	e, err := w.attach(c, name, network, publish, change...)
	if err != nil {
		w.t.Fatal(err)
	}
	return c, e
}

func (w *world) attach(c *ns, name, network, publish string, change ...func(*Request)) (e *Endpoint, err error) {
	r := Request{Container: "netcore-" + name, Name: name, Network: network, NetNS: c.path()}
	for p := range strings.FieldsSeq(publish) {
		ports, err := ParsePorts(p)
		if err != nil {
			return nil, err
		}
		r.Ports = append(r.Ports, ports...)
	}
	for _, f := range change {
		f(&r)
	}
	err = w.host.try(func() (err error) {
		e, err = w.m.Attach(context.Background(), r)
		return err
	})
	return e, err
}

func (w *world) detach(name string) {
	w.t.Helper()
	w.host.do(func() error { return w.m.DetachAll(context.Background(), "netcore-"+name) })
}

func (w *world) reconcile() (r Report) {
	w.t.Helper()
	w.host.do(func() (err error) {
		r, err = w.m.Reconcile(context.Background())
		return err
	})
	return r
}

// snapshot lists links, addresses, rules and records of the host, and the links of a container.
func (w *world) snapshot(c *ns) []string {
	w.t.Helper()
	var out []string
	look := func(prefix string) error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			out = append(out, prefix+"link "+l.Attrs().Name)
			addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
			if err != nil {
				return err
			}
			for _, a := range addrs {
				out = append(out, prefix+"address "+a.String())
			}
		}
		return nil
	}
	w.host.do(func() error {
		k, err := w.m.readTable()
		if err != nil {
			return err
		}
		if k != nil {
			out = append(out, "table, intact: "+strconv.FormatBool(k.intact))
			for e := range k.elements {
				out = append(out, fmt.Sprintf("element %q %q %q %q", e.set, e.key, e.keyEnd, e.val))
			}
		}
		return look("")
	})
	if c != nil {
		c.do(func() error { return look("container ") })
	}
	filepathWalk(w.m.opt.Root, func(path string) {
		if !strings.Contains(path, "/last") {
			out = append(out, "file "+path)
		}
	})
	slices.Sort(out)
	return out
}

func flushRuleset() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.FlushRuleset()
	return c.Flush()
}
