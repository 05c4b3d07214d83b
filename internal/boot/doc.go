// Package boot is vitrun's entry point: some thirty instructions that run before Go's runtime and tell it that the process
// will live for a few milliseconds on one thread. It is in effect where the program is linked with -ldflags '-E
// vitro/internal/boot.Entry' (the Makefile does); without, the program works as well and starts as any other.
//
// What the entry does, and what it saves of a `vitrun run` (bench/, docs/ARCHITECTURE.md):
//
//   - The timer slack (prctl(2), PR_SET_TIMERSLACK) becomes 10 ms. The runtime's monitor thread inherits it, and its 20 µs
//     naps take the next interrupt instead of a timer of their own: 60 wake-ups less. A package init gives the first
//     thread the caller's slack back; [OwnSlack] does so on the thread that is about to fork, as a child inherits it.
//   - runtime.MemProfileRate is 0 before the first allocation, not only after some twenty: no stack walk, no table of 1.4 MB.
//   - The pages of code and tables and of data, where they are less than 8 and 1 MiB, are mapped by two calls of madvise(2),
//     MADV_POPULATE_READ and _WRITE (Linux 5.14), not one by one.
//   - GOMAXPROCS=1 is added at the end of the environment, where a value of the caller's own wins: with a second processor
//     the runtime starts threads that find nothing to do. Neither /proc/self/environ nor a child sees it.
//   - The runtime's mmap is ours: it has a hook for C's (runtime/cgo_mmap.go; without cgo nobody else sets it), which we point
//     at thirty instructions that map the heap's first 4 MiB on huge pages (MADV_HUGEPAGE; vitrun touches the first alone) and populate small mappings. With
//     shadow or nested page tables a page fault costs 12 to 100 µs, whoever maps the page: these are a hundred less, and an
//     exec takes a sixth less time. Where the kernel refuses, nothing changes.
package boot
