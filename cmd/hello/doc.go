// Hello reports, from the inside, what a container is made of.
//
// It is the one program of the embedded image "hello" (package internal/hello). Everything it prints is what the
// kernel says through /proc, /sys/fs/cgroup, rtnetlink and a few system calls; nothing is passed in by the engine:
//
//	vitro run --rm hello             text, some 60 lines
//	vitro run --rm hello --json      the same as JSON
//
// An image with no shell also needs something to run in tests, so the first argument may name a small tool; see
// the usage text for the list. A usage error exits 2; a failed tool exits 1.
//
// The program is kept small (no fmt, no net, no encoding/json): it is linked into vitro as an image.
//
// Manual pages: namespaces(7), cgroups(7), capabilities(7), user_namespaces(7), proc_pid_status(5), proc_pid_mountinfo(5), rtnetlink(7).
package main
