// Package cni attaches containers to networks that CNI plugins make: the driver `cni:NAME` (CNI specification 1.1, through libcni).
//
// NAME is the `name` in a configuration file of /etc/cni/net.d: *.conflist, *.conf and *.json in the order of their names, lists first, as libcni has it. A file
// that cannot be read does not stop the others, and is named if NAME is not found. Plugins are programs in /opt/cni/bin, /usr/lib/cni or $CNI_PATH. They
// run in the caller's network namespace, so with its thread locked a test can have a host of its own.
//
// Life cycle: Add when the container's namespace is there; Check any time; Del when it ended, whether the namespace is there or not (an empty NetNS is
// legal), as often as wanted. A failed Add has been undone by DEL, as the specification asks. What Add was given is kept in the cache folder, and
// Del uses it: the files in /etc/cni/net.d may have changed since.
//
// Caveats: plugins may run other programs (portmap: iptables), keep state of their own (/var/lib/cni, host-local's addresses), and take seconds: pass a ctx with
// a deadline. The names of the container's network are answered by package dns if the caller writes an endpoint record; a plugin's own DNS result is handed on.
//
// Example:
//
//	c := cni.New(cni.Options{CacheDir: "/run/vitro/network/cni"})
//	a := cni.Attachment{Network: "pods", Container: id, NetNS: "/proc/4711/ns/net", IfName: "eth0", Ports: ports}
//	r, err := c.Add(ctx, a)
//	…
//	err = c.Del(ctx, a)
package cni
