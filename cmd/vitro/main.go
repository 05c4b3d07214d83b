package main

import (
	"context"
	"os"
	"syscall"

	"vitro/internal/boot"
	"vitro/internal/cli"
	"vitro/internal/engine"
)

var version = "unknown" // set by the Makefile

func main() {
	if env := syscall.Environ(); len(boot.Environ()) < len(env) {
		os.Unsetenv("GOMAXPROCS") // the entry's; -e GOMAXPROCS shall not find it
	}
	if os.Args[0] == engine.MonitorArg0 {
		os.Exit(engine.RunMonitor(os.Args))
	}
	os.Exit(cli.Main(context.Background(), version, os.Args[1:]))
}
