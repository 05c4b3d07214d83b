// Package network gives containers their networks: bridges, veths, macvlan and ipvlan links, addresses, routes, NAT and
// published ports.
//
//	<root>/networks/<id>.json                           a definition (Network): staged, fsynced, renamed
//	<run root>/network/endpoints/<container>/<net>.json what a container has on a network (Endpoint)
//	<run root>/network/lock                             flocked while addresses and ports are given and the kernel is changed
//
// rtnetlink(7), veth(4), network_namespaces(7), nftables (libnftnl), RFC 4193 (ULA).
//
// Life cycle: Reserve (host ports, before anything starts), Attach (when the container's namespace is there and its
// program not yet started), Detach (when it ended), or Reconcile, which finds out that it ended.
//
// Example:
//
//	m, err := network.Open(network.Options{})
//	ports, err := network.ParsePorts("127.0.0.1:8080:80")
//	held, err := m.Reserve(ctx, ports)
//	ep, err := m.Attach(ctx, network.Request{Container: id, Network: "bridge", PID: init, Ports: held.Ports, Reserved: true})
//	…
//	err = m.Detach(ctx, id, "bridge")
//	held.Close()
package network
