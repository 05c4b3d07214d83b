package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	update := flag.Bool("update", false, "write the output of the commands into the file")
	step := flag.Int("step", 0, "stop after the step of this number (\"## N.\")")
	verbose := flag.Bool("v", false, "show the commands as they run")
	flag.Parse()
	file := "docs/tour.md"
	if flag.NArg() > 0 {
		file = flag.Arg(0)
	}
	if err := run(file, *step, *update, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

// pureV2 tells whether cgroup2 is the only hierarchy.
func pureV2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

func run(file string, last int, update, verbose bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	doc, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	v2, where := pureV2(), "cgroup v1 (or hybrid)"
	if v2 {
		where = "pure cgroup v2"
	}
	sh, err := newShell()
	if err != nil {
		return err
	}
	defer sh.close()
	ran, held := 0, 0
	for _, c := range doc.commands {
		if last > 0 && c.step > last || c.only == "v1" && v2 || c.only == "v2" && !v2 {
			continue
		}
		if verbose {
			fmt.Printf("%s:%d: $ %s\n", file, c.line, c.text)
		}
		got, err := sh.run(c.text)
		if err != nil {
			return fmt.Errorf("%s:%d: %s: %w", file, c.line, c.text, err)
		}
		ran++
		if same(c.want, got, c.numbers) {
			held++
			continue
		}
		if update {
			c.got, c.changed = got, true
			continue
		}
		fmt.Printf("%s:%d: $ %s\n%s", file, c.line, c.text, diff(c.want, got, c.numbers))
	}
	if update {
		if err := os.WriteFile(file, []byte(doc.render()), 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("tour: %d commands ran on %s, %d held\n", ran, where, held)
	if held < ran && !update {
		return fmt.Errorf("%d commands printed something else than %s shows", ran-held, filepath.Base(file))
	}
	return nil
}

// diff shows the masked lines that differ.
func diff(want, got []string, numbers bool) string {
	var b strings.Builder
	for _, l := range mask(want, numbers) {
		b.WriteString("  - " + l + "\n")
	}
	for _, l := range mask(got, numbers) {
		b.WriteString("  + " + l + "\n")
	}
	return b.String()
}
