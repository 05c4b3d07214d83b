package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"vitro/internal/engine"
)

// group is a command that has commands only.
func group(name, short string, cmds ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: name + " COMMAND", Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("'%s' is not a vitro command.\nSee '%s --help'", cmd.Name()+" "+args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(cmds...)
	return cmd
}

func volumeCmd(a *app) *cobra.Command {
	return group("volume", "Manage volumes", volumeCreateCmd(a), volumeLsCmd(a), volumeInspectCmd(a), volumeRmCmd(a), volumePruneCmd(a))
}

func volumeCreateCmd(a *app) *cobra.Command {
	var labels []string
	var driver string
	cmd := &cobra.Command{
		Use: "create [OPTIONS] [VOLUME]", Short: "Create a volume", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if driver != "local" {
				return fmt.Errorf("create: no such volume driver %q: only local is there", driver)
			}
			l, err := parseLabels(labels)
			if err != nil {
				return err
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			v, err := e.CreateVolume(strings.Join(args, ""), l)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), v.Name)
			}
			return err
		},
	}
	cmd.Flags().StringArrayVar(&labels, "label", nil, "Set metadata for a volume")
	cmd.Flags().StringVarP(&driver, "driver", "d", "local", "Specify volume driver name: local")
	cmd.Flags().VarP(refusedFlag{why: "a volume is a folder of vitro's; mount what it should be on the host, and bind that"}, "opt", "o", "")
	cmd.Flags().Lookup("opt").Hidden = true
	return cmd
}

// parseLabels reads NAME[=VALUE].
func parseLabels(in []string) (map[string]string, error) {
	var out map[string]string
	for _, l := range in {
		k, v, _ := strings.Cut(l, "=")
		if k == "" {
			return nil, fmt.Errorf("invalid label '%s': empty name", l)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[k] = v
	}
	return out, nil
}

// filters are --filter KEY=VALUE, by key.
type filters map[string][]string

func readFilters(in []string, keys ...string) (filters, error) {
	f := filters{}
	for _, s := range in {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("invalid argument %q for \"-f, --filter\" flag: invalid filter '%s'", s, s)
		}
		if k = strings.ToLower(strings.TrimSpace(k)); !slices.Contains(keys, k) {
			return nil, fmt.Errorf("invalid filter '%s'", k)
		}
		f[k] = append(f[k], strings.TrimSpace(v))
	}
	return f, nil
}

// any tells whether one of the values of a key fits, or none is given.
func (f filters) any(key string, fits func(v string) bool) bool {
	return len(f[key]) == 0 || slices.ContainsFunc(f[key], fits)
}

// all tells whether all of the values of a key fit.
func (f filters) all(key string, fits func(v string) bool) bool {
	return !slices.ContainsFunc(f[key], func(v string) bool { return !fits(v) })
}

// truth reads a filter that is true or false.
func (f filters) truth(key string) (want, set bool, err error) {
	for _, v := range f[key] {
		if v != "true" && v != "false" && v != "1" && v != "0" {
			return false, false, fmt.Errorf("invalid filter '%s=%s'", key, v)
		}
		want, set = v == "true" || v == "1", true
	}
	return want, set, nil
}

// volumeRow has the fields of docker volume ls --format.
type volumeRow struct {
	Availability, Driver, Group, Labels, Links, Mountpoint, Name, Scope, Size, Status string

	labels map[string]string
}

// Label is the value of a label.
func (r volumeRow) Label(name string) string { return r.labels[name] }

func newVolumeRow(v engine.Volume) volumeRow {
	r := volumeRow{Driver: v.Driver, Mountpoint: v.Mountpoint, Name: v.Name, Scope: v.Scope, Size: "N/A", Links: "N/A", Availability: "N/A", Group: "N/A", Status: "N/A", labels: v.Labels}
	var labels []string
	for k, v := range v.Labels {
		labels = append(labels, k+"="+v)
	}
	slices.Sort(labels)
	r.Labels = strings.Join(labels, ",")
	return r
}

func volumeLsCmd(a *app) *cobra.Command {
	var quiet bool
	var format string
	var filter []string
	cmd := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List volumes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := readFilters(filter, "dangling", "driver", "label", "name")
			if err != nil {
				return err
			}
			dangling, set, err := f.truth("dangling")
			if err != nil {
				return err
			}
			_, list, users, err := a.volumes()
			if err != nil {
				return err
			}
			var rows []volumeRow
			for _, v := range list {
				if f.any("name", func(s string) bool { return nameFits(s, v.Name) }) &&
					f.any("driver", func(s string) bool { return v.Driver == s }) &&
					f.all("label", func(s string) bool { return hasLabel(v.Labels, s) }) &&
					(!set || dangling == (users[v.Name] == nil)) {
					rows = append(rows, newVolumeRow(v))
				}
			}
			cols := []column[volumeRow]{
				{"DRIVER", func(r volumeRow) string { return r.Driver }},
				{"VOLUME NAME", func(r volumeRow) string { return r.Name }},
			}
			if quiet && format == "table" {
				format = "{{.Name}}"
			}
			return printRows(cmd.OutOrStdout(), rows, cols, format)
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only display volume names")
	cmd.Flags().StringVar(&format, "format", "table", "'table', 'json', or a Go template")
	cmd.Flags().StringArrayVarP(&filter, "filter", "f", nil, "Filter output: dangling, driver, label, name")
	return cmd
}

// volumes are all that there are, and who uses them.
func (a *app) volumes() (e *engine.Engine, list []engine.Volume, users map[string][]string, err error) {
	if e, err = a.open(); err != nil {
		return nil, nil, nil, err
	}
	if list, err = e.Volumes(); err == nil {
		users, err = e.VolumeUsers()
	}
	return e, list, users, err
}

func volumeInspectCmd(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "inspect [OPTIONS] VOLUME [VOLUME...]", Short: "Display detailed information on one or more volumes", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			found, failed := []any{}, error(nil)
			for _, name := range args {
				v, err := e.Volume(name)
				if err != nil {
					failed = err
					break
				}
				found = append(found, v)
			}
			return errors.Join(printInspect(cmd, found, format), failed)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Format output using a Go template, or 'json'")
	return cmd
}

func volumeRmCmd(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rm [OPTIONS] VOLUME [VOLUME...]", Aliases: []string{"remove"}, Short: "Remove one or more volumes", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			return each(cmd, args, func(name string) error {
				err := e.RemoveVolume(name)
				if force && errors.Is(err, engine.ErrNoVolume) {
					return nil
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Force the removal of one or more volumes")
	return cmd
}

func volumePruneCmd(a *app) *cobra.Command {
	var all, force bool
	var filter []string
	cmd := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove unused local volumes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := readFilters(filter, "label", "label!")
			if err != nil {
				return err
			}
			what := "anonymous local volumes not used by at least one container"
			if all {
				what = "local volumes not used by at least one container"
			}
			if !force && !confirm(cmd, "WARNING! This will remove "+what+".") {
				return nil
			}
			e, list, users, err := a.volumes()
			if err != nil {
				return err
			}
			var gone []string
			var bytes int64
			for _, v := range list {
				fits := func(s string) bool { return hasLabel(v.Labels, s) }
				if users[v.Name] != nil || !all && !v.Anonymous() || !f.all("label", fits) || len(f["label!"]) > 0 && f.any("label!", fits) {
					continue
				}
				size := e.VolumeSize(v.Name)
				if err := e.RemoveVolume(v.Name); err == nil {
					gone, bytes = append(gone, v.Name), bytes+size
				}
			}
			printPruned(cmd, "Deleted Volumes:", gone, bytes)
			return nil
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Remove all unused volumes, not just anonymous ones")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	cmd.Flags().StringArrayVar(&filter, "filter", nil, "Provide filter values (label=<label>, label!=<label>)")
	return cmd
}

func printPruned(cmd *cobra.Command, head string, gone []string, bytes int64) {
	w := cmd.OutOrStdout()
	if len(gone) > 0 {
		fmt.Fprintf(w, "%s\n%s\n\n", head, strings.Join(gone, "\n"))
	}
	fmt.Fprintln(w, "Total reclaimed space:", units.HumanSizeWithPrecision(float64(bytes), 3))
}
