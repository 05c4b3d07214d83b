package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"vitro/internal/archive"
	"vitro/internal/engine"
	"vitro/internal/hello"
	"vitro/internal/image"
	"vitro/internal/registry"
	"vitro/internal/store"
)

// imageFor finds the image of run, and gets it if it is not there. hello is in this program.
func (a *app) imageFor(ctx context.Context, e *engine.Engine, f *runFlags) (store.Image, error) {
	ref, pull := f.Image, f.pull
	var want *image.Platform
	if f.host.platform != "" {
		p, err := image.ParsePlatform(f.host.platform)
		if err != nil {
			return store.Image{}, err
		}
		want = &p
	}
	if pull != "always" && pull != "missing" && pull != "never" {
		return store.Image{}, fmt.Errorf("invalid pull option: '%s': must be one of \"always\", \"missing\" or \"never\"", pull)
	}
	img, err := e.Store.Resolve(ref)
	if err == nil && pull == "missing" && want != nil && !image.Matches(*want, img.Config.Platform) {
		pull = "always" // another platform's is there
	} else if err == nil && pull == "never" && want != nil && !image.Matches(*want, img.Config.Platform) {
		return img, fmt.Errorf("image with reference %s was found but does not match the specified platform: wanted %s, actual: %s",
			ref, image.FormatPlatform(*want), image.FormatPlatform(img.Config.Platform))
	}
	if err == nil && pull != "always" || err != nil && !errors.Is(err, store.ErrNotFound) {
		return img, err
	}
	r, perr := image.Parse(ref)
	if perr != nil {
		return img, perr
	}
	if err != nil && r.Familiar() == hello.Name {
		return loadHello(ctx, e)
	}
	if pull == "never" {
		return img, err
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "Unable to find image '%s' locally\n", r.Familiar())
	}
	var w io.Writer = os.Stderr
	if f.host.quiet {
		w = io.Discard
	}
	res, err := pullImage(ctx, e, r, w, registry.Options{Platform: want})
	return res.Image, err
}

func loadHello(ctx context.Context, e *engine.Engine) (store.Image, error) {
	r, _, err := hello.Image()
	if err != nil {
		return store.Image{}, err
	}
	if _, err := archive.Load(ctx, e.Store, r, archive.Options{}); err != nil {
		return store.Image{}, fmt.Errorf("embedded image hello: %w", err)
	}
	return e.Store.Resolve(hello.Name)
}

// pullImage prints as docker pull does.
func pullImage(ctx context.Context, e *engine.Engine, r image.Reference, w io.Writer, o registry.Options) (registry.Result, error) {
	fmt.Fprintf(w, "%s: Pulling from %s\n", pick(r.Tag, r.Digest.String()), strings.TrimPrefix(r.Path, ""))
	allProcessors()
	p := registry.NewProgress(w)
	o.Events = p.Event
	res, err := registry.Pull(ctx, e.Store, r, o)
	p.Close()
	if err != nil {
		return res, err
	}
	fmt.Fprintf(w, "Digest: %s\n", res.Digest)
	if res.UpToDate {
		fmt.Fprintf(w, "Status: Image is up to date for %s\n", r.Familiar())
	} else {
		fmt.Fprintf(w, "Status: Downloaded newer image for %s\n", r.Familiar())
	}
	return res, nil
}

func pick(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func pullCmd(a *app) *cobra.Command {
	var quiet bool
	var platform string
	cmd := &cobra.Command{
		Use: "pull [OPTIONS] NAME[:TAG|@DIGEST]", Short: "Download an image from a registry", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := image.Parse(args[0])
			if err != nil {
				return err
			}
			var o registry.Options
			if platform != "" {
				p, err := image.ParsePlatform(platform)
				if err != nil {
					return err
				}
				o.Platform = &p
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if !strings.ContainsAny(strings.TrimPrefix(args[0], r.Domain), ":@") && !quiet {
				fmt.Fprintf(out, "Using default tag: %s\n", r.Tag)
			}
			w := out
			if quiet {
				w = io.Discard
			}
			if _, err := pullImage(cmd.Context(), e, r, w, o); err != nil {
				return err
			}
			fmt.Fprintln(out, r.String())
			return nil
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress verbose output")
	cmd.Flags().StringVar(&platform, "platform", "", "Set platform if server is multi-platform capable")
	refuse(cmd.Flags(), refused{"disable-content-trust", "true", noTrust})
	cmd.Flags().VarP(refusedFlag{"false", "name each tag"}, "all-tags", "a", "")
	all := cmd.Flags().Lookup("all-tags")
	all.Hidden, all.NoOptDefVal = true, "true"
	return cmd
}

func loadCmd(a *app) *cobra.Command {
	var quiet bool
	var input string
	cmd := &cobra.Command{
		Use: "load [OPTIONS]", Short: "Load an image from a tar archive or STDIN", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			in := os.Stdin
			if input != "" {
				if in, err = os.Open(input); err != nil {
					return err
				}
				defer in.Close()
			}
			w := cmd.OutOrStdout()
			if quiet {
				w = io.Discard
			}
			allProcessors()
			p := registry.NewProgress(w)
			loaded, err := archive.Load(cmd.Context(), e.Store, in, archive.Options{Events: p.Event})
			p.Close()
			for _, l := range loaded {
				fmt.Fprintln(cmd.OutOrStdout(), l)
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress the load output")
	cmd.Flags().StringVarP(&input, "input", "i", "", "Read from tar archive file, instead of STDIN")
	return cmd
}

func rmiCmd(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rmi [OPTIONS] IMAGE [IMAGE...]", Short: "Remove one or more images", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			var failed []string
			for _, ref := range args {
				done, err := e.RemoveImage(ref, force)
				for _, d := range done {
					if d.Untagged != "" {
						fmt.Fprintln(cmd.OutOrStdout(), "Untagged:", d.Untagged)
					} else {
						fmt.Fprintln(cmd.OutOrStdout(), "Deleted:", d.Deleted)
					}
				}
				if err != nil {
					failed = append(failed, err.Error())
				}
			}
			if failed != nil {
				return errors.New(strings.Join(failed, "\nvitro: "))
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Force removal of the image")
	cmd.Flags().Bool("no-prune", false, "Do not delete untagged parents (an image of vitro's has none)")
	return cmd
}

// imageRow has the fields of docker images --format.
type imageRow struct {
	Containers, CreatedAt, CreatedSince, Digest, ID, Repository, SharedSize, Size, Tag, UniqueSize, VirtualSize string
}

func imagesCmd(a *app) *cobra.Command {
	var quiet, noTrunc, digests, all bool
	var format string
	var filter []string
	cmd := &cobra.Command{
		Use: "images [OPTIONS] [REPOSITORY[:TAG]]", Short: "List images", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			f, err := readFilters(filter, imageFilters...)
			if err != nil {
				return err
			}
			keep, err := imageFilter(e, f)
			if err != nil {
				return err
			}
			list, err := e.Store.Images()
			if err != nil {
				return err
			}
			var rows []imageRow
			for _, img := range list {
				if keep(img) {
					rows = append(rows, imageRows(img, noTrunc, digests)...)
				}
			}
			rows = slices.DeleteFunc(rows, func(r imageRow) bool {
				return !f.any("reference", r.named) || len(args) == 1 && !r.named(args[0])
			})
			cols := []column[imageRow]{
				{"REPOSITORY", func(r imageRow) string { return r.Repository }},
				{"TAG", func(r imageRow) string { return r.Tag }},
				{"DIGEST", func(r imageRow) string { return r.Digest }},
				{"IMAGE ID", func(r imageRow) string { return r.ID }},
				{"CREATED", func(r imageRow) string { return r.CreatedSince }},
				{"SIZE", func(r imageRow) string { return r.Size }},
			}
			if !digests {
				cols = append(cols[:2], cols[3:]...)
			}
			if quiet && format == "table" {
				format = "{{.ID}}"
			}
			return printRows(cmd.OutOrStdout(), rows, cols, format)
		},
	}
	p := cmd.Flags()
	p.BoolVarP(&quiet, "quiet", "q", false, "Only show image IDs")
	p.BoolVar(&noTrunc, "no-trunc", false, "Don't truncate output")
	p.BoolVar(&digests, "digests", false, "Show digests")
	p.BoolVarP(&all, "all", "a", false, "Show all images: there are no intermediate ones that would be hidden")
	p.StringArrayVarP(&filter, "filter", "f", nil, "Filter output: "+strings.Join(imageFilters, ", "))
	p.StringVar(&format, "format", "table", "'table', 'json', or a Go template")
	return cmd
}

// imageRows is a row for each name of an image; one without a name is <none>.
func imageRows(img store.Image, noTrunc, digests bool) (rows []imageRow) {
	r := imageRow{
		Containers: "N/A", SharedSize: "N/A", UniqueSize: "N/A", ID: img.ShortID(), Digest: "<none>",
		Size: units.HumanSizeWithPrecision(float64(img.Size), 3), CreatedSince: "N/A", CreatedAt: "N/A",
	}
	r.VirtualSize = r.Size
	if noTrunc {
		r.ID = img.ID.String()
	}
	if c := img.Config.Created; c != nil {
		r.CreatedSince, r.CreatedAt = ago(*c), c.Local().Format("2006-01-02 15:04:05 -0700 MST")
	}
	for _, n := range img.RepoTags {
		t := r
		i := strings.LastIndexByte(n, ':')
		t.Repository, t.Tag = n[:i], n[i+1:]
		for _, d := range img.RepoDigests {
			if name, dg, _ := strings.Cut(d, "@"); name == t.Repository {
				t.Digest = dg
			}
		}
		rows = append(rows, t)
	}
	if len(rows) == 0 {
		r.Repository, r.Tag = "<none>", "<none>"
		for _, d := range img.RepoDigests {
			r.Repository, r.Digest, _ = strings.Cut(d, "@")
		}
		rows = append(rows, r)
	}
	return rows
}

var imageFilters = []string{"dangling", "label", "before", "since", "until", "reference"}

// imageFilter is one test of all filters but reference, which is about one name of an image.
func imageFilter(e *engine.Engine, f filters) (func(store.Image) bool, error) {
	dangling, set, err := f.truth("dangling")
	if err != nil {
		return nil, err
	}
	var before, since time.Time
	for key, to := range map[string]*time.Time{"before": &before, "since": &since} {
		for _, ref := range f[key] {
			img, err := e.Store.Resolve(ref)
			if err != nil {
				return nil, err
			}
			*to = createdAt(img)
		}
	}
	for _, v := range f["until"] {
		if before, err = parseUntil(v); err != nil {
			return nil, err
		}
	}
	return func(img store.Image) bool {
		at := createdAt(img)
		return (!set || dangling == (len(img.RepoTags) == 0)) &&
			f.all("label", func(v string) bool { return hasLabel(img.Config.Config.Labels, v) }) &&
			f.all("label!", func(v string) bool { return !hasLabel(img.Config.Config.Labels, v) }) &&
			(before.IsZero() || at.Before(before)) && (since.IsZero() || at.After(since))
	}, nil
}

// createdAt is zero where an image does not say.
func createdAt(img store.Image) (t time.Time) {
	if c := img.Config.Created; c != nil {
		t = *c
	}
	return t
}

// named: REPOSITORY[:TAG], with or without its default host, or a pattern of it (path.Match).
func (r imageRow) named(want string) bool {
	name := r.Repository + ":" + r.Tag
	for _, pattern := range []string{want, want + ":*"} {
		if ok, err := path.Match(pattern, name); ok && err == nil {
			return true
		}
	}
	ref, err := image.Parse(want)
	if err != nil {
		return false
	}
	_, tagged := strings.CutPrefix(want, ref.FamiliarName()+":")
	return r.Repository == ref.FamiliarName() && (!tagged || r.Tag == ref.Tag)
}
