package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A sample is one run of one program.
type sample struct {
	wall     time.Duration
	faults   int64 // minor page faults
	switches int64 // voluntary and involuntary context switches
}

// A competitor is one row of a part. cmds gives what to run in round i, one after the other; clean puts the machine
// back after the round, outside of the time.
type competitor struct {
	name  string
	cmds  func(i int) [][]string
	clean func(i int) error
}

type result struct {
	name     string
	samples  []sample
	syscalls int // 0: not counted
	err      error
}

// run starts the commands of a round and adds them up.
func (b *bench) run(ctx context.Context, argvs [][]string) (sample, error) {
	var sum sample
	// A file, since a pipe would have to be read to its end: a detached container keeps stderr open.
	errOut, err := os.Create(filepath.Join(b.dir, "stderr"))
	if err != nil {
		return sum, err
	}
	defer errOut.Close()
	for _, argv := range argvs {
		n, argv := b.inside(argv)
		cmd := b.command(ctx, argv)
		cmd.Stderr = errOut
		start := cmd.Start
		if n != nil {
			start = func() error { return n.do(cmd.Start) }
		}
		begin := time.Now()
		err := start()
		if err == nil {
			err = cmd.Wait()
		}
		sum.wall += time.Since(begin)
		if err != nil {
			text, _ := os.ReadFile(errOut.Name())
			return sum, fmt.Errorf("%s: %w: %s", filepath.Base(argv[0]), err, lastLine(string(text)))
		}
		if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			sum.faults += u.Minflt
			sum.switches += u.Nvcsw + u.Nivcsw
		}
	}
	return sum, nil
}

// command has stdin and stdout on /dev/null, a process group of its own (a ctrl-C is for the harness, which ends the
// command itself) and the run's name in its environment, by which sweep finds what it left running.
func (b *bench) command(ctx context.Context, argv []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), marker+"="+b.id)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// race runs n rounds; in each every competitor has one turn, and the first one changes. One round before is not kept.
func (b *bench) race(ctx context.Context, cs []competitor) []result {
	results := make([]result, len(cs))
	for i := range cs {
		results[i].name = cs[i].name
	}
	for round := -1; round < b.n; round++ {
		for k := range cs {
			i := (k + max(round, 0)) % len(cs)
			if results[i].err != nil || ctx.Err() != nil {
				continue
			}
			s, err := b.run(ctx, cs[i].cmds(round+1))
			if cerr := cs[i].cleanUp(round + 1); err == nil {
				err = cerr
			}
			results[i].err = err
			if ctx.Err() != nil { // ended by us
				results[i].err = nil
				continue
			}
			if round >= 0 && err == nil {
				results[i].samples = append(results[i].samples, s)
			}
		}
	}
	for i := range cs {
		if results[i].err == nil && ctx.Err() == nil && b.strace != "" {
			results[i].syscalls = b.countSyscalls(ctx, cs[i])
		}
	}
	return results
}

func (c competitor) cleanUp(i int) error {
	if c.clean == nil {
		return nil
	}
	return c.clean(i)
}

// countSyscalls runs one more round under strace -f -c; a program that does not work there counts as 0.
func (b *bench) countSyscalls(ctx context.Context, c competitor) (total int) {
	round := b.n + 1
	for _, argv := range c.cmds(round) {
		out := filepath.Join(b.dir, "strace")
		n, argv := b.inside(argv)
		argv = append([]string{b.strace, "-f", "-c", "-qq", "-U", "calls,name", "-o", out}, argv...)
		if n != nil {
			argv = n.enter(argv...)
		}
		if _, err := b.run(ctx, [][]string{argv}); err != nil {
			total = 0
			break
		}
		text, err := os.ReadFile(out)
		if err != nil {
			return 0
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) == 2 && f[1] == "total" {
				n, _ := strconv.Atoi(f[0])
				total += n
			}
		}
	}
	if err := c.cleanUp(round); err != nil {
		return 0
	}
	return total
}

// median gives the sample in the middle by time, whole: its faults are of the same run.
func (r result) median() sample {
	if len(r.samples) == 0 {
		return sample{}
	}
	s := slices.Clone(r.samples)
	slices.SortFunc(s, func(a, b sample) int { return int(a.wall - b.wall) })
	return s[len(s)/2]
}

func (r result) min() time.Duration {
	if len(r.samples) == 0 {
		return 0
	}
	return slices.MinFunc(r.samples, func(a, b sample) int { return int(a.wall - b.wall) }).wall
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
