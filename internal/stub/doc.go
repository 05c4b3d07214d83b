// Package stub runs a plan.Program: the parent's ops in this process, the stub's ops in a new one.
//
// The new process is a static ELF file of a few pages, made in memory for one start: the machine code of an
// interpreter of some 90 instructions (Go assembly, copied out of this binary's own text), the op table, its strings, and a
// writable part with slots and buffers. It is written into a sealed memfd and executed by [syscall.ForkExec]; between the
// clone and the user's execve nothing else runs in the container. /proc/PID/exe of a waiting init is that sealed memfd
// (CVE-2019-5736), its resident memory some 20 KiB.
//
// ELF layout, at fixed addresses so that every pointer is absolute:
//
//	codeBase  R-X  ELF header, program headers, interpreter, ops, Data
//	dataBase  RW-  header {first op, error fd, record}, slots, Buf
//
// Where executing a memfd is forbidden (vm.memfd_noexec=2, an LSM), the file goes to an unnamed file in the state
// folder; Options.Warn is told, so the fallback is seen.
//
// Records {op uint32, errno int32, value uint64} come back on a SOCK_SEQPACKET pair: errno > 0 is a failure at that
// op, 0 a sign of life that a Sync "await" op waits for. End of file is the user's execve (the channel is close-on-exec)
// or the death of the stub; wait status tells which.
//
// elf(5), memfd_create(2), execve(2), clone(2), unix(7).
package stub
