package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"vitro/internal/testenv"
)

// maxExplainMS is the budget for all views of a container with 50 processes, in milliseconds.
const maxExplainMS = 50

// explain shows all views of a container with 50 processes on the default bridge, beside what shows a part of it. The machine is the same
// afterwards.
func (b *bench) explain(ctx context.Context, t *table) error {
	h, err := b.vitroHost(ctx)
	if err != nil {
		return err
	}
	argv := h.engine.cmd("run", "-d", "--name", "bench", "-p", "8080:80", imageRef, "/bin/sh", "-c",
		"i=1; while [ $i -lt 50 ]; do sleep 100000 & i=$((i+1)); done; wait")
	if _, err := b.output(argv); err != nil {
		return err
	}
	pid, err := b.output(h.engine.cmd("inspect", "-f", "{{.State.Pid}}", "bench"))
	if err != nil {
		return err
	}
	n := 0
	for range 50 { // they are being started
		all, err := b.output(h.engine.cmd("explain", "--view", "processes", "--format", "json", "bench"))
		if n = strings.Count(all, `"PID"`); err != nil || n >= 50 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if n < 50 {
		return fmt.Errorf("explain sees %d of 50 processes", n)
	}
	cs := []competitor{{name: "vitro", cmds: func(int) [][]string { return [][]string{h.engine.cmd("explain", "bench")} }}}
	var missing []result
	peer, failed := result{name: "lsns, findmnt, pscap"}, []error(nil)
	var argvs [][]string
	for _, cmd := range [][]string{{"lsns", "-p", pid}, {"findmnt", "-N", pid}, {"pscap", "-a"}} {
		path, err := find(cmd[0])
		failed = append(failed, err)
		argvs = append(argvs, h.ns.enter(append([]string{path}, cmd[1:]...)...))
	}
	if peer.err = errors.Join(failed...); peer.err != nil {
		missing = append(missing, peer)
	} else {
		cs = append(cs, competitor{name: peer.name, cmds: func(int) [][]string { return argvs }})
	}
	before := testenv.Look()
	results := b.race(ctx, cs)
	after := testenv.Look()
	any := func(string) bool { return true }
	if changed := append(after.Since(before, any), before.Since(after, any)...); len(changed) > 0 && ctx.Err() == nil {
		if changed = slices.DeleteFunc(changed, func(s string) bool { return strings.HasPrefix(s, "process ") }); len(changed) > 0 {
			results[0].err = errors.New("the machine is another afterwards: " + strings.Join(changed, ", "))
		}
	}
	t.fill(results, missing)
	return nil
}
