package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"vitro/internal/engine"
)

// containerCmd is the long form of the verbs about containers.
func containerCmd(a *app) *cobra.Command {
	inspect := inspectOf(a, "container")
	inspect.Use, inspect.Short = "inspect [OPTIONS] CONTAINER [CONTAINER...]", "Display detailed information on one or more containers"
	ls := psCmd(a)
	ls.Use, ls.Aliases = "ls [OPTIONS]", []string{"list", "ps"}
	return group("container", "Manage containers", inspect, ls, containerPruneCmd(a),
		attachCmd(a), commitCmd(a), cpCmd(a), createCmd(a), diffCmd(a), execCmd(a), exportCmd(a), killCmd(a), logsCmd(a), pauseCmd(a), portCmd(a),
		renameCmd(a), restartCmd(a), rmCmd(a), runCmd(a), startCmd(a), statsCmd(a), stopCmd(a), unpauseCmd(a), updateCmd(a), waitCmd(a))
}

func containerPruneCmd(a *app) *cobra.Command {
	var force bool
	var filter []string
	cmd := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove all stopped containers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := readFilters(filter, "until", "label", "label!")
			if err != nil {
				return err
			}
			var until time.Time
			for _, v := range f["until"] {
				if until, err = parseUntil(v); err != nil {
					return err
				}
			}
			if !force && !confirm(cmd, "WARNING! This will remove all stopped containers.") {
				return nil
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			gone, bytes, err := pruneContainers(e, func(l *engine.Live) bool {
				return (until.IsZero() || l.Created.Before(until)) &&
					f.all("label", func(v string) bool { return hasLabel(l.Config.Labels, v) }) &&
					f.all("label!", func(v string) bool { return !hasLabel(l.Config.Labels, v) })
			})
			printPruned(cmd, "Deleted Containers:", gone, bytes)
			return err
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	cmd.Flags().StringArrayVar(&filter, "filter", nil, "Provide filter values: until, label, label!")
	return cmd
}

// pruneContainers removes what does not run, and fits. One that is started meanwhile stays.
func pruneContainers(e *engine.Engine, fits func(*engine.Live) bool) (gone []string, bytes int64, err error) {
	list, err := e.List()
	for _, l := range list {
		if l.Status == engine.Running || !fits(l) {
			continue
		}
		rw, _ := e.Sizes(l.Container)
		if one := e.Remove(l.ID, false, false); one != nil {
			err = errors.Join(err, one)
			continue
		}
		gone, bytes = append(gone, l.ID), bytes+rw
	}
	return gone, bytes, err
}
