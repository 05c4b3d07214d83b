// Package runtime is the OCI state machine: create, start, kill, delete, and the rest of what an OCI runtime does
// with a container (runtime-spec runtime.md). It knows nothing of images, and nothing of system calls in the container:
// package compile says what those are, package stub makes them.
//
// A container is a folder Root/ID, mode 0700, with state.json and two FIFOs, exec.fifo and error.fifo. The record is
// stored before the clone (with the control groups, so that a half-made container can be deleted) and again with pid and
// start time before the init may go on. A status is never stored; it is derived each time:
//
//	creating  no pid yet and the creator holds the folder's lock, or the stub is at work
//	created   the pid is alive with the stored start time, is still the stub, and create has ended well
//	running   alive, and it has executed the user's program
//	paused    alive, and its freezer is on
//	stopped   dead, or a zombie, or its pid is another process's now, or never started
//
// start, delete, and the making of exec processes take an flock(2) on the folder, so of two at once one wins and the
// other is told what runc would tell it. A failed create leaves no folder, cgroup, mount or process.
//
// Hooks prestart, createRuntime, poststart and poststop run in the caller's namespaces; createContainer and startContainer
// are a stub program of their own that joins the container's namespaces and executes the hook there.
//
// Update changes limits of a container that is not stopped, all of them or none. A start that fails for want of memory, or has a limit below a
// MiB, is measured by trials under other limits (smallest.go), so that its error names the smallest that would have done.
//
// NOTIFY_SOCKET is not passed on yet: it is not in the container's environment unless config.json has it there.
// LISTEN_FDS is passed on where LISTEN_PID is this process (sd_listen_fds(3)).
//
// fcntl(2), flock(2), fifo(7), pidfd_send_signal(2), proc_pid_stat(5), termios(3).
//
// Example:
//
//	r := runtime.Runtime{Root: "/run/vitrun"}
//	err := r.Create(runtime.CreateOpts{ID: "web", Bundle: "/srv/web"})
//	if err == nil {
//		err = r.Start("web")
//	}
package runtime
