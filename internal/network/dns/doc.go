// Package dns is the name server of a container, and the three files that name things in it: /etc/hosts, /etc/resolv.conf, /etc/hostname.
//
// The server is at 127.0.0.11 in the container's network namespace and part of the container's monitor, which lives in the host's: its
// listening sockets are opened on a thread that has entered the namespace (setns(2)), everything that is forwarded goes out from the host's,
// so that a resolver on the host's loopback (systemd-resolved's 127.0.0.53) works. The exception is a loopback address given with --dns: it
// is the container's own loopback.
//
// # Port 53
//
// The sockets have ports of the kernel's choice. A table `ip vitro_dns` in the container's namespace changes port 53 of 127.0.0.11 to them and
// back, without connection tracking. So a container that runs a name server of its own on 0.0.0.0:53 can bind it (dnsmasq, unbound, CoreDNS: with
// or without SO_REUSEADDR), and is reached at every other address. Without nf_tables in the kernel the sockets are on port 53 itself, and such a
// server fails with "address already in use". A container with CAP_NET_ADMIN can delete the table; the next Serve writes it again.
//
// # Names
//
// RFC 1034, 1035, 2308, 6891 (EDNS0), 7766 (TCP). A [Names] answers for the names of other containers: container name, short id, full id, alias, each also
// with ".<network>" behind it, in the networks that this container is on, case ignored. A name with several endpoints is answered with all their
// addresses, rotated. A known name is never forwarded: for another type than A and AAAA the answer is empty (NODATA). TTLs are short. What is not known is
// forwarded, single labels too (search domains are the business of resolv.conf), unless the options ask for ndots above 0, as in Docker.
// [Records] is the Names that reads the endpoint records below <run root>/network/endpoints.
//
// A container whose networks are all internal, or that has none, gets nothing forwarded: unknown names are SERVFAIL, as in Docker. Answers of upstreams are passed on with their own bits; SERVFAIL and
// REFUSED make it ask the next.
//
// Life cycle: Serve when the namespace is there and before the program starts; Set on connect, disconnect; Close when init has ended. Open sockets
// keep a namespace and its veths: Close does not wait for anybody. The monitor's own threads never stay in the container's namespace.
//
// Example:
//
//	host, _ := os.ReadFile("/etc/resolv.conf")
//	conf := dns.Resolve(host, dns.Embedded, dns.Options{Servers: flags.DNS})
//	os.WriteFile(dir+"/resolv.conf", conf.File, 0o644)
//	s, err := dns.Serve(netns, dns.Config{Upstreams: conf.Upstreams, Names: dns.NewRecords(runRoot+"/network/endpoints", id)})
//	defer s.Close()
package dns
