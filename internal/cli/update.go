package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"vitro/internal/cgroup"
	"vitro/internal/engine"
)

func updateCmd(a *app) *cobra.Command {
	var h engine.HostConfig
	cmd := &cobra.Command{
		Use: "update [OPTIONS] CONTAINER [CONTAINER...]", Short: "Update configuration of one or more containers", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().NFlag() == 0 {
				return errors.New("you must provide one or more flags when using this command")
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			return each(cmd, args, func(ref string) error { return e.Update(ref, h) })
		},
	}
	limitFlags(cmd.Flags(), &h)
	refuse(cmd.Flags(), refusedOfUpdate...)
	return cmd
}

func pauseCmd(a *app) *cobra.Command {
	return onEach(a, "pause", "Pause all processes within one or more containers", (*engine.Engine).Pause)
}

func unpauseCmd(a *app) *cobra.Command {
	return onEach(a, "unpause", "Unpause all processes within one or more containers", (*engine.Engine).Unpause)
}

// onEach is a verb without options.
func onEach(a *app, verb, short string, f func(*engine.Engine, string) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " CONTAINER [CONTAINER...]", Short: short, Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			return each(cmd, args, func(ref string) error { return f(e, ref) })
		},
	}
}

// statsRow has the fields of docker stats --format.
type statsRow struct {
	BlockIO, CPUPerc, Container, ID, MemPerc, MemUsage, Name, NetIO, PIDs string
}

func statsCmd(a *app) *cobra.Command {
	var all, once, noTrunc bool
	var format string
	cmd := &cobra.Command{
		Use: "stats [OPTIONS] [CONTAINER...]", Short: "Display a live stream of container(s) resource usage statistics",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			s := &statsView{e: e, refs: args, all: all, noTrunc: noTrunc, before: map[string]*engine.Usage{}}
			if _, err := s.read(); err != nil { // CPU % is of the time between two readings
				return err
			}
			clear := term.IsTerminal(int(os.Stdout.Fd())) && !once && (format == "table" || format == "")
			for {
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(time.Second):
				}
				rows, err := s.read()
				if err != nil {
					return err
				}
				if clear {
					fmt.Fprint(cmd.OutOrStdout(), "\x1b[H\x1b[J")
				}
				if err := printRows(cmd.OutOrStdout(), rows, statsColumns, format); err != nil || once {
					return err
				}
			}
		},
	}
	p := cmd.Flags()
	p.BoolVarP(&all, "all", "a", false, "Show all containers (default shows just running)")
	p.BoolVar(&once, "no-stream", false, "Disable streaming stats and only pull the first result")
	p.BoolVar(&noTrunc, "no-trunc", false, "Do not truncate output")
	p.StringVar(&format, "format", "table", "'table', 'json', or a Go template")
	return cmd
}

var statsColumns = []column[statsRow]{
	{"CONTAINER ID", func(r statsRow) string { return r.ID }},
	{"NAME", func(r statsRow) string { return r.Name }},
	{"CPU %", func(r statsRow) string { return r.CPUPerc }},
	{"MEM USAGE / LIMIT", func(r statsRow) string { return r.MemUsage }},
	{"MEM %", func(r statsRow) string { return r.MemPerc }},
	{"NET I/O", func(r statsRow) string { return r.NetIO }},
	{"BLOCK I/O", func(r statsRow) string { return r.BlockIO }},
	{"PIDS", func(r statsRow) string { return r.PIDs }},
}

// statsView is a list of containers that is read again and again.
type statsView struct {
	e            *engine.Engine
	refs         []string
	all, noTrunc bool
	before       map[string]*engine.Usage
}

func (s *statsView) read() (rows []statsRow, err error) {
	var list []*engine.Live
	if len(s.refs) == 0 {
		if list, err = s.e.List(); err != nil {
			return nil, err
		}
	}
	for _, ref := range s.refs {
		l, err := s.e.Find(ref)
		if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	for _, l := range list {
		if l.Status != engine.Running && !s.all && len(s.refs) == 0 {
			continue
		}
		u, err := s.e.Usage(l)
		if err != nil {
			return nil, err
		}
		rows = append(rows, s.row(l, s.before[l.ID], u))
		s.before[l.ID] = u
	}
	return rows, nil
}

func (s *statsView) row(l *engine.Live, before, u *engine.Usage) statsRow {
	r := statsRow{Container: l.ID, ID: l.ID, Name: l.Name, CPUPerc: percent(0, 1), PIDs: fmt.Sprint(u.Pids.Current)}
	if !s.noTrunc {
		r.Container, r.ID = l.ID[:12], l.ID[:12]
	}
	if before != nil && u.CPU.Total > before.CPU.Total {
		r.CPUPerc = percent(u.CPU.Total-before.CPU.Total, uint64(u.Time.Sub(before.Time)))
	}
	used := u.Memory.Usage - min(u.Memory.InactiveFile, u.Memory.Usage)
	limit := u.Memory.Limit
	if total := hostMemory(); limit == cgroup.NoLimit || limit > total && total > 0 {
		limit = total
	}
	r.MemUsage = units.BytesSize(float64(used)) + " / " + units.BytesSize(float64(limit))
	r.MemPerc = percent(used, limit)
	r.NetIO = pair(u.Received, u.Sent)
	var read, written uint64
	for _, d := range u.IO {
		read, written = read+d.Read, written+d.Write
	}
	r.BlockIO = pair(read, written)
	return r
}

func pair(a, b uint64) string {
	return units.HumanSizeWithPrecision(float64(a), 3) + " / " + units.HumanSizeWithPrecision(float64(b), 3)
}

func percent(part, whole uint64) string {
	if whole == 0 {
		return "0.00%"
	}
	return fmt.Sprintf("%.2f%%", float64(part)/float64(whole)*100)
}

// hostMemory is what the machine has, bytes.
func hostMemory() (n uint64) {
	b, _ := os.ReadFile("/proc/meminfo")
	_, rest, _ := strings.Cut(string(b), "MemTotal:")
	fmt.Sscan(rest, &n)
	return n << 10
}
