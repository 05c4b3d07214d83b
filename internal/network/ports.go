package network

import (
	"context"
	"net/netip"
	"os"
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
func ParsePorts(arg string) ([]Port, error) { return nil, errUnbuilt }

// ParseExpose reads `--expose` and an image's ExposedPorts: port[-port][/proto]. HostPort is 0, as -P wants it.
func ParseExpose(arg string) ([]Port, error) { return nil, errUnbuilt }

// HostAddrs are the addresses as `docker port` prints them: 0.0.0.0:8080, [::]:8080 (if the endpoint has IPv6).
func (e *Endpoint) HostAddrs(p Port) []netip.AddrPort { return nil }

// Reservation holds host ports for one container.
type Reservation struct {
	Ports []Port     // with HostPort set
	Files []*os.File // bound sockets, not listening: nobody else gets the ports while they are open
}

// Close gives the ports back.
func (r *Reservation) Close() {}

// Reserve picks and binds host ports before anything starts. A port in use, by an endpoint of ours or by a socket of
// anyone, is an error in docker's words: "Bind for 0.0.0.0:8080 failed: port is already allocated". The caller's
// monitor keeps Files open (they can be inherited) until after Detach.
func (m *Manager) Reserve(ctx context.Context, ports []Port) (*Reservation, error) {
	return nil, errUnbuilt
}
