package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"vitro/internal/engine"
	"vitro/internal/network"
)

// psRow has the fields of docker ps --format.
type psRow struct {
	Command, CreatedAt, ID, Image, Labels, LocalVolumes, Mounts, Names, Networks, Ports, RunningFor, Size, State, Status string
}

func psCmd(a *app) *cobra.Command {
	var all, quiet, noTrunc, latest, size bool
	var last int
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use: "ps [OPTIONS]", Short: "List containers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			keep, err := parseFilters(e, filters)
			if err != nil {
				return err
			}
			list, err := e.List()
			if err != nil {
				return err
			}
			if latest {
				last = 1
			}
			all = all || last >= 0 || slices.ContainsFunc(filters, func(f string) bool { return strings.HasPrefix(f, "status=") || strings.HasPrefix(f, "exited=") })
			list = slices.DeleteFunc(list, func(l *engine.Live) bool { return !keep(l) || !all && l.Status != engine.Running })
			if last >= 0 {
				list = list[:min(last, len(list))]
			}
			ports, err := publishedPorts(e, list)
			if err != nil {
				return err
			}
			var rows []psRow
			for _, l := range list {
				r := newRow(l, noTrunc)
				r.Networks = strings.Join(e.NetworkNames(l.Container), ",")
				if l.Status == engine.Running {
					r.Ports = portsText(ports[l.ID], l.Config.ExposedPorts)
				}
				if size || strings.Contains(format, ".Size") {
					rw, root := e.Sizes(l.Container)
					r.Size = fmt.Sprintf("%s (virtual %s)", units.HumanSizeWithPrecision(float64(rw), 3), units.HumanSizeWithPrecision(float64(root), 3))
				}
				rows = append(rows, r)
			}
			return printPS(cmd.OutOrStdout(), rows, quiet, size, format)
		},
	}
	p := cmd.Flags()
	p.BoolVarP(&all, "all", "a", false, "Show all containers (default shows just running)")
	p.BoolVarP(&quiet, "quiet", "q", false, "Only display container IDs")
	p.BoolVar(&noTrunc, "no-trunc", false, "Don't truncate output")
	p.BoolVarP(&latest, "latest", "l", false, "Show the latest created container (includes all states)")
	p.IntVarP(&last, "last", "n", -1, "Show n last created containers (includes all states)")
	p.BoolVarP(&size, "size", "s", false, "Display total file sizes")
	p.StringVar(&format, "format", "table", "'table', 'json', or a Go template")
	p.StringArrayVarP(&filters, "filter", "f", nil, "Filter output: "+strings.Join(psFilters, ", "))
	return cmd
}

// publishedPorts are the endpoints of the containers that run, by ID.
func publishedPorts(e *engine.Engine, list []*engine.Live) (map[string][]*network.Endpoint, error) {
	by := map[string][]*network.Endpoint{}
	eps, err := e.Endpoints(list...)
	for _, ep := range eps {
		by[ep.Container] = append(by[ep.Container], ep)
	}
	return by, err
}

func newRow(l *engine.Live, noTrunc bool) psRow {
	r := psRow{
		ID: l.ID, Image: l.Config.Image, Command: strconv.Quote(l.CommandLine()), Names: l.Name, State: string(l.State()),
		CreatedAt:  l.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
		RunningFor: ago(l.Created), Status: statusText(l), LocalVolumes: "0", Size: "0B",
	}
	var labels, mounts []string
	for k, v := range l.Config.Labels {
		labels = append(labels, k+"="+v)
	}
	slices.Sort(labels)
	volumes := 0
	for _, m := range l.Mounts {
		mounts = append(mounts, pick(m.Name, m.Source))
		if m.Name != "" {
			volumes++
		}
	}
	r.LocalVolumes = strconv.Itoa(volumes)
	r.Labels, r.Mounts = strings.Join(labels, ","), strings.Join(mounts, ",")
	if !noTrunc {
		r.ID = l.ID[:12]
		r.Command = strconv.Quote(ellipsis(l.CommandLine(), 20))
	}
	return r
}

func ellipsis(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

func ago(t time.Time) string { return units.HumanDuration(time.Since(t)) + " ago" }

func statusText(l *engine.Live) string {
	switch l.Status {
	case engine.Running:
		up := "Up " + units.HumanDuration(time.Since(l.StartedAt))
		if l.Paused {
			up += " (Paused)"
		}
		return up
	case engine.Exited:
		return fmt.Sprintf("Exited (%d) %s", l.ExitCode, ago(l.FinishedAt))
	}
	return "Created"
}

// parseFilters makes one test of all filters: those of one key are alternatives.
func parseFilters(e *engine.Engine, filters []string) (func(*engine.Live) bool, error) {
	f, err := readFilters(filters, psFilters...)
	if err != nil {
		return nil, err
	}
	for _, v := range f["status"] {
		if !slices.Contains([]string{"created", "running", "paused", "exited"}, v) {
			return nil, fmt.Errorf("invalid filter 'status=%s'", v)
		}
	}
	before, since, err := around(e, f["before"], f["since"])
	if err != nil {
		return nil, err
	}
	return func(l *engine.Live) bool {
		return f.any("id", func(v string) bool { return strings.HasPrefix(l.ID, v) }) &&
			f.any("name", func(v string) bool { return nameFits(v, l.Name) || nameFits(v, "/"+l.Name) }) &&
			f.any("status", func(v string) bool { return v == string(l.State()) }) &&
			f.any("exited", func(v string) bool { return l.Status == engine.Exited && v == strconv.Itoa(l.ExitCode) }) &&
			f.all("label", func(v string) bool { return hasLabel(l.Config.Labels, v) }) &&
			f.any("network", func(v string) bool { return onNetwork(e, l, v) }) &&
			f.any("volume", func(v string) bool {
				return slices.ContainsFunc(l.Mounts, func(m engine.Mount) bool { return v == m.Name || v == m.Destination })
			}) &&
			(before.IsZero() || l.Created.Before(before)) && (since.IsZero() || l.Created.After(since)) &&
			f.any("ancestor", func(v string) bool {
				return v == l.Config.Image || v+":latest" == l.Config.Image || strings.HasPrefix(strings.TrimPrefix(l.ImageID, "sha256:"), strings.TrimPrefix(v, "sha256:"))
			})
	}, nil
}

var psFilters = []string{"id", "name", "status", "exited", "ancestor", "label", "network", "volume", "before", "since"}

// onNetwork: by name, or the begin of an ID.
func onNetwork(e *engine.Engine, l *engine.Live, want string) bool {
	names := e.NetworkNames(l.Container)
	if slices.Contains(names, want) {
		return true
	}
	m, err := e.Networks()
	if err != nil {
		return false
	}
	n, err := m.Get(context.Background(), want)
	return err == nil && slices.Contains(names, n.Name)
}

// around are the times of the containers that filters before and since name; zero without one.
func around(e *engine.Engine, before, since []string) (b, s time.Time, err error) {
	for _, f := range []struct {
		refs []string
		to   *time.Time
	}{{before, &b}, {since, &s}} {
		for _, ref := range f.refs {
			l, err := e.Find(ref)
			if err != nil {
				return b, s, err
			}
			*f.to = l.Created
		}
	}
	return b, s, nil
}

func printPS(w io.Writer, rows []psRow, quiet, size bool, format string) error {
	if quiet && format == "table" {
		format = "{{.ID}}"
	}
	cols := []column[psRow]{
		{"CONTAINER ID", func(r psRow) string { return r.ID }},
		{"IMAGE", func(r psRow) string { return r.Image }},
		{"COMMAND", func(r psRow) string { return r.Command }},
		{"CREATED", func(r psRow) string { return r.RunningFor }},
		{"STATUS", func(r psRow) string { return r.Status }},
		{"PORTS", func(r psRow) string { return r.Ports }},
		{"NAMES", func(r psRow) string { return r.Names }},
	}
	if size {
		cols = append(cols, column[psRow]{"SIZE", func(r psRow) string { return r.Size }})
	}
	return printRows(w, rows, cols, format)
}

// column is a column of a table.
type column[T any] struct {
	head string
	cell func(T) string
}

// printRows prints Docker's formats: table, json (one object a line), a template, or "table TEMPLATE".
func printRows[T any](w io.Writer, rows []T, cols []column[T], format string) error {
	switch {
	case format == "table" || format == "":
		tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
		for i, c := range cols {
			fmt.Fprint(tw, tab(i), c.head)
		}
		fmt.Fprintln(tw)
		for _, r := range rows {
			for i, c := range cols {
				fmt.Fprint(tw, tab(i), c.cell(r))
			}
			fmt.Fprintln(tw)
		}
		return tw.Flush()
	case format == "json":
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	format, table := strings.CutPrefix(format, "table ")
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	out := io.Writer(w)
	if table {
		tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
		defer tw.Flush()
		out = tw
		if err := t.Execute(out, heads(cols)); err != nil {
			return fmt.Errorf("template: %w", err)
		}
		fmt.Fprintln(out)
	}
	if len(rows) == 0 { // a field that there is not is an error without rows, too
		var none T
		if err := t.Execute(io.Discard, none); err != nil && strings.Contains(err.Error(), "can't evaluate field") {
			return fmt.Errorf("template: %w", err)
		}
	}
	for _, r := range rows {
		if err := t.Execute(out, r); err != nil {
			return fmt.Errorf("template: %w", err)
		}
		fmt.Fprintln(out)
	}
	return nil
}

func tab(i int) string {
	if i == 0 {
		return ""
	}
	return "\t"
}

// parseTemplate has the functions that Docker's templates have most use for; \t and \n may be written so.
func parseTemplate(s string) (*template.Template, error) {
	s = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(s)
	t, err := template.New("format").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			var b strings.Builder
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			err := enc.Encode(v)
			return strings.TrimSpace(b.String()), err
		},
		"join": strings.Join, "lower": strings.ToLower, "upper": strings.ToUpper, "split": strings.Split,
		"println": fmt.Sprintln,
	}).Parse(s)
	if err != nil {
		return nil, fmt.Errorf("template parsing error: %w", err)
	}
	return t, nil
}

// heads is a row with each field's head: that of the column which shows it, or its name in capitals, as CREATED AT.
func heads[T any](cols []column[T]) (row T) {
	camel := regexp.MustCompile("([a-z])([A-Z])")
	v := reflect.ValueOf(&row).Elem()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		if f.Kind() != reflect.String || !f.CanSet() {
			continue
		}
		var only T // with this field alone
		reflect.ValueOf(&only).Elem().Field(i).SetString(name)
		head := strings.ToUpper(camel.ReplaceAllString(name, "$1 $2"))
		for _, c := range cols {
			if c.cell(only) == name {
				head = c.head
			}
		}
		f.SetString(head)
	}
	return row
}

// nameFits is Docker's test of a filter's value: the name itself, or a regular expression that matches in it.
func nameFits(value, name string) bool {
	re, err := regexp.Compile(value)
	return value == name || err == nil && re.MatchString(name)
}
