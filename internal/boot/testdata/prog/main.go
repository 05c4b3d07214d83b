// Prog says what the entry left of its surroundings.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"vitro/internal/boot"
)

// hugeHeap says whether the memory that holds x is a huge page.
func hugeHeap() bool {
	x := uintptr(unsafe.Pointer(new(int)))
	maps, _ := os.ReadFile("/proc/self/smaps")
	var from, to uintptr
	for line := range strings.Lines(string(maps)) {
		_, _ = fmt.Sscanf(line, "%x-%x ", &from, &to)
		var kib int
		if n, _ := fmt.Sscanf(line, "AnonHugePages: %d kB", &kib); n == 1 && from <= x && x < to {
			return kib > 0
		}
	}
	return false
}

func main() {
	boot.DropCode()
	fmt.Println("args", len(os.Args), os.Args[1:])
	fmt.Println("procs", runtime.GOMAXPROCS(0), "page", os.Getpagesize())
	fmt.Println("given", strings.Join(boot.Environ(), " "))
	runtime.LockOSThread()
	boot.OwnSlack()
	slack, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, 30, 0, 0) // PR_GET_TIMERSLACK: what a child would inherit
	fmt.Println("slack", slack)
	fmt.Println("huge heap", hugeHeap())
}
