// Package trace reports programs as they are started (execve), on the whole machine or in one container, with what tells whose they
// are: pid namespace, cgroup, pid on both sides, user, command line.
//
// [Open] takes eBPF (a raw tracepoint on sched_process_exec, CO-RE, Linux 5.8 with BTF), and where that is not there ftrace: an
// instance of its own of tracefs(5), read in binary form, since a program's name in the text could forge lines. Events
// that were lost because nobody read fast enough are counted.
//
// Life cycle: Open; Run until its context ends; Close, which detaches the program or removes the instance.
//
// Caveats: with ftrace all but the pid and the file name is read from /proc a moment later, and may be gone by then. Texts
// of an Event come from the traced processes: print them through explain.Safe. tracefs is not mounted if it is not.
//
// exec.bpf.o is built from exec.bpf.c by `go generate` (Debian: clang llvm libbpf-dev) and has no code of one architecture.
//
// bpf(2), Documentation/trace/ftrace.rst, Documentation/trace/ring-buffer-map.rst.
//
// Example:
//
//	t, err := trace.Open(trace.Options{})
//	defer t.Close()
//	err = t.Run(ctx, func(e trace.Event) { fmt.Println(e.PID, explain.Safe(e.Command, 200)) })
package trace
