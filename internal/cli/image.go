package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"vitro/internal/engine"
	"vitro/internal/image"
	"vitro/internal/store"
)

// imageCmd is the long form of the verbs about images.
func imageCmd(a *app) *cobra.Command {
	as := func(use string, aliases []string, cmd *cobra.Command) *cobra.Command {
		_, args, _ := strings.Cut(cmd.Use, " ")
		cmd.Use, cmd.Aliases = use+" "+args, aliases
		return cmd
	}
	inspect := as("inspect", nil, inspectOf(a, "image"))
	inspect.Use, inspect.Short = "inspect [OPTIONS] IMAGE [IMAGE...]", "Display detailed information on one or more images"
	return group("image", "Manage images", as("ls", []string{"list"}, imagesCmd(a)), as("rm", []string{"remove"}, rmiCmd(a)), inspect,
		historyCmd(a), importCmd(a), loadCmd(a), saveCmd(a), pullCmd(a), pushCmd(a), tagCmd(a), imagePruneCmd(a))
}

func tagCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", Short: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			target, err := image.Parse(args[1])
			if err != nil {
				return err
			}
			if target.Digest != "" {
				return errors.New("refusing to create a tag with a digest reference")
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			return e.Store.Tag(args[0], target)
		},
	}
}

// historyRow has the fields of docker history --format.
type historyRow struct {
	Comment, CreatedAt, CreatedBy, CreatedSince, ID, Size string
}

func historyCmd(a *app) *cobra.Command {
	var human, noTrunc, quiet bool
	var format string
	cmd := &cobra.Command{
		Use: "history [OPTIONS] IMAGE", Short: "Show the history of an image", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			img, err := e.Store.Resolve(args[0])
			if err != nil {
				return err
			}
			rows, err := historyRows(e, img, human, noTrunc)
			if err != nil {
				return err
			}
			created := column[historyRow]{"CREATED", func(r historyRow) string { return r.CreatedSince }}
			if !human {
				created = column[historyRow]{"CREATED AT", func(r historyRow) string { return r.CreatedAt }}
			}
			if quiet && format == "table" {
				format = "{{.ID}}"
			}
			return printRows(cmd.OutOrStdout(), rows, []column[historyRow]{
				{"IMAGE", func(r historyRow) string { return r.ID }},
				created,
				{"CREATED BY", func(r historyRow) string { return r.CreatedBy }},
				{"SIZE", func(r historyRow) string { return r.Size }},
				{"COMMENT", func(r historyRow) string { return r.Comment }},
			}, format)
		},
	}
	p := cmd.Flags()
	p.BoolVarP(&human, "human", "H", true, "Print sizes and dates in human readable format")
	p.BoolVar(&noTrunc, "no-trunc", false, "Don't truncate output")
	p.BoolVarP(&quiet, "quiet", "q", false, "Only show image IDs")
	p.StringVar(&format, "format", "table", "'table', 'json', or a Go template")
	return cmd
}

// historyRows has the newest first. Layers below the image's own have no ID of theirs.
func historyRows(e *engine.Engine, img store.Image, human, noTrunc bool) (rows []historyRow, err error) {
	chains := img.ChainIDs()
	for _, h := range engine.History(img) {
		r := historyRow{ID: "<missing>", Comment: h.Comment, CreatedBy: strings.ReplaceAll(h.CreatedBy, "\t", " "), CreatedSince: "N/A"}
		var size int64
		if !h.EmptyLayer && len(chains) > 0 {
			rec, err := e.Store.LayerRecord(chains[0])
			if err != nil {
				return nil, err
			}
			size, chains = rec.Size, chains[1:]
		}
		if r.Size = strconv.FormatInt(size, 10); human {
			r.Size = units.HumanSizeWithPrecision(float64(size), 3)
		}
		if h.Created != nil {
			r.CreatedAt, r.CreatedSince = h.Created.Format(time.RFC3339), ago(*h.Created)
		}
		if !noTrunc {
			r.CreatedBy = ellipsis(r.CreatedBy, 45)
			r.Comment = ellipsis(r.Comment, 45)
		}
		rows = append(rows, r)
	}
	slices.Reverse(rows)
	if len(rows) == 0 {
		rows = []historyRow{{Size: "0B", CreatedSince: "N/A"}}
	}
	if rows[0].ID = img.ShortID(); noTrunc {
		rows[0].ID = img.ID.String()
	}
	return rows, nil
}

func imagePruneCmd(a *app) *cobra.Command {
	var all, force bool
	var filter []string
	cmd := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove unused images", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := readFilters(filter, "until", "label", "label!", "dangling")
			if err != nil {
				return err
			}
			dangling, set, err := f.truth("dangling")
			if err != nil {
				return err
			}
			all = all || set && !dangling
			delete(f, "dangling")
			warning := "WARNING! This will remove all dangling images."
			if all {
				warning = "WARNING! This will remove all images without at least one container associated to them."
			}
			if !force && !confirm(cmd, warning) {
				return nil
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			keep, err := imageFilter(e, f)
			if err != nil {
				return err
			}
			gone, bytes, err := pruneImages(e, all, keep)
			printPruned(cmd, "Deleted Images:", gone, bytes)
			return err
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Remove all unused images, not just dangling ones")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	cmd.Flags().StringArrayVar(&filter, "filter", nil, "Provide filter values: until, label, label!, dangling")
	return cmd
}

// pruneImages removes what has no name (or, with all, anything), fits, and is used by no container.
func pruneImages(e *engine.Engine, all bool, fits func(store.Image) bool) (gone []string, bytes int64, err error) {
	images, err := e.Store.Images()
	if err != nil {
		return nil, 0, err
	}
	containers, err := e.List()
	if err != nil {
		return nil, 0, err
	}
	sizes := map[string]int64{}
	for _, img := range images {
		for _, c := range img.ChainIDs() {
			if r, err := e.Store.LayerRecord(c); err == nil {
				sizes[c.String()] = r.Size
			}
		}
	}
	for _, img := range images {
		used := slices.ContainsFunc(containers, func(l *engine.Live) bool { return l.ImageID == img.ID.String() })
		if used || !all && len(img.RepoTags) > 0 || !fits(img) {
			continue
		}
		refs := img.RepoTags
		if len(refs) == 0 {
			refs = []string{img.ID.String()}
		}
		for _, ref := range refs {
			done, err := e.RemoveImage(ref, false)
			if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
				continue // meanwhile
			}
			if err != nil {
				return gone, bytes, err
			}
			for _, d := range done {
				if d.Untagged != "" {
					gone = append(gone, "untagged: "+d.Untagged)
					continue
				}
				gone = append(gone, fmt.Sprint("deleted: ", d.Deleted))
				bytes += sizes[d.Deleted.String()]
			}
		}
	}
	return gone, bytes, nil
}
