package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"vitro/internal/testenv"
)

// A bench is one run of the harness: its folder, its name, and what to undo at its end.
type bench struct {
	n      int
	id     string
	dir    string
	rootfs string
	strace string
	undo   []func()
	spaces []*netns
	before map[string]bool // folders that are not the run's own, and were there
}

type part struct {
	name, title string
	run         func(*bench, context.Context, *table) error
}

// is: network names all parts network/….
func (p part) is(name string) bool {
	return p.name == name || strings.HasPrefix(p.name, name+"/")
}

// startup comes first: a ratio of another part needs its empty Go program.
var parts = []part{
	{"startup", "--version", (*bench).startup},
	{"run", "the default spec bundle, /bin/true", (*bench).runPlain},
	{"run-seccomp", "the same with Docker's default seccomp profile", (*bench).runSeccomp},
	{"rss", "memory of an init that waits for start", (*bench).rss},
	{"exec", "/bin/true in a running container", (*bench).exec},
	{"engine", "run --rm --network none IMAGE /bin/true (docker: the client's side only, but for time)", (*bench).engine},
	{"pull", "pull and unpack 9 layers, 21,000 files from a registry on loopback", (*bench).pull},
	{"explain", "all views of a container with 50 processes", (*bench).explain},
	{"network/run", "run --rm IMAGE /bin/true on the default bridge", (*bench).networkRun},
	{"network/attach", "attach and detach an endpoint with one published port, in the harness", (*bench).networkAttach},
	{"network/ports", "attach an endpoint that publishes one more port", (*bench).networkPorts},
	{"network/connect", "1,000 TCP connections from the LAN to a published port", (*bench).networkConnect},
	{"network/transfer", "iperf3 -n " + transferBytes + " from a container to its host", (*bench).networkTransfer},
	{"network/many", "300 containers on one bridge by 8 workers", (*bench).networkMany},
}

func main() {
	n := flag.Int("n", 30, "rounds")
	jsonFile := flag.String("json", "", "write the results as JSON to this file too")
	noStrace := flag.Bool("nostrace", false, "do not count system calls")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: bench [flags] [PART…]")
		for _, p := range parts {
			fmt.Fprintf(os.Stderr, "  %-16s %s\n", p.name, p.title)
		}
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(*n, *jsonFile, *noStrace, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(n int, jsonFile string, noStrace bool, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.is(name) }) {
			return fmt.Errorf("%s: no such part", name)
		}
	}
	if n < 1 {
		return fmt.Errorf("-n %d: at least one round", n)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{n: n, id: "vitro-bench-" + strconv.Itoa(os.Getpid())}
	if !noStrace {
		b.strace, _ = exec.LookPath("strace")
	}
	if err := b.setUp(); err != nil {
		return err
	}
	defer b.sweep()

	fmt.Println(machine(n))
	var tables []table
	for _, p := range parts {
		if len(names) > 0 && !slices.ContainsFunc(names, p.is) || ctx.Err() != nil {
			continue
		}
		t := table{Part: p.name, Title: p.title}
		if err := p.run(b, ctx, &t); err != nil {
			t.Skipped = err.Error()
		}
		t.compare(tables)
		t.print(os.Stdout)
		tables = append(tables, t)
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if jsonFile != "" {
		return writeJSON(jsonFile, tables)
	}
	return nil
}

func (b *bench) setUp() error {
	dir, err := os.MkdirTemp("", b.id+"-")
	if err != nil {
		return err
	}
	b.dir, b.rootfs = dir, filepath.Join(dir, "rootfs")
	busybox, err := exec.LookPath("busybox")
	if err == nil {
		err = testenv.MakeRootfs(b.rootfs, busybox)
	}
	if err == nil {
		err = b.enterNamespace()
	}
	if err != nil {
		b.sweep()
	}
	return err
}

func machine(n int) string {
	var u syscall.Utsname
	release := []byte{}
	if syscall.Uname(&u) == nil {
		for _, c := range u.Release {
			if c == 0 {
				break
			}
			release = append(release, byte(c))
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("Linux %s, %d CPUs, load %s, %s, %d rounds", release, runtime.NumCPU(), first, runtime.Version(), n)
}

// find looks for a program: NAME=path in the environment, bin/NAME for our own, then PATH.
func find(name string) (string, error) {
	if p := os.Getenv(strings.ToUpper(name)); p != "" {
		return p, nil
	}
	if name == "vitrun" || name == "vitro" {
		p, err := filepath.Abs(filepath.Join("bin", name))
		if err == nil {
			_, err = os.Stat(p)
		}
		if err != nil {
			return "", fmt.Errorf("not built")
		}
		return p, nil
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return "", errors.New("not installed")
	}
	return p, nil
}
