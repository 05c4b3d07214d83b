// Package safepath opens files below a root that an enemy may have filled: an image, a container's file system.
//
// Every lookup is one openat2(2) with RESOLVE_IN_ROOT relative to the root's fd: links are followed as a process inside would see them, and
// never leave the root, also while somebody swaps folders for links (EAGAIN is retried: the kernel gives it when anything was renamed or
// mounted meanwhile). Magic links (/proc/PID/fd) are refused.
//
// Ops of a plan say the same in their own words (package compile, target.go); this package is for what Go code reads itself, such as passwd(5).
//
//	fd, err := safepath.Open(root, "etc/passwd", unix.O_RDONLY)
//	text, err := safepath.ReadFile(root, "etc/group", 8<<20)
package safepath
