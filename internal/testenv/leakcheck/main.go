package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"

	"vitro/internal/testenv"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: leakcheck COMMAND [ARG…]")
		return 2
	}
	// A ctrl-C ends the command; this program stays to look at what is left. (Ignored signals would be inherited.)
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	before := testenv.Look()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	code := 0
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			fmt.Fprintln(os.Stderr, "leakcheck:", err)
			return 1
		}
		code = max(exit.ExitCode(), 1)
	}
	var leaks []string
	for range 10 {
		if leaks = testenv.Look().Since(before, ours); len(leaks) == 0 {
			return code
		}
		time.Sleep(200 * time.Millisecond)
	}
	fmt.Fprintf(os.Stderr, "leakcheck: left on this machine:\n\t%s\n", strings.Join(leaks, "\n\t"))
	if os.Getenv("MUST_WORK") == "1" {
		code = max(code, 1)
	}
	return code
}

// ours: every link is suspicious, names of the rest hold one of these.
func ours(s string) bool {
	if strings.HasPrefix(s, "link ") {
		return true
	}
	for _, word := range []string{"vitro-test-", "/run/vitro", "/var/lib/vitro", "vitrun", "-vt"} {
		if strings.Contains(s, word) {
			return true
		}
	}
	return false
}
