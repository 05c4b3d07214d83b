package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"vitro/internal/network"
)

// A stage is a namespace with a network of package network's, and others for endpoints.
type stage struct {
	host *netns
	m    *network.Manager
	n    *network.Network
}

func (b *bench) newStage(ctx context.Context) (*stage, error) {
	s := &stage{}
	dir, err := os.MkdirTemp(b.dir, "network-")
	if err != nil {
		return nil, err
	}
	if s.host, err = b.newNetns(); err != nil {
		return nil, err
	}
	return s, s.host.do(func() (err error) {
		if s.m, err = network.Open(network.Options{Root: dir, RunRoot: dir + "/run", Table: "vitro"}); err != nil {
			return err
		}
		s.n, err = s.m.Create(ctx, network.CreateOptions{Name: "blue", Options: map[string]string{network.OptBridgeName: "br-blue"}})
		return err
	})
}

func (s *stage) attach(ctx context.Context, c *netns, name, publish string) error {
	ports, err := network.ParsePorts(publish)
	if err != nil {
		return err
	}
	return s.host.do(func() error {
		held, err := s.m.Reserve(ctx, ports)
		if err != nil {
			return err
		}
		defer held.Close()
		_, err = s.m.Attach(ctx, network.Request{Container: name, Network: s.n.ID, NetNS: c.path(), Ports: held.Ports, Reserved: true})
		return err
	})
}

func (s *stage) detach(ctx context.Context, name string) error {
	return s.host.do(func() error { return s.m.DetachAll(ctx, name) })
}

// networkAttach is Attach and Detach of an endpoint with a published port, beside the same links, addresses, routes and
// elements, made and removed with no record, lock, check or undo.
func (b *bench) networkAttach(ctx context.Context, t *table) error {
	s, err := b.newStage(ctx)
	if err != nil {
		return err
	}
	keep, err := b.newNetns() // its endpoint keeps bridge and table
	if err == nil {
		err = s.attach(ctx, keep, "keep", "9000:90")
	}
	if err != nil {
		return err
	}
	c, err := b.newNetns()
	if err != nil {
		return err
	}
	t.fill(b.raceSteps(ctx, []step{
		{name: "vitro", do: func(int) error {
			return errors.Join(s.attach(ctx, c, "one", "8080:80"), s.detach(ctx, "one"))
		}},
		{name: "bare", do: func(int) error { return s.host.do(func() error { return bare(s.n, int(c.file.Fd())) }) }},
	}), nil)
	return nil
}

func bare(n *network.Network, fd int) error {
	br, err := netlink.LinkByName(n.Link)
	if err != nil {
		return err
	}
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "vethbare", MasterIndex: br.Attrs().Index, Flags: net.FlagUp}, PeerName: "eth0", PeerNamespace: netlink.NsFd(fd)}
	if err := netlink.LinkAdd(v); err != nil {
		return err
	}
	h, err := netlink.NewHandleAt(vnetns.NsHandle(fd), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	eth0, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	gateway := n.Subnets[0].Gateway.AsSlice()
	ip := net.IPNet{IP: []byte{gateway[0], gateway[1], 200, 2}, Mask: net.CIDRMask(n.Subnets[0].Prefix.Bits(), 32)}
	for _, f := range []func() error{
		func() error { return netlink.LinkSetHairpin(v, true) },
		func() error { return h.AddrAdd(eth0, &netlink.Addr{IPNet: &ip}) },
		func() error { return h.LinkSetUp(eth0) },
		func() error {
			return h.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: gateway})
		},
		func() error { return bareElement((*nftables.Conn).SetAddElements) },
		func() error { return bareElement((*nftables.Conn).SetDeleteElements) },
		func() error { return netlink.LinkDel(v) },
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// bareElement adds or removes what publishes 8080/tcp.
func bareElement(op func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	set := &nftables.Set{
		Table: &nftables.Table{Name: "vitro", Family: nftables.TableFamilyINet}, Name: "ports4", IsMap: true, Concatenation: true,
		KeyType:  nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService),
		DataType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService),
	}
	err = op(c, set, []nftables.SetElement{{
		Key: []byte{unix.IPPROTO_TCP, 0, 0, 0, 8080 >> 8, 8080 & 255, 0, 0}, Val: []byte{172, 30, 200, 2, 0, 80, 0, 0},
	}})
	return errors.Join(err, c.Flush())
}

const (
	manyContainers = 100
	portsOfEach    = 10
)

// networkPorts publishes one more port where there is none, and where there are 1,000.
func (b *bench) networkPorts(ctx context.Context, t *table) error {
	var steps []step
	for _, p := range []struct {
		name       string
		containers int
	}{{"the first port", 0}, {"port 1,001", manyContainers}} {
		s, err := b.newStage(ctx)
		if err != nil {
			return err
		}
		for i := -1; i < p.containers; i++ {
			c, err := b.newNetns()
			if err != nil {
				return err
			}
			ports := "9000:90"
			if i >= 0 {
				ports = fmt.Sprintf("%d-%d:1000-%d", 10000+i*portsOfEach, 10000+i*portsOfEach+portsOfEach-1, 1000+portsOfEach-1)
			}
			if err := s.attach(ctx, c, fmt.Sprintf("c%d", i+1), ports); err != nil {
				return err
			}
		}
		c, err := b.newNetns()
		if err != nil {
			return err
		}
		steps = append(steps, step{
			name: p.name,
			do:   func(int) error { return s.attach(ctx, c, "one", "8080:80") },
			undo: func(int) error { return s.detach(ctx, "one") },
		})
	}
	t.fill(b.raceSteps(ctx, steps), nil)
	return nil
}

const (
	crowd   = 300
	workers = 8
)

// networkMany starts 300 containers on one bridge by 8 workers, and removes them so. That all have addresses of their own,
// answer, and leave nothing is part of it: else the row is an error.
func (b *bench) networkMany(ctx context.Context, t *table) error {
	h, err := b.vitroHost(ctx)
	if err != nil {
		return err
	}
	run, rm := result{name: "run -d"}, result{name: "rm -f"}
	begin := time.Now()
	run.samples, run.err = b.crowd(ctx, func(i int) []string {
		return append(h.engine.cmd("run", "-d", "--name", fmt.Sprint("many", i)), imageRef, "/bin/sleep", "100000")
	})
	took := time.Since(begin)
	if run.err == nil {
		run.err = b.checkCrowd(h)
	}
	begin = time.Now()
	rm.samples, rm.err = b.crowd(ctx, func(i int) []string { return h.engine.cmd("rm", "-f", fmt.Sprint("many", i)) })
	t.Title = fmt.Sprintf("%s: run %.1f s, rm %.1f s, each:", t.Title, took.Seconds(), time.Since(begin).Seconds())
	if rm.err == nil {
		rm.err = b.checkGone(h)
	}
	t.fill([]result{run, rm}, nil)
	return nil
}

// crowd runs 300 commands, 8 at a time. This thread starts them, since it is in the bench's mount namespace.
func (b *bench) crowd(ctx context.Context, argv func(int) []string) ([]sample, error) {
	samples, errs := make([]sample, crowd), make([]error, crowd)
	var wg sync.WaitGroup
	slots := make(chan struct{}, workers)
	for i := range crowd {
		slots <- struct{}{}
		stderr, err := os.CreateTemp(b.dir, "crowd-")
		cmd := b.command(ctx, argv(i))
		cmd.Stderr = stderr
		begin := time.Now()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			errs[i] = err
			break
		}
		wg.Go(func() {
			samples[i], errs[i] = finish(cmd, begin, stderr)
			<-slots
		})
	}
	wg.Wait()
	return samples, errors.Join(errs...)
}

func finish(cmd *exec.Cmd, begin time.Time, stderr *os.File) (sample, error) {
	defer stderr.Close()
	err := cmd.Wait()
	s := sample{wall: time.Since(begin)}
	if err != nil {
		text, _ := os.ReadFile(stderr.Name())
		return s, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args[3:], " "), err, lastLine(string(text)))
	}
	u := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	s.faults, s.switches = u.Minflt, u.Nvcsw+u.Nivcsw
	return s, os.Remove(stderr.Name())
}

// checkCrowd wants as many addresses as containers, and an answer from each: a refusal is one.
func (b *bench) checkCrowd(h *host) error {
	text, err := b.output(h.engine.cmd("network", "ls", "--endpoints", "--format", "{{.IPv4}}"))
	if err != nil {
		return err
	}
	addrs := strings.Fields(text)
	slices.Sort(addrs)
	addrs = slices.Compact(addrs)
	if len(addrs) != crowd {
		return fmt.Errorf("%d addresses for %d containers", len(addrs), crowd)
	}
	return h.ns.do(func() error {
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a)
			if err != nil {
				return err
			}
			c, err := net.DialTimeout("tcp", p.Addr().String()+":1", 10*time.Second)
			if err == nil {
				c.Close()
			} else if !errors.Is(err, unix.ECONNREFUSED) {
				return err
			}
		}
		return nil
	})
}

func (b *bench) checkGone(h *host) error {
	text, err := b.output(h.engine.cmd("network", "ls", "--endpoints", "-q"))
	if err == nil && text != "" {
		err = fmt.Errorf("endpoints are left: %s", text)
	}
	if err != nil {
		return err
	}
	return h.ns.do(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if l.Type() == "veth" && l.Attrs().Name != "lan0" {
				err = errors.Join(err, fmt.Errorf("link %s is left", l.Attrs().Name))
			}
		}
		return err
	})
}
