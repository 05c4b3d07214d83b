package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.BoolVar(&o.update, "update", false, "write the output of the commands into the file")
	flag.IntVar(&o.step, "step", 0, "stop after the step of this number (\"## N.\") and clean up")
	flag.BoolVar(&o.verbose, "v", false, "show the commands as they run")
	flag.Parse()
	o.file = "docs/tour.md"
	if flag.NArg() > 0 {
		o.file = flag.Arg(0)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

type options struct {
	file            string
	step            int
	update, verbose bool
}

// pureV2 tells whether cgroup2 is the only hierarchy.
func pureV2() bool {
	return exists("/sys/fs/cgroup/cgroup.controllers")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// kernel is the running one's version, such as 6.8.
func kernel() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(b))
}

// here tells whether the block's conditions hold on this machine.
func (c *command) here(kernel string) bool {
	for _, w := range c.where {
		ok := exists(w[1])
		if w[0] != "has" {
			ok = older(kernel, w[1]) == (w[0] == "before")
		}
		if !ok {
			return false
		}
	}
	return true
}

// older compares the first two numbers of kernel versions.
func older(a, b string) bool {
	var x, y [2]int
	_, _ = fmt.Sscanf(a, "%d.%d", &x[0], &x[1])
	_, _ = fmt.Sscanf(b, "%d.%d", &y[0], &y[1])
	return slices.Compare(x[:], y[:]) < 0
}

func run(ctx context.Context, o options) error {
	text, err := os.ReadFile(o.file)
	if err != nil {
		return err
	}
	doc, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", o.file, err)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s: its commands make namespaces, links and cgroups: run it as root", o.file)
	}
	where, not := "cgroup v1 (or hybrid)", "v2"
	if pureV2() {
		where, not = "pure cgroup v2", "v1"
	}
	sh, err := newShell()
	if err != nil {
		return err
	}
	t := tour{options: o, shell: sh}
	defer func() { t.shell.close() }()
	rules := doc.rules()
	var stuck error
	begun := time.Now()
	for i, c := range doc.commands {
		skip := stuck != nil || o.step > 0 && c.step > o.step || ctx.Err() != nil
		if c.only == not || skip && c.step != atEnd || !c.here(kernel()) {
			continue
		}
		if err := t.run(c, rules[i]); err != nil {
			if stuck = errors.Join(stuck, err); c.step == begin || c.step == atEnd {
				return stuck
			}
			t.shell.close()
			if t.shell, err = newShell(); err != nil {
				return err
			}
		}
		if c.step == begin && t.held < t.ran && !o.update {
			return fmt.Errorf("%s cannot begin here", filepath.Base(o.file))
		}
	}
	if stuck != nil {
		return stuck
	}
	if o.update {
		if err := os.WriteFile(o.file, []byte(doc.render()), 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("tour: %d commands ran on %s in %.0f s, %d held\n", t.ran, where, time.Since(begun).Seconds(), t.held)
	if t.held < t.ran && !o.update {
		return fmt.Errorf("%d commands printed something else than %s shows", t.ran-t.held, filepath.Base(o.file))
	}
	return ctx.Err()
}

// tour counts the commands.
type tour struct {
	options
	shell     *shell
	ran, held int
}

func (t *tour) run(c *command, r rules) error {
	if t.verbose {
		fmt.Printf("%s:%d: $ %s\n", t.file, c.line, c.text)
	}
	begun := time.Now()
	got, err := t.shell.run(c.text)
	if err != nil {
		return fmt.Errorf("%s:%d: %s: %w", t.file, c.line, c.text, err)
	}
	if took := time.Since(begun); t.verbose && took > time.Second {
		fmt.Printf("%s:%d: %.1f s\n", t.file, c.line, took.Seconds())
	}
	t.ran++
	switch {
	case r.same(c.want, got):
		t.held++
	case t.update:
		c.got, c.changed = r.translate(got), true
		r.same(c.got, got) // the new words of the block
	default:
		fmt.Printf("%s:%d: $ %s\n%s", t.file, c.line, c.text, diff(c.want, got))
	}
	return nil
}

// diff shows both, without the lines at the begin and the end that are the same.
func diff(want, got []string) string {
	want, got = slices.Clone(want), slices.Clone(got)
	for len(want) > 0 && len(got) > 0 && want[0] == got[0] {
		want, got = want[1:], got[1:]
	}
	for len(want) > 0 && len(got) > 0 && want[len(want)-1] == got[len(got)-1] {
		want, got = want[:len(want)-1], got[:len(got)-1]
	}
	var b strings.Builder
	for _, l := range want {
		b.WriteString("  - " + l + "\n")
	}
	for _, l := range got {
		b.WriteString("  + " + l + "\n")
	}
	return b.String()
}
