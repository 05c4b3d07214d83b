package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Prefault maps the first n elements of fresh memory in one call: a page fault costs 12 to 20 µs in a virtual machine, a page of
// MADV_POPULATE_WRITE (madvise(2), Linux 5.14) about 1 µs. It is advice: where it fails nothing changes.
func Prefault[T any](s []T, n int) {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(s)))
	size := uintptr(min(n, cap(s))) * unsafe.Sizeof(*new(T))
	const page = 4096
	from := start &^ (page - 1)
	_, _, _ = syscall.RawSyscall(unix.SYS_MADVISE, from, (start+size-from+page-1)&^(page-1), unix.MADV_POPULATE_WRITE)
}
