// Package explain shows what a container, or any process, is made of: processes, namespaces, cgroups, capabilities, mounts,
// users, network, and what it could do to the host. All comes from the kernel: /proc, nsfs(4) ioctls, cgroupfs, rtnetlink(7),
// nf_tables, statmount(2). So it explains docker's, podman's and containerd's containers and a plain unshare(1) as well.
//
// It works in three steps: [Gather] reads [Facts], plain data that encodes as JSON; findings judge them; [Facts.Text] prints
// them. [Namespaces], [Groups] and [CapsOf] list the whole machine.
//
// Rules of the house, since the other side may be hostile:
//   - nothing of the container is run, and nothing is changed: no mount, no module, no file (names are read with O_NOATIME);
//   - no path is resolved through links of the container: its root is an fd, and only /etc/passwd and /etc/group are opened
//     below it, by openat2(RESOLVE_IN_ROOT|RESOLVE_NO_SYMLINKS|RESOLVE_NO_XDEV), without waiting for a FIFO or a file server;
//   - a process is held by an fd of its /proc folder: a pid that is used again is not taken for it;
//   - reading a command line may take 100 ms, as a process can put it on memory that it serves itself;
//   - all foreign text is printed through [Safe], or as JSON by [JSON]: no control character comes through.
//
// Caveats: rules of iptables-legacy are not read (said in the notes). Securebits come from a BPF iterator, and need
// CAP_BPF and BTF. Without root, most of what concerns other users' processes is out of sight.
//
// proc(5), namespaces(7), cgroups(7), capabilities(7), mount_namespaces(7), user_namespaces(7), veth(4), nft(8).
//
// Example:
//
//	f, err := explain.Gather(explain.Options{PID: pid, Name: "web"})
//	fmt.Print(f.Text(explain.Page{Rows: 40}))
package explain
