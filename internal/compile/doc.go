// Package compile turns an OCI spec and facts about the host into a plan.Program: what vitrun will do, as data.
//
// [Gather] looks at the host (and changes nothing), [Container] and [Exec] are pure. One file per concern, named by its
// man page: namespaces(7), user_namespaces(7), mounts, rootfs (pivot_root(2)), dev, cgroups(7), capabilities(7), credentials(7), exec (execve(2)).
//
// The order of a start, with the reasons in CASES.md section 1:
//
//	parent  detached trees of rootfs, bind sources and /dev/null; FIFOs; cgroup folders and limits; namespace files
//	clone   new namespaces; CLONE_INTO_CGROUP on v2
//	sync    v1 cgroups joined, state stored, ack                    ┐ at the same time
//	stub    session, join/unshare, lo, root tree attached, mounts   ┘
//	stub    cgroup mounts (after the ack on v1), /dev, hooks, pivot_root, console, sysctl, names, masks, read-only
//	stub    working directory, ids, executable looked up; create: ready, wait for start
//	stub    capabilities, no_new_privs, seccomp, execve
//
// Paths in the container are resolved by openat2(RESOLVE_IN_ROOT) from the tree's fd, mounts are attached by fd. Minimal kernel: Linux 5.12
// (mount_setattr); there are no silent fallbacks below it.
package compile
