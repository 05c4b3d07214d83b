package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A netns is a network namespace with a thread in it. Everything of the network parts happens in such ones: the machine's
// own links and rules are not touched.
type netns struct {
	file *os.File
	jobs chan func()
}

func (b *bench) newNetns() (*netns, error) {
	return b.enterNetns(func() error { return unix.Unshare(unix.CLONE_NEWNET) })
}

// netnsOf gives the namespace of a process.
func (b *bench) netnsOf(pid int) (*netns, error) {
	return b.enterNetns(func() error {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
	})
}

func (b *bench) enterNetns(enter func() error) (*netns, error) {
	n := &netns{jobs: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := enter()
		if err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		var lo netlink.Link
		if err == nil {
			lo, err = netlink.LinkByName("lo")
		}
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		ready <- err
		for f := range n.jobs {
			f()
		}
	}()
	if err := <-ready; err != nil {
		close(n.jobs)
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	b.spaces = append(b.spaces, n)
	b.undo = append(b.undo, func() {
		close(n.jobs)
		n.file.Close()
	})
	return n, nil
}

func (n *netns) do(f func() error) error {
	done := make(chan error)
	n.jobs <- func() { done <- f() }
	return <-done
}

func (n *netns) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// enter gives the arguments that run a program there, in the mount namespace of the caller.
func (n *netns) enter(argv ...string) []string {
	return append([]string{"nsenter", "--net=" + n.path(), "--"}, argv...)
}

// inside is the reverse of enter: a command that is started by the namespace's thread is there without nsenter, whose start is not
// what is measured.
func (b *bench) inside(argv []string) (*netns, []string) {
	for _, n := range b.spaces {
		if p := n.enter(); len(argv) > len(p) && slices.Equal(argv[:len(p)], p) {
			return n, argv[len(p):]
		}
	}
	return nil, argv
}

// join makes a pair of links between two namespaces.
func join(a, b *netns, nameA, addrA, nameB, addrB string) error {
	return errors.Join(
		a.do(func() error {
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b.file.Fd())})
		}),
		a.do(func() error { return setUp(nameA, addrA) }),
		b.do(func() error { return setUp(nameB, addrB) }),
	)
}

// setUp gives a link an address, unless it is empty.
func setUp(name, addr string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if addr != "" {
		a, err := netlink.ParseAddr(addr)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return netlink.LinkSetUp(l)
}

// A step is a competitor that is a function of the harness. undo is not in the time.
type step struct {
	name     string
	do, undo func(i int) error
}

// raceSteps is race for steps: faults and switches are the whole harness's.
func (b *bench) raceSteps(ctx context.Context, steps []step) []result {
	results := make([]result, len(steps))
	for i := range steps {
		results[i].name = steps[i].name
	}
	for round := -1; round < b.n; round++ {
		for k := range steps {
			i := (k + max(round, 0)) % len(steps)
			r := &results[i]
			if r.err != nil || ctx.Err() != nil {
				continue
			}
			var s sample
			s, r.err = timed(func() error { return steps[i].do(round + 1) })
			if r.err == nil && steps[i].undo != nil {
				r.err = steps[i].undo(round + 1)
			}
			if r.err == nil && round >= 0 {
				r.samples = append(r.samples, s)
			}
		}
	}
	return results
}

func timed(f func() error) (sample, error) {
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
		return sample{}, err
	}
	begin := time.Now()
	err := f()
	s := sample{wall: time.Since(begin)}
	if err == nil {
		err = unix.Getrusage(unix.RUSAGE_SELF, &after)
	}
	s.faults = after.Minflt - before.Minflt
	s.switches = after.Nvcsw + after.Nivcsw - before.Nvcsw - before.Nivcsw
	return s, err
}

// A host is a network namespace with an engine in it and a LAN host beside it, that has the way to it.
type host struct {
	ns, lan *netns
	engine  engine
}

const hostIP = "198.51.100.1"

// newHost wants start to give the engine; its commands are run in the namespace.
func (b *bench) newHost(ctx context.Context, start func(context.Context, *netns) (engine, error)) (*host, error) {
	h := &host{}
	var err error
	if h.ns, err = b.newNetns(); err != nil {
		return h, err
	}
	if h.lan, err = b.newNetns(); err != nil {
		return h, err
	}
	if err := join(h.ns, h.lan, "lan0", hostIP+"/24", "eth0", "198.51.100.2/24"); err != nil {
		return h, err
	}
	if h.engine, err = start(ctx, h.ns); err != nil {
		return h, err
	}
	archive := filepath.Join(b.dir, "image.tar")
	if err := writeImage(archive, imageRef, b.rootfs, 1); err != nil {
		return h, err
	}
	_, err = b.run(ctx, [][]string{h.engine.cmd("load", "-q", "-i", archive)})
	return h, err
}

// vitroHost and dockerHost are hosts whose containers are on the default bridge.
func (b *bench) vitroHost(ctx context.Context) (*host, error) {
	return b.newHost(ctx, func(_ context.Context, ns *netns) (engine, error) {
		path, err := find("vitro")
		if err != nil {
			return engine{name: "vitro"}, err
		}
		dir, err := os.MkdirTemp(b.dir, "vitro-net-")
		if err != nil {
			return engine{name: "vitro"}, err
		}
		e := vitroEngine(path, dir)
		e.argv = ns.enter(e.argv...)
		b.undo = append(b.undo, func() { b.removeAll(e) })
		return e, nil
	})
}

// dockerHost has iptables' rules alone for published ports: no docker-proxy.
func (b *bench) dockerHost(ctx context.Context) (*host, error) {
	return b.newHost(ctx, func(ctx context.Context, ns *netns) (engine, error) {
		return b.startDockerd(ctx, "docker-net", ns.enter(), "--userland-proxy=false")
	})
}

func (b *bench) removeAll(e engine) {
	ids, err := b.output(e.cmd("ps", "-aq"))
	if err == nil && ids != "" {
		_, err = b.output(append(e.cmd("rm", "-f"), strings.Fields(ids)...))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: remove containers:", err)
	}
}

func (b *bench) output(argv []string) (string, error) {
	cmd := b.command(context.Background(), argv)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, lastLine(string(exit.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}

// container starts one that sleeps, and gives its namespace.
func (b *bench) container(h *host, flags ...string) (*netns, error) {
	argv := append(h.engine.cmd("run", "-d", "--name", "bench"), flags...)
	if _, err := b.output(append(argv, imageRef, "/bin/sleep", "100000")); err != nil {
		return nil, err
	}
	text, err := b.output(h.engine.cmd("inspect", "-f", "{{.State.Pid}}", "bench"))
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		return nil, err
	}
	return b.netnsOf(pid)
}

// networkRun compares a whole `run --rm` on the default bridge.
func (b *bench) networkRun(ctx context.Context, t *table) error {
	var cs []competitor
	var missing []result
	for _, p := range []struct {
		name string
		host func(context.Context) (*host, error)
	}{{"vitro", b.vitroHost}, {"docker", b.dockerHost}} {
		h, err := p.host(ctx)
		if err != nil {
			missing = append(missing, result{name: p.name, err: err})
			continue
		}
		argv := append(h.engine.cmd("run", "--rm"), imageRef, "/bin/true")
		cs = append(cs, competitor{name: p.name, cmds: func(int) [][]string { return [][]string{argv} }})
		if p.name == "vitro" {
			none := append(h.engine.cmd("run", "--rm", "--network", "none"), imageRef, "/bin/true")
			cs = append(cs, competitor{name: "vitro, no network", cmds: func(int) [][]string { return [][]string{none} }})
		}
	}
	t.fill(b.race(ctx, cs), missing)
	return nil
}

// connections is how many a round of part network/connect sets up, one after the other.
const connections = 1000

// networkConnect connects from the LAN to a published port. The connection is there, for the client, when the answer to
// its SYN came back through the host's rules.
func (b *bench) networkConnect(ctx context.Context, t *table) error {
	var steps []step
	var missing []result
	for _, p := range []struct {
		name string
		host func(context.Context) (*host, error)
	}{{"vitro", b.vitroHost}, {"docker", b.dockerHost}} {
		h, err := p.host(ctx)
		var c *netns
		var l backlog
		if err == nil {
			c, err = b.container(h, "-p", "8080:80")
		}
		if err == nil {
			l, err = b.listen(c, 80)
		}
		if err != nil {
			missing = append(missing, result{name: p.name, err: err})
			continue
		}
		steps = append(steps, step{name: p.name, do: func(int) error {
			return h.lan.do(func() error { return connect(netip.MustParseAddrPort(hostIP+":8080"), connections) })
		}, undo: func(int) error { return l.clear() }})
	}
	t.fill(b.raceSteps(ctx, steps), missing)
	return nil
}

// A backlog is a socket that listens and keeps the connections of a round, so that no server is woken while they are counted.
type backlog int

// listen opens a backlog in a namespace.
func (b *bench) listen(n *netns, port int) (l backlog, err error) {
	return l, n.do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		l = backlog(fd)
		b.undo = append(b.undo, func() { unix.Close(fd) })
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
			return err
		}
		return unix.Listen(fd, connections)
	})
}

// clear takes the connections of a round, which must all be there, and closes them.
func (l backlog) clear() error {
	for i := range connections {
		fd, _, err := unix.Accept4(int(l), unix.SOCK_CLOEXEC)
		if err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, connections, err)
		}
		unix.Close(fd)
	}
	return nil
}

// connect opens connections by bare system calls, and ends each by a reset, so that none waits for its time.
func connect(to netip.AddrPort, n int) error {
	sa := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		if err == nil {
			err = unix.Connect(fd, sa)
		}
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			return fmt.Errorf("connect to %s: %w", to, err)
		}
	}
	return nil
}

// transferBytes is what a round of part network/transfer sends: half a second or so.
const transferBytes = "1G"

// networkTransfer sends from a container to its host: iperf3, to the bridge's address.
func (b *bench) networkTransfer(ctx context.Context, t *table) error {
	if _, err := find("iperf3"); err != nil {
		return fmt.Errorf("iperf3: %w", err)
	}
	var cs []competitor
	var missing []result
	for _, p := range []struct {
		name string
		path func(context.Context) (c, h *netns, gateway string, err error)
	}{
		{"vitro", func(ctx context.Context) (c, h *netns, gateway string, err error) { return b.bridged(ctx, b.vitroHost) }},
		{"docker", func(ctx context.Context) (c, h *netns, gateway string, err error) {
			return b.bridged(ctx, b.dockerHost)
		}},
		{"bare veth + bridge", b.bareBridge},
	} {
		c, h, gateway, err := p.path(ctx)
		if err == nil {
			err = b.iperfServer(ctx, h, gateway)
		}
		if err != nil {
			missing = append(missing, result{name: p.name, err: err})
			continue
		}
		argv := c.enter("iperf3", "-c", gateway, "-n", transferBytes)
		cs = append(cs, competitor{name: p.name, cmds: func(int) [][]string { return [][]string{argv} }})
	}
	strace := b.strace
	b.strace = "" // it would take minutes, and counts iperf3's calls
	t.fill(b.race(ctx, cs), missing)
	b.strace = strace
	return nil
}

func (b *bench) bridged(ctx context.Context, newHost func(context.Context) (*host, error)) (c, ns *netns, gateway string, err error) {
	h, err := newHost(ctx)
	if err != nil {
		return nil, nil, "", err
	}
	if c, err = b.container(h); err != nil {
		return nil, nil, "", err
	}
	err = c.do(func() error {
		routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
		for _, r := range routes {
			if r.Gw != nil {
				gateway = r.Gw.String()
			}
		}
		return err
	})
	return c, h.ns, gateway, err
}

func (b *bench) bareBridge(context.Context) (c, h *netns, gateway string, err error) {
	h, err = b.newNetns()
	if err == nil {
		c, err = b.newNetns()
	}
	if err == nil {
		err = h.do(func() error {
			return errors.Join(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}), setUp("br0", "10.99.0.1/16"))
		})
	}
	if err == nil {
		err = join(h, c, "veth0", "", "eth0", "10.99.0.2/16")
	}
	if err == nil {
		err = h.do(func() error {
			v, err := netlink.LinkByName("veth0")
			if err != nil {
				return err
			}
			br, err := netlink.LinkByName("br0")
			if err != nil {
				return err
			}
			return netlink.LinkSetMaster(v, br)
		})
	}
	return c, h, "10.99.0.1", err
}

func (b *bench) iperfServer(ctx context.Context, h *netns, at string) error {
	log, err := os.CreateTemp(b.dir, "iperf3-")
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := b.command(context.WithoutCancel(ctx), h.enter("iperf3", "-s", "-B", at, "--forceflush"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	b.undo = append(b.undo, func() { cmd.Process.Kill(); cmd.Wait() })
	for range 100 {
		if text, _ := os.ReadFile(log.Name()); strings.Contains(string(text), "listening") {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("iperf3 -s does not listen")
}
