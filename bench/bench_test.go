package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	r := result{samples: []sample{{wall: 3, faults: 30}, {wall: 1, faults: 10}, {wall: 2, faults: 20}}}
	if m := r.median(); m.wall != 2 || m.faults != 20 || r.min() != 1 {
		t.Errorf("median %+v, min %d", m, r.min())
	}
	if (result{}).median() != (sample{}) || (result{}).min() != 0 {
		t.Error("no samples: not zero")
	}
}

// The table, its ratios and verdicts as a reader sees them.
func TestPrint(t *testing.T) {
	took := func(d time.Duration) []sample { return []sample{{d * time.Millisecond, 80, 10}} }
	startup := newTable("startup", "", []result{{name: emptyGo, samples: took(4)}})
	run := newTable("run", "a title", []result{
		{name: "vitrun", samples: took(10), syscalls: 300},
		{name: "crun", samples: took(20)},
		{name: "floor", samples: took(4)},
		{name: "runc", err: errors.New("not installed")},
	})
	run.compare([]table{startup})
	var b strings.Builder
	run.print(&b)
	const want = `
run: a title
          median ms  min ms  page faults  ctx switches  system calls  runs
  vitrun      10.00   10.00           80            10           300     1
    crun      20.00   20.00           80            10             -     1
   floor       4.00    4.00           80            10             -     1
    runc  not installed
  vitrun / (crun) = 0.50   budget 0.60: held   aim 0.45
  vitrun / (floor) = 2.50   budget 2.00: NOT HELD
  vitrun / (floor + empty Go) = 1.25   aim 1.25
`
	if got := b.String(); got != want {
		t.Errorf("%s\nwant:\n%s", got, want)
	}
}

// Every budget names a part that is there.
func TestBudgets(t *testing.T) {
	for _, b := range budgets {
		found := false
		for _, p := range parts {
			found = found || p.name == b.part
		}
		if !found {
			t.Errorf("%+v: no such part", b)
		}
	}
}
