// Prog says what the entry left of its surroundings.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"vitro/internal/boot"
)

func main() {
	boot.GrowStack()
	fmt.Println("args", len(os.Args), os.Args[1:])
	fmt.Println("procs", runtime.GOMAXPROCS(0), "page", os.Getpagesize())
	fmt.Println("given", strings.Join(boot.Environ(), " "))
	runtime.LockOSThread()
	boot.OwnSlack()
	slack, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, 30, 0, 0) // PR_GET_TIMERSLACK: what a child would inherit
	fmt.Println("slack", slack)
}
