// Package probe knows what a start asks of the kernel: each feature with the Linux version that brought it and a harmless call that tells whether it is there.
//
// Nothing is probed on the way of a start that works. [Missing] is asked after one has failed with ENOSYS, EINVAL or EPERM, and gives the
// hint that names the feature. Only conclusive answers count: a call that a seccomp filter of an outer container refuses (EPERM) is told apart from one that the
// kernel does not have (ENOSYS).
//
// openat2(2), open_tree(2), fsopen(2), mount_setattr(2), close_range(2), pidfd_open(2), faccessat2(2), clone3(2), memfd_create(2).
package probe
