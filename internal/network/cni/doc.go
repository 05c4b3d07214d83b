// Package cni attaches containers through CNI plugins: the network `cni:NAME` is the configuration list NAME.
//
// CNI specification 1.1. Configurations are read from /etc/cni/net.d, plugins run from /opt/cni/bin and /usr/lib/cni;
// what they answered is kept below the run root, for DEL.
//
// Life cycle: a Plugins goes into network.Options; Manager calls Add in Attach and Del in Detach and Reconcile, under
// its lock while it attaches. Published ports go to plugins with the capability portMappings, a given address to those
// with ips, a given MAC to those with mac; asking for one that no plugin of the list has is an error.
//
// Caveats: this is the one place of vitro's networks where other programs run, and what they make in the kernel is
// theirs: Reconcile does not repair it. A plugin that fails in Add is followed by Del, as the specification wants it.
//
// Example:
//
//	m, err := network.Open(network.Options{CNI: &cni.Plugins{CacheDir: "/run/vitro/cni"}})
//	ep, err := m.Attach(ctx, network.Request{Container: id, Network: "cni:lan", PID: init})
package cni
