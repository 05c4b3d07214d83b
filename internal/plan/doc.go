// Package plan holds a container start as data: a flat list of operations, each one system call.
//
// A [Program] is made by package compile, run by package stub and printed by [Program.Render]. Nothing in it
// is a pointer: strings, structs and vectors lie in Data (read-only) or Buf (writable) and are named by offset,
// so the same program is executed by the parent, encoded into the stub's ELF file, printed, and put in JSON.
//
// Three doers share one list. An op is done by the [Parent] before the clone, by the parent after it
// ([Sync]: while the stub runs or waits), or by the [Stub], the first process of the container. Each doer runs its own
// ops in list order; skips count the ops of the same doer. Slots hold results (fds, pids). What a slot holds at the clone,
// the stub starts with: an fd listed in Keep has the same number on both sides.
//
// Control flow is forward only: skip on success, skip on an errno, a bounded retry, and a test of memory
// (load, mask, compare). An op list is never changed or extended while it runs.
//
// Example:
//
//	b := plan.NewBuilder(64)
//	fd := b.Slot()
//	b.Field("root.path", "/srv/c1/rootfs")
//	b.Sys(plan.Parent, sys.SYS_OPEN_TREE, plan.Int(sys.AT_FDCWD), b.Str("/srv/c1/rootfs"), plan.Int(sys.OPEN_TREE_CLONE)).To(fd)
package plan
