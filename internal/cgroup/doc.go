// Package cgroup places a container in the host's control groups, limits it there, and ends it there.
//
// [Detect] finds out how the host mounts cgroups (v1, hybrid, v2); [Layout.Group] places one container in every hierarchy.
// What a start does to the kernel is appended to a plan by [Group.Plan] (folders, cpuset, limits, device rules; before the
// clone) and [Group.Join] (v1 and hybrid; after it), so each failing step names its file and its config field. Everything
// later is a direct call: [Group.Update], [Group.Stats], [Group.Procs], [Group.Kill], [Group.Freeze], [Group.Remove]. A group is stored as [Group.Paths] in state.json
// and comes back by [FromPaths].
//
// Limits are those of runtime-spec's linux.resources; on v2 they are converted as runc does (shares to weight, memory+swap to
// swap). Device rules become devices.allow and devices.deny lines on v1, and on v2 a BPF_PROG_TYPE_CGROUP_DEVICE program that is
// assembled here.
//
// Caveats: a rootless caller without cgroupsPath goes on without the hierarchies in which it may not make a folder; a limit in such
// a one is an error. Device rules need the initial user namespace. Before 5.11 the device program counts against RLIMIT_MEMLOCK.
//
// cgroups(7), Documentation/admin-guide/cgroup-v1/, Documentation/admin-guide/cgroup-v2.rst, bpf(2).
//
// Example:
//
//	l, err := cgroup.Detect()
//	g, err := l.Group(spec.Linux.CgroupsPath, id)
//	err = g.Plan(b, spec.Linux.Resources, false)
//	b.CloneOp()
//	g.Join(b)
//	_, err = stub.Run(b.Program, true, o)
//	…
//	err = g.Kill()
//	err = g.Remove()
package cgroup
