package network

import (
	"net/netip"
	"time"
)

// The names of docker's network drivers.
const (
	DriverBridge  = "bridge"
	DriverMacvlan = "macvlan"
	DriverIPvlan  = "ipvlan"
	DriverNone    = "null" // the network `none`
	DriverHost    = "host"
)

// The networks that are always there. Their records are made when they are first looked up.
const (
	DefaultNetwork = "bridge"
	HostNetwork    = "host"
	NoneNetwork    = "none"
)

// Docker's option names (`network create --opt`). An unknown one is refused.
const (
	OptBridgeName  = "com.docker.network.bridge.name"                 // the bridge's link name
	OptICC         = "com.docker.network.bridge.enable_icc"           // true (default): containers of the network reach each other; icc is short for it
	OptMasquerade  = "com.docker.network.bridge.enable_ip_masquerade" // true (default)
	OptHostBinding = "com.docker.network.bridge.host_binding_ipv4"    // the address of -p without one
	OptMTU         = "com.docker.network.driver.mtu"                  // bytes; default: the uplink's
	OptIfPrefix    = "com.docker.network.container_iface_prefix"      // eth (default)
	OptParent      = "parent"                                         // macvlan, ipvlan: the host's link
	OptMacvlanMode = "macvlan_mode"                                   // bridge (default), private, vepa, passthru
	OptIPvlanMode  = "ipvlan_mode"                                    // l2 (default), l3, l3s
)

// Network is a definition: <root>/networks/<ID>.json.
type Network struct {
	ID         string // 64 hex digits
	Name       string
	Driver     string
	Subnets    []Subnet `json:",omitempty"` // at most one of each family
	IPv6       bool     `json:",omitempty"`
	Attachable bool     `json:",omitempty"`
	Internal   bool     `json:",omitempty"` // no way out, no way in but from the host itself
	Options    map[string]string
	Labels     map[string]string
	Created    time.Time
	Link       string `json:",omitempty"` // the bridge's name; for macvlan and ipvlan the parent's
}

// Subnet is one address range of a network.
type Subnet struct {
	Prefix  netip.Prefix          // masked
	Gateway netip.Addr            // the bridge's address; macvlan: the LAN's router
	Range   netip.Prefix          // containers get addresses from here; zero: from all of Prefix
	Aux     map[string]netip.Addr `json:",omitempty"` // addresses that others use
}

// Endpoint is what a container has on a network: <run root>/network/endpoints/<Container>/<Network>.json.
type Endpoint struct {
	ID          string // 64 hex digits, new at each Attach
	Container   string // the container's id
	Name        string // the container's name
	Network     string // the network's ID
	NetworkName string
	Driver      string
	State       State

	IfName    string // in the container
	Index     int    // its ifindex there
	HostLink  string `json:",omitempty"` // the veth's end on the host; macvlan and ipvlan have none
	HostIndex int    `json:",omitempty"`
	MAC       string
	MTU       int          // bytes
	IP4       netip.Prefix // zero if none, with the subnet's length
	IP6       netip.Prefix
	Gateway4  netip.Addr // zero: no default route through this network (internal)
	Gateway6  netip.Addr
	Internal  bool     `json:",omitempty"`
	Aliases   []string `json:",omitempty"`
	Ports     []Port   `json:",omitempty"`

	PID   int    `json:",omitempty"` // the namespace's owner; 0: the file NetNS.Path holds it
	Start uint64 `json:",omitempty"` // the owner's start, clock ticks since boot
	NetNS NetNS
}

// NetNS names a network namespace: a path to it, and the inode that tells whether the path still leads there.
type NetNS struct {
	Path     string
	Dev, Ino uint64
}

// State of an endpoint's record. It is written before anything is made, so a kill -9 leaves a trace that Reconcile finds.
type State string

// What a record says about the kernel's side.
const (
	Attaching State = "attaching"
	Attached  State = "attached"
	Detaching State = "detaching"
)

// CreateOptions are the arguments of Create.
type CreateOptions struct {
	Name       string
	Driver     string   // "" is bridge
	Subnets    []Subnet // Gateway and Range may be zero; none given: an IPv4 subnet is chosen
	IPv6       bool     // with no IPv6 subnet given, a ULA /64 is made
	Internal   bool
	Attachable bool // as Docker notes it: any network can be connected to
	Options    map[string]string
	Labels     map[string]string
}

// Request is the argument of Attach.
type Request struct {
	Container string // id
	Name      string
	Network   string // name, ID, or the start of an ID

	// Where to: the namespace of a process (a container's init), or a file such as /run/netns/NAME, open during Attach
	// only. With both, the file is used and the process is the owner, whose death ends the endpoint.
	PID   int
	NetNS string

	IfName  string     // "" is the first free of eth0, eth1, …
	MAC     string     // "" is 02:42 and the IPv4 address
	IP4     netip.Addr // --ip; zero: chosen
	IP6     netip.Addr
	Aliases []string

	// What to publish. From Reserve (then Reserved is true, and the caller holds the sockets while the container runs), or
	// as parsed: then Attach chooses random ports itself and nobody holds them.
	Ports    []Port
	Reserved bool

	// The container has just been detached and is given the same addresses: its connections go on. Else what conntrack knows of
	// the addresses is forgotten: it was another container's.
	Again bool
}

// Filter selects endpoints; empty fields select all.
type Filter struct {
	Container string // id
	Network   string // ID
}

// Report is what Reconcile did, one line for each change.
type Report struct {
	Changes []string // such as "link vitro0: made", "endpoint web on bridge: removed, its owner is gone"
	Kept    int      // endpoints that live
	// Warnings name what others do that containers notice: a chain that drops forwarded packets by default.
	Warnings []string
}
