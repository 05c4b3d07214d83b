// Package sys is the one door to the kernel for the runtime: constants, raw system calls and the few wrappers that
// vitrun's own process needs. Other packages of the runtime name system calls by the numbers given here.
//
// Man pages: syscalls(2), openat2(2), clone3(2), mount_setattr(2), fsopen(2), fsmount(2), move_mount(2), open_tree(2), pidfd_open(2).
// Errors are syscall.Errno, unwrapped: the caller knows the object.
package sys
