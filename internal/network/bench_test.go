package network

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkAttach is Attach and Detach of a bridged endpoint with one published port, alone and beside 1,000 ports. How
// that compares with the bare transactions is bench's part network/attach.
func BenchmarkAttach(b *testing.B) {
	for _, ports := range []int{0, 1000} {
		b.Run(fmt.Sprintf("vitro/ports=%d", ports), func(b *testing.B) { benchHost(b, ports) })
	}
}

func benchHost(b *testing.B, ports int) {
	h, c := newNS(b), newNS(b)
	dir := b.TempDir()
	h.do(func() error {
		m, err := Open(Options{Root: dir, RunRoot: dir + "/run", Table: "vitro"})
		if err != nil {
			return err
		}
		n, err := m.Create(context.Background(), CreateOptions{Name: "blue", Options: map[string]string{OptBridgeName: "br-blue"}})
		if err != nil {
			return err
		}
		if ports > 0 {
			p, _ := ParsePorts(fmt.Sprintf("10000-%d:10000-%d", 10000+ports-1, 10000+ports-1))
			if _, err := m.Attach(context.Background(), Request{Container: "many", Network: "blue", NetNS: c.path(), IfName: "many0", Ports: p, Reserved: true}); err != nil {
				return err
			}
		}
		for b.Loop() {
			if err := attachOnce(m, n, c); err != nil {
				return err
			}
		}
		return nil
	})
}

func attachOnce(m *Manager, n *Network, c *ns) error {
	r := Request{Container: "one", Network: n.ID, NetNS: c.path(), Reserved: true, Ports: []Port{{Proto: "tcp", HostPort: 8080, Port: 80}}}
	if _, err := m.Attach(context.Background(), r); err != nil {
		return err
	}
	return m.DetachAll(context.Background(), "one")
}
