package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"vitro/internal/archive"
	"vitro/internal/engine"
	"vitro/internal/image"
	"vitro/internal/store"
)

func saveCmd(a *app) *cobra.Command {
	var output, format string
	cmd := &cobra.Command{
		Use: "save [OPTIONS] IMAGE [IMAGE...]", Short: "Save one or more images to a tar archive (streamed to STDOUT by default)", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := archive.Docker
			switch format {
			case "docker", "docker-archive":
			case "oci", "oci-archive":
				f = archive.OCI
			default:
				return fmt.Errorf("invalid value for --format: %q: docker or oci", format)
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			images, err := toSave(e, args)
			if err != nil {
				return err
			}
			return writeOut(cmd, "save image", output, func(ctx context.Context, w io.Writer) error {
				return archive.Save(ctx, e.Store, w, f, images)
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	cmd.Flags().StringVar(&format, "format", "docker", "Format of the archive: docker or oci")
	return cmd
}

// toSave finds the images. A tagged name is saved as that name, a repository with all of its tags, an ID without a name.
func toSave(e *engine.Engine, refs []string) (out []archive.Saved, err error) {
	add := func(img store.Image, names ...image.Reference) {
		at := slices.IndexFunc(out, func(s archive.Saved) bool { return s.Image.Manifest.Digest == img.Manifest.Digest })
		if at < 0 {
			at = len(out)
			out = append(out, archive.Saved{Image: img})
		}
		for _, n := range names {
			if !slices.Contains(out[at].Names, n) {
				out[at].Names = append(out[at].Names, n)
			}
		}
	}
	for _, ref := range refs {
		r, perr := image.Parse(ref)
		tagged := perr == nil && r.Digest == "" && strings.HasSuffix(ref, ":"+r.Tag)
		if perr == nil && r.Digest == "" && !tagged {
			list, err := tagsOf(e, r)
			if err != nil {
				return nil, err
			}
			for _, t := range list {
				img, err := e.Store.Resolve(t.String())
				if err != nil {
					return nil, err
				}
				add(img, t)
			}
			if len(list) > 0 {
				continue
			}
		}
		img, err := e.Store.Resolve(ref)
		if err != nil {
			return nil, err
		}
		if tagged && slices.Contains(img.RepoTags, r.Familiar()) {
			add(img, r)
		} else {
			add(img)
		}
	}
	return out, nil
}

// tagsOf are the names in a repository, sorted.
func tagsOf(e *engine.Engine, repo image.Reference) (out []image.Reference, err error) {
	images, err := e.Store.Images()
	if err != nil {
		return nil, err
	}
	for _, img := range images {
		for _, t := range img.RepoTags {
			if r, err := image.Parse(t); err == nil && r.Name() == repo.Name() {
				out = append(out, r)
			}
		}
	}
	slices.SortFunc(out, func(a, b image.Reference) int { return strings.Compare(a.Tag, b.Tag) })
	return out, nil
}
