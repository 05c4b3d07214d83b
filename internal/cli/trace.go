package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"vitro/internal/explain"
	"vitro/internal/explain/trace"
)

func traceCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "trace", Short: "Watch what containers do, live", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(traceExecCmd(a))
	return cmd
}

func traceExecCmd(a *app) *cobra.Command {
	var all bool
	var format, source string
	cmd := &cobra.Command{
		Use: "exec [OPTIONS] [CONTAINER|PID]", Short: "Show each program that a container starts (Ctrl-C ends)", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return fmt.Errorf("--format: %q is neither text nor json", format)
			}
			if all && len(args) == 1 {
				return fmt.Errorf("--all and a container do not go together")
			}
			w := &execWatch{a: a, all: all, json: format == "json", out: cmd.OutOrStdout(), page: page(cmd.OutOrStdout())}
			o := trace.Options{Source: source}
			if len(args) == 1 {
				pid, _, err := a.seen().find(args[0])
				if err != nil {
					return err
				}
				// A container without a pid namespace of its own is told by its cgroup.
				if o.PIDNS, w.only, err = explain.TraceFilter(pid, a.seen().containers()); err != nil {
					return err
				}
				w.names.Learn(pid)
			}
			return w.run(cmd.Context(), o, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Programs of the host, too")
	cmd.Flags().StringVar(&source, "source", "", "ebpf or ftrace (default: ebpf, ftrace where that is not there)")
	formatFlag(cmd, &format)
	return cmd
}

// execWatch prints events.
type execWatch struct {
	a     *app
	all   bool
	json  bool
	only  string // name of the container, when it has no pid namespace of its own
	out   io.Writer
	page  explain.Page
	names explain.Namer
	err   error
}

func (w *execWatch) run(ctx context.Context, o trace.Options, stderr io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	w.names.Containers = func() []explain.Container { return w.a.seen().containers() }
	named := map[string]string{} // it may be gone when its next event is read
	w.names.ByID = func(id string) string {
		name, known := named[id]
		if !known { // a container has its name before it starts
			name = w.a.names()[id]
			named[id] = name
		}
		return name
	}
	t, err := trace.Open(o)
	if err != nil {
		return err
	}
	defer t.Close()
	fmt.Fprintf(stderr, "Tracing exec by %s.\n", t.Source)
	if !w.json {
		fmt.Fprintf(w.out, "%-15s  %-20s  %7s  %7s  %6s  %s\n", "TIME", "CONTAINER", "PID", "INSIDE", "UID", "COMMAND")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told := uint64(0)
	err = t.Run(ctx, func(e trace.Event) {
		if w.print(e, o.PIDNS != 0); w.err != nil {
			cancel() // nobody reads any more
		}
		if n := t.Lost(); n > told {
			fmt.Fprintf(stderr, "%d events lost\n", n-told)
			told = n
		}
	})
	if n := t.Lost(); n > 0 {
		fmt.Fprintf(stderr, "%d events lost in all\n", n)
	}
	if err == nil {
		err = w.err
	}
	return err
}

func (w *execWatch) print(e trace.Event, filtered bool) {
	name := w.names.Name(e.PID, e.PIDNS, e.Cgroup)
	if w.only != "" && name != w.only || !w.all && !filtered && w.only == "" && name == "" {
		return
	}
	if w.json {
		b, err := json.Marshal(struct {
			trace.Event
			Container string `json:",omitempty"`
		}{e, name})
		if err == nil {
			_, w.err = w.out.Write(explain.EscapeJSON(append(b, '\n')))
		}
		return
	}
	inner := "-"
	if e.Inner != 0 {
		inner = strconv.Itoa(e.Inner)
	}
	if name == "" {
		name = "-"
	}
	limit := 200
	if w.page.Width > 0 {
		limit = max(20, w.page.Width-67)
	}
	command := explain.Safe(e.Command, limit)
	if e.Cut {
		command += "…"
	}
	_, w.err = fmt.Fprintf(w.out, "%-15s  %-20s  %7d  %7s  %6d  %s\n", e.Time.Local().Format("15:04:05.000000"), explain.Safe(name, 20), e.PID, inner, e.UID, command)
}
