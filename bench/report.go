package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// A table is one part's outcome; memory is only filled by part rss.
type table struct {
	Part    string  `json:"part"`
	Title   string  `json:"title"`
	Rows    []row   `json:"rows"`
	Ratios  []ratio `json:"ratios,omitempty"`
	Skipped string  `json:"skipped,omitempty"`
}

type row struct {
	Name     string  `json:"name"`
	Runs     int     `json:"runs"`
	MedianMS float64 `json:"medianMs,omitempty"`
	MinMS    float64 `json:"minMs,omitempty"`
	Faults   int64   `json:"pageFaults,omitempty"`
	Switches int64   `json:"contextSwitches,omitempty"`
	Syscalls int     `json:"systemCalls,omitempty"`
	RSSKiB   int64   `json:"rssKiB,omitempty"`
	PSSKiB   int64   `json:"pssKiB,omitempty"`
	Error    string  `json:"error,omitempty"`
}

type ratio struct {
	Ours   string  `json:"ours"`
	Peer   string  `json:"peer"`
	Ratio  float64 `json:"ratio"`
	Budget float64 `json:"budget,omitempty"`
	Aim    float64 `json:"aim,omitempty"`
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func newTable(part, title string, results []result) table {
	t := table{Part: part, Title: title}
	for _, r := range results {
		m := r.median()
		w := row{Name: r.name, Runs: len(r.samples), MedianMS: ms(m.wall), MinMS: ms(r.min()), Faults: m.faults, Switches: m.switches, Syscalls: r.syscalls}
		if r.err != nil {
			w = row{Name: r.name, Runs: len(r.samples), Error: r.err.Error()}
		}
		t.Rows = append(t.Rows, w)
	}
	return t
}

// value is what a part compares: time, or memory.
func (r row) value() float64 {
	if r.RSSKiB > 0 {
		return float64(r.RSSKiB)
	}
	return r.MedianMS
}

// compare fills in the ratios whose two sides were measured. Rows of earlier tables count too (floor + empty Go).
func (t *table) compare(all []table) {
	find := func(name string) float64 {
		for _, r := range t.Rows {
			if r.Name == name {
				return r.value()
			}
		}
		for _, other := range all {
			for _, r := range other.Rows {
				if r.Name == name && other.Part == "startup" {
					return r.value()
				}
			}
		}
		return 0
	}
	t.Ratios = nil
	for _, b := range budgets {
		if b.part != t.Part {
			continue
		}
		peer := 0.0
		for _, p := range b.peers {
			v := find(p)
			if v == 0 {
				peer = 0
				break
			}
			peer += v
		}
		if ours := find(b.ours); ours > 0 && peer > 0 {
			t.Ratios = append(t.Ratios, ratio{b.ours, strings.Join(b.peers, " + "), ours / peer, b.max, b.aim})
		}
	}
}

func (t *table) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s: %s\n", t.Part, t.Title)
	if t.Skipped != "" {
		fmt.Fprintf(out, "  skipped: %s\n", t.Skipped)
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	memory := t.Part == "rss"
	if memory {
		fmt.Fprintln(w, "\tRSS KiB\tPSS KiB\truns\t")
	} else {
		fmt.Fprintln(w, "\tmedian ms\tmin ms\tpage faults\tctx switches\tsystem calls\truns\t")
	}
	for _, r := range t.Rows {
		switch {
		case r.Error != "":
			fmt.Fprintf(w, "%s\t  %s\n", r.Name, r.Error)
		case memory:
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t\n", r.Name, r.RSSKiB, r.PSSKiB, r.Runs)
		default:
			calls := "-"
			if r.Syscalls > 0 {
				calls = fmt.Sprint(r.Syscalls)
			}
			fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%d\t%d\t%s\t%d\t\n", r.Name, r.MedianMS, r.MinMS, r.Faults, r.Switches, calls, r.Runs)
		}
	}
	w.Flush()
	for _, r := range t.Rows {
		if memory && r.Name == "vitrun" && r.Error == "" {
			fmt.Fprintf(out, "  vitrun = %d KiB   budget %d KiB: %s\n", r.RSSKiB, maxInitKiB, verdict(r.RSSKiB <= maxInitKiB))
		}
	}
	for _, r := range t.Rows {
		if t.Part == "explain" && r.Name == "vitro" && r.Error == "" {
			fmt.Fprintf(out, "  vitro = %.1f ms   budget %d ms: %s\n", r.MedianMS, maxExplainMS, verdict(r.MedianMS < maxExplainMS))
		}
	}
	for _, r := range t.Ratios {
		line := fmt.Sprintf("  %s / (%s) = %.2f", r.Ours, r.Peer, r.Ratio)
		if r.Budget > 0 {
			line += fmt.Sprintf("   budget %.2f: %s", r.Budget, verdict(r.Ratio <= r.Budget))
		}
		if r.Aim > 0 {
			line += fmt.Sprintf("   aim %.2f", r.Aim)
		}
		fmt.Fprintln(out, line)
	}
}

func verdict(held bool) string {
	if held {
		return "held"
	}
	return "NOT HELD"
}

func writeJSON(path string, tables []table) error {
	b, err := json.MarshalIndent(tables, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
