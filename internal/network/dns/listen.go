package dns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Addr is where a container asks, as in Docker.
const Addr = "127.0.0.11"

// inNetNS runs f on a thread that is in the network namespace. What f opens belongs there, wherever it is used from.
func inNetNS(netns *os.File, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- fmt.Errorf("open the thread's network namespace: %w", err)
			return
		}
		defer unix.Close(own)
		if err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network namespace %s: %w", netns.Name(), err)
			return
		}
		err = f()
		if back := unix.Setns(own, unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread() // else the thread ends with this goroutine
		}
		done <- err
	}()
	return <-done
}

// sockets are what the server listens on, in the container's namespace.
type sockets struct {
	udp *net.UDPConn
	tcp *net.TCPListener
}

func (s *sockets) close() {
	if s.udp != nil {
		s.udp.Close()
	}
	if s.tcp != nil {
		s.tcp.Close()
	}
}

// listen opens the sockets on ports of the kernel's choice and turns port 53 to them, so that a server of the container's own can
// have 0.0.0.0:53. Where the kernel has no nf_tables, they are on port 53 itself.
func listen(netns *os.File) (*sockets, error) {
	s, redirected := &sockets{}, false
	err := inNetNS(netns, func() error {
		if err := s.open(0); err != nil {
			return err
		}
		err := redirect(port(s.udp.LocalAddr()), port(s.tcp.Addr()))
		if redirected = err == nil; redirected || !noTables(err) {
			return err
		}
		s.close()
		return s.open(53)
	})
	if err != nil {
		s.close()
		return nil, fmt.Errorf("DNS server at %s: %w", Addr, err)
	}
	return s, nil
}

func (s *sockets) open(port int) (err error) {
	if s.udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(Addr), Port: port}); err != nil {
		return err
	}
	s.tcp, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.ParseIP(Addr), Port: port})
	return err
}

func port(a net.Addr) uint16 {
	switch a := a.(type) {
	case *net.UDPAddr:
		return uint16(a.Port)
	case *net.TCPAddr:
		return uint16(a.Port)
	}
	return 0
}

func noTables(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL)
}

// redirect writes the table `ip vitro_dns` of the thread's namespace: on the way out, what goes to 127.0.0.11:53 gets our port, and what
// comes from our port gets 53. One port for one, on loopback only, so no connection tracking is needed, and none is switched on for the
// container's other traffic, as a DNAT rule would.
func redirect(udp, tcp uint16) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "vitro_dns"}
	c.AddTable(t) // so that there is one to delete: a server before us may have left it
	c.DelTable(t)
	c.AddTable(t)
	chain := c.AddChain(&nftables.Chain{
		Table: t, Name: "output", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityMangle,
	})
	const source, dest = 0, 2 // offsets of the ports in the header
	for _, p := range []struct {
		proto    byte
		port     uint16
		checksum uint32
	}{{unix.IPPROTO_UDP, udp, 6}, {unix.IPPROTO_TCP, tcp, 16}} {
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: mangle(16, dest, p.proto, 53, p.port, p.checksum)})
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: mangle(12, source, p.proto, p.port, 53, p.checksum)})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: redirect port 53: %w", err)
	}
	return nil
}

// mangle is: address at offset addr of the IP header is 127.0.0.11, protocol, port at offset at is from: set it to to.
func mangle(addr, at uint32, proto byte, from, to uint16, checksum uint32) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: addr, Len: 4},
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: net.ParseIP(Addr).To4()},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 2},
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: []byte{byte(from >> 8), byte(from)}},
		&expr.Immediate{Register: 1, Data: []byte{byte(to >> 8), byte(to)}},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: checksum,
		},
	}
}
