// Bench runs vitrun and vitro beside runc, crun, docker, podman and the kernel floor, in rounds that take turns.
//
//	go run ./bench [-n 30] [-json FILE] [-nostrace] [PART…]
//
// Parts: run, run-seccomp, rss, exec, engine, pull, startup, explain, network (network/run, attach, ports, connect, transfer, many);
// none means all. A table for each part gives the median
// and the minimum of n rounds, and from the median run: page faults and context switches of the command and of the
// children it waited for (wait4's rusage; the daemon's share of a docker command is not in it), and, from one more run that
// is not timed, system calls counted by strace. Below it stand the ratios, each beside its budget (budgets.go). They
// are reported and never fail the command: a machine has bad days, the page faults and system calls do not.
//
// A program that is not installed is named as missing. RUNC, CRUN, PODMAN, DOCKER, DOCKERD, SKOPEO, UMOCI, REGISTRY,
// VITRUN and VITRO may hold the path of another one.
//
// Everything runs in a mount namespace of the harness's own. On a hybrid host it has no /sys/fs/cgroup/unified there,
// for all programs alike: crun before 1.9 cannot start with a v2 tree that has no controllers. All that is made has
// the run's name in it; at the end, and on ctrl-C, containers, processes, cgroups and folders of that name are removed.
package main
