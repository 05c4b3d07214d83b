package main

// A budget is how much of the peer's measure ours may be; peers are summed (floor + empty Go).
type budget struct {
	part, ours string
	peers      []string
	max        float64
	aim        float64 // where the design wants to get; 0 for none
}

var budgets = []budget{
	{"run", "vitrun", []string{"crun"}, 0.6, 0.45},
	{"run", "vitrun", []string{"floor"}, 2, 0},
	{"run", "vitrun", []string{"floor", "empty Go"}, 0, 1.25},
	{"run", "vitrun", []string{"runc"}, 0, 0},
	{"run-seccomp", "vitrun", []string{"crun"}, 0.6, 0.45},
	{"run-seccomp", "vitrun", []string{"runc"}, 0, 0},
	{"rss", "vitrun", []string{"crun"}, 0, 0}, // and maxInitKiB
	{"exec", "vitrun", []string{"crun"}, 0.6, 0},
	{"exec", "vitrun", []string{"runc"}, 0, 0},
	{"engine", "vitro", []string{"docker"}, 0.1, 0},
	{"engine", "vitro", []string{"podman"}, 0, 0},
	{"pull", "vitro", []string{"podman"}, 0.7, 0},
	{"pull", "vitro", []string{"skopeo+umoci"}, 0.7, 0},
	{"explain", "vitro", []string{"lsns, findmnt, pscap"}, 0, 0},
	{"network/run", "vitro", []string{"docker"}, 0.15, 0},
	{"network/run", "vitro", []string{"vitro, no network"}, 0, 0},
	{"network/attach", "vitro", []string{"bare"}, 1.5, 0},
	{"network/ports", "port 1,001", []string{"the first port"}, 1.2, 0},
	{"network/connect", "vitro", []string{"docker"}, 1, 0},
	{"network/transfer", "vitro", []string{"bare veth + bridge"}, 1.05, 0},
	{"network/transfer", "docker", []string{"bare veth + bridge"}, 0, 0},
	{"startup", "vitrun", []string{"empty Go"}, 1.5, 0},
	{"startup", "vitrun", []string{"crun"}, 0, 0},
}

// maxInitKiB is the budget for resident memory of a container's init that waits for start.
const maxInitKiB = 64
