package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"vitro/internal/engine"
	"vitro/internal/image"
)

// interruptible ends with the first signal that asks vitro to end, so that what is paused goes on and what is staged goes.
func interruptible(cmd *cobra.Command) (context.Context, func()) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // the next one ends it at once
	return ctx, stop
}

func commitCmd(a *app) *cobra.Command {
	var o engine.CommitOptions
	cmd := &cobra.Command{
		Use: "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]", Short: "Create a new image from a container's changes", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			o.Ref = strings.Join(args[1:], "")
			id, err := e.Commit(ctx, args[0], o)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), id)
			}
			return err
		},
	}
	p := cmd.Flags()
	p.StringVarP(&o.Author, "author", "a", "", "Author (e.g., \"Ada Lovelace <ada@example.org>\")")
	p.StringArrayVarP(&o.Changes, "change", "c", nil, "Apply Dockerfile instruction to the created image")
	p.StringVarP(&o.Message, "message", "m", "", "Commit message")
	p.BoolVarP(&o.Pause, "pause", "p", true, "Pause container during commit")
	return cmd
}

func diffCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "diff CONTAINER", Short: "Inspect changes to files or directories on a container's filesystem", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			list, err := e.Diff(cmd.Context(), args[0])
			for _, c := range list {
				fmt.Fprintf(cmd.OutOrStdout(), "%c /%s\n", c.Kind, c.Path)
			}
			return err
		},
	}
}

func exportCmd(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "export [OPTIONS] CONTAINER", Short: "Export a container's filesystem as a tar archive", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			if _, err := e.Find(args[0]); err != nil {
				return err
			}
			return writeOut(cmd, "export container", output, func(ctx context.Context, w io.Writer) error { return e.Export(ctx, args[0], w) })
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	return cmd
}

// writeOut runs f with a file, which appears when it is complete, or with standard output, if that is no terminal.
func writeOut(cmd *cobra.Command, what, output string, f func(ctx context.Context, w io.Writer) error) (err error) {
	ctx, stop := interruptible(cmd)
	defer stop()
	if output == "" {
		if term.IsTerminal(1) {
			return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
		}
		return f(ctx, os.Stdout)
	}
	wrap := func(err error) error { return fmt.Errorf("failed to %s: %w", what, err) }
	if fi, err := os.Stat(output); err == nil && !fi.Mode().IsRegular() {
		if fi.IsDir() {
			return wrap(fmt.Errorf("invalid output path: %s is a folder", output))
		}
		w, err := os.OpenFile(output, os.O_WRONLY, 0) // a FIFO or a device
		if err != nil {
			return wrap(err)
		}
		return errors.Join(f(ctx, w), w.Close())
	}
	if fi, err := os.Stat(filepath.Dir(output)); err != nil || !fi.IsDir() {
		return wrap(fmt.Errorf("invalid output path: directory %q does not exist", filepath.Dir(output)))
	}
	w, err := os.CreateTemp(filepath.Dir(output), ".vitro-")
	if err != nil {
		return wrap(err)
	}
	defer os.Remove(w.Name()) // fails after the rename
	err = f(ctx, w)
	if e := w.Close(); err == nil && e != nil {
		err = wrap(e)
	}
	if err == nil {
		err = os.Rename(w.Name(), output)
	}
	return err
}

func importCmd(a *app) *cobra.Command {
	var o engine.ImportOptions
	var platform string
	cmd := &cobra.Command{
		Use: "import [OPTIONS] FILE|- [REPOSITORY[:TAG]]", Short: "Import the contents from a tarball to create a filesystem image", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := os.Stdin
			if l := strings.ToLower(args[0]); strings.HasPrefix(l, "http://") || strings.HasPrefix(l, "https://") || strings.HasPrefix(l, "ftp://") {
				return fmt.Errorf("import %s: a URL is not supported: fetch it and import the file", args[0])
			}
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			o.Ref = strings.Join(args[1:], "")
			if platform != "" {
				p, err := image.ParsePlatform(platform)
				if err != nil {
					return err
				}
				o.Platform = &p
			}
			o.Message = pick(o.Message, "Imported from -")
			id, err := e.Import(cmd.Context(), in, o)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), id)
			}
			return err
		},
	}
	cmd.Flags().StringArrayVarP(&o.Changes, "change", "c", nil, "Apply Dockerfile instruction to the created image")
	cmd.Flags().StringVarP(&o.Message, "message", "m", "", "Set commit message for imported image")
	cmd.Flags().StringVar(&platform, "platform", "", "Set platform of the image: OS/ARCH[/VARIANT]")
	return cmd
}
