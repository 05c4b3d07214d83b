// Package network gives containers their networks: bridges, veths, macvlan and ipvlan links, addresses, routes, NAT and
// published ports.
//
//	<root>/networks/<id>.json                            a definition (Network): staged, fsynced, renamed
//	<run root>/network/endpoints/<container>/<net>.json  what a container has on a network (Endpoint)
//	<run root>/network/leases/<net>/<address>            a symbolic link to the endpoint that has the address
//	<run root>/network/ports/<proto>-<port>/<address>    a symbolic link to the endpoint that publishes the port
//	<run root>/network/lock                              flocked by who changes any of it, or the kernel
//
// rtnetlink(7), veth(4), network_namespaces(7), netlink(7), nf_tables (libnftnl), RFC 4193 (ULA). No program is run; the
// networks cni:NAME, whose plugins are programs, are package cni's alone.
//
// # Life cycle
//
// Reserve (host ports, before anything starts), Attach (when the container's namespace is there and its program not yet
// started), Detach (when it ended), or Reconcile, which finds out by itself that it ended. What there shall be follows
// from the records alone, and Reconcile makes the kernel so; Attach and Detach do the part that is theirs. A record is
// there before what it stands for is made, and goes after it: a kill -9 at any moment leaves what Reconcile removes.
// Bridges are known as ours by their alias (<table>:<network ID>), veths by their name (veth, 4 digits of the table's hash,
// 7 of the endpoint's ID), rules by their table. Nothing else on the host is touched, but for two sysctls.
//
// # The rules
//
// One table, inet vitro (testdata/table.golden), of nine chains that never change, and sets. A published port is an element
// of a map, so a connection costs two look-ups however many there are, and one more port costs what the first did. A
// port is open to whoever reaches the host address it is bound to: 127.0.0.1:8080:80 is for the host alone, 8080:80 is for all.
//
//   - From outside, and from containers of other networks, the client's address is kept. From the same network it becomes
//     the bridge's (the answer would not come back through the host), from the host's 127.0.0.1 too. ::1 cannot be the
//     source of a packet that leaves the host: on the host, use one of its other addresses.
//   - Between networks, and to a container's own address from outside, nothing passes, unless it is published. The host
//     itself reaches all containers. A firewall's INPUT chain does not see published ports: they are forwarded.
//   - What comes from a bridge with a source that is not routed to that bridge is dropped (RFC 3704), to the host as well, and before
//     the host could answer it with an ICMP error: a container cannot speak in the name of a LAN host or of another network, nor have
//     the host tell that one what it said. So a published port is on the network of the default route. ICMP errors may name any connection
//     of the host: they go to the outside, but out of no internal network and into no other one. Hop-by-hop options are read
//     before any chain: of them the host tells nobody (ICMPv6 parameter problem, chain reporting), as long as the table is there.
//   - A verdict accept is one of this table only. Where docker (policy DROP in FORWARD) or firewalld has another table, its
//     drop counts, and Reconcile warns of it: allow the bridges there (docker: iptables -I DOCKER-USER -i vitro0 -j ACCEPT, and -o).
//   - Routing is turned on if it is off (net.ipv4.ip_forward, net.ipv6.conf.all.forwarding) and stays on; the table does not
//     filter what is not from or to its bridges. With IPv6 forwarding, a host that configures itself by router
//     advertisements needs accept_ra=2 on its uplink.
//   - route_localnet is on for the bridges, for 127.0.0.1; chain guard drops what containers would do with it (CVE-2020-8558),
//     as a source too. A neighbour's packet for 127.0.0.1 is not translated, so that the kernel drops it as a martian.
//   - enable_icc=false: the bridge's own frames are made to pass the forward chain (nf_call_iptables of this bridge), or, without
//     br_netfilter, its ports are isolated.
//
// # Caveats
//
// The Manager works in the network namespace of the calling thread. Two roots on one host have two tables. A network whose
// subnets overlap with a route or address of the host is refused; a route that comes later is not noticed. Links made by
// others are never taken over: a bridge name that is in use is an error. UDP flows to a port are forgotten (conntrack)
// when it is published or ceases to be; when rules are made again, all that began without them and that they would have
// translated or dropped. SCTP ports are only checked against other containers if the kernel has no SCTP.
// An interface that is up forwards only when the kernel has seen its carrier, which Attach waits for (see settle).
// Deleting a veth takes the kernel about 20 ms (RCU), which Detach waits for, without the lock.
//
// # Example
//
//	m, err := network.Open(network.Options{})
//	ports, err := network.ParsePorts("127.0.0.1:8080:80")
//	held, err := m.Reserve(ctx, ports)
//	ep, err := m.Attach(ctx, network.Request{Container: id, Network: "bridge", PID: init, Ports: held.Ports, Reserved: true})
//	…
//	err = m.Detach(ctx, id, "bridge")
//	held.Close()
package network
