package main

import (
	"context"
	"os"

	"vitro/internal/cli"
	"vitro/internal/engine"
)

var version = "unknown" // set by the Makefile

func main() {
	if os.Args[0] == engine.MonitorArg0 {
		os.Exit(engine.RunMonitor(os.Args))
	}
	os.Exit(cli.Main(context.Background(), version, os.Args[1:]))
}
