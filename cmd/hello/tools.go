package main

import (
	"errors"
	"math"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A tool is one small program to test a container with; max < 0 means any number of arguments.
type tool struct {
	name     string
	min, max int
	run      func(args []string) int
}

var tools = [...]tool{
	{"echo", 0, -1, func(a []string) int { return write([]byte(strings.Join(a, " ") + "\n")) }},
	{"env", 0, 0, env},
	{"id", 0, 0, func([]string) int { return write([]byte(identity() + "\n")) }},
	{"cat", 1, -1, cat},
	{"write", 2, 2, writeFile},
	{"exit", 1, 1, exit},
	{"sleep", 1, 1, sleep},
	{"spin", 0, 0, spin},
	{"eat", 1, 1, eat},
}

func env([]string) int {
	var b []byte
	for _, e := range os.Environ() {
		b = append(append(b, e...), '\n')
	}
	return write(b)
}

func cat(files []string) int {
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return fail(err)
		}
		if write(b) != 0 {
			return 1
		}
	}
	return 0
}

func writeFile(a []string) int {
	if err := os.WriteFile(a[0], []byte(a[1]+"\n"), 0o644); err != nil {
		return fail(err)
	}
	return 0
}

func exit(a []string) int {
	n, err := strconv.ParseUint(a[0], 10, 8)
	if err != nil {
		return fail(errors.New("exit: " + a[0] + ": not a status from 0 to 255"))
	}
	return int(n)
}

func sleep(a []string) int {
	s, err := strconv.ParseFloat(a[0], 64)
	if err != nil || s < 0 || s > math.MaxInt64/1e9 {
		return fail(errors.New("sleep: " + a[0] + ": not a number of seconds"))
	}
	select {
	case sig := <-stopSignals():
		return 128 + int(sig.(syscall.Signal))
	case <-time.After(time.Duration(s * float64(time.Second))):
		return 0
	}
}

func spin([]string) int {
	go func() {
		for n := 0; ; n++ { // Go preempts it by a signal, so SIGTERM is heard on one CPU too
		}
	}()
	return 128 + int((<-stopSignals()).(syscall.Signal))
}

// stopSignals asks for SIGTERM and SIGINT by name: the kernel drops a signal that pid 1 has no handler for.
func stopSignals() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	return c
}

func eat(a []string) int {
	n, ok := parseBytes(a[0])
	if !ok {
		return fail(errors.New("eat: " + a[0] + ": not a number of bytes"))
	}
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANONYMOUS)
	if err != nil {
		return fail(os.NewSyscallError("mmap", err))
	}
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	return write([]byte("ate " + strconv.Itoa(n) + " bytes\n"))
}

func parseBytes(s string) (int, bool) {
	shift := 0
	if i := len(s) - 1; i > 0 {
		switch s[i] | 0x20 {
		case 'k':
			shift = 10
		case 'm':
			shift = 20
		case 'g':
			shift = 30
		}
		if shift > 0 {
			s = s[:i]
		}
	}
	n, err := strconv.Atoi(s)
	if err != nil || n <= 0 || n > math.MaxInt>>shift {
		return 0, false
	}
	return n << shift, true
}
