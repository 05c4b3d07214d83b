package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"vitro/internal/image"
	"vitro/internal/registry"
	"vitro/internal/store"
)

func pushCmd(a *app) *cobra.Command {
	var all, quiet bool
	cmd := &cobra.Command{
		Use: "push [OPTIONS] NAME[:TAG]", Short: "Upload an image to a registry", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := image.Parse(args[0])
			if err != nil {
				return err
			}
			tagged := strings.HasSuffix(args[0], ":"+r.Tag)
			switch {
			case r.Digest != "":
				return errors.New("cannot push a digest reference")
			case all && tagged:
				return errors.New("tag can't be used with --all-tags/-a")
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			w := out
			if quiet {
				w = io.Discard
			}
			refs := []image.Reference{r}
			if all {
				if refs, err = tagsOf(e, r); err != nil {
					return err
				}
				if len(refs) == 0 {
					return fmt.Errorf("An image does not exist locally with the tag: %s", r.FamiliarName())
				}
			} else if !tagged {
				fmt.Fprintf(w, "Using default tag: %s\n", r.Tag)
			}
			fmt.Fprintf(w, "The push refers to repository [%s]\n", r.Name())
			for _, ref := range refs {
				if err := a.push(cmd, e.Store, ref, w); err != nil {
					return err
				}
				if quiet {
					fmt.Fprintln(out, ref.String())
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&all, "all-tags", "a", false, "Push all tags of an image to the repository")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress verbose output")
	refuse(cmd.Flags(), refused{"disable-content-trust", "true", noTrust})
	return cmd
}

func (a *app) push(cmd *cobra.Command, s *store.Store, ref image.Reference, w io.Writer) error {
	img, err := s.Resolve(ref.String())
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("An image does not exist locally with the tag: %s", ref.FamiliarName())
	}
	if err != nil {
		return err
	}
	ctx, stop := interruptible(cmd)
	defer stop()
	p := registry.NewProgress(w)
	d, err := registry.Push(ctx, s, img, ref, registry.Options{Events: p.Event})
	p.Close()
	if err != nil {
		return err
	}
	if err := s.AddSource(ref, d.Digest); err != nil {
		return err
	}
	fmt.Fprintf(w, "%s: digest: %s size: %d\n", ref.Tag, d.Digest, d.Size)
	return nil
}
