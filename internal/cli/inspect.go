package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"vitro/internal/engine"
	"vitro/internal/store"
)

func inspectCmd(a *app) *cobra.Command { return inspectOf(a, "") }

// inspectOf is inspect for objects of one kind, or with --type.
func inspectOf(a *app, kind string) *cobra.Command {
	var format string
	var size bool
	cmd := &cobra.Command{
		Use: "inspect [OPTIONS] NAME|ID [NAME|ID...]", Short: "Return low-level information on containers, images, networks and volumes", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "container", "image", "network", "volume"}, kind) {
				return fmt.Errorf("%q is not a valid value for --type", kind)
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			found, failed := []any{}, error(nil)
			for _, ref := range args {
				v, err := inspect(cmd.Context(), e, ref, kind, size)
				if err != nil {
					failed = err
					break
				}
				if _, ok := v.(engine.Inspect); size && !ok {
					fmt.Fprintf(cmd.ErrOrStderr(), "vitro: warning: --size is ignored for %s: it is no container\n", ref)
				}
				found = append(found, v)
			}
			return errors.Join(printInspect(cmd, found, format), failed)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Format output using a Go template, or 'json'")
	if kind == "" {
		cmd.Flags().StringVar(&kind, "type", "", "Only inspect objects of the given type: container, image, network or volume")
	}
	if kind == "" || kind == "container" {
		cmd.Flags().BoolVarP(&size, "size", "s", false, "Display total file sizes if the type is container")
	}
	return cmd
}

func inspect(ctx context.Context, e *engine.Engine, ref, kind string, size bool) (any, error) {
	if kind == "" || kind == "container" {
		l, err := e.Find(ref)
		if err == nil {
			in := e.Inspect(l)
			if size {
				rw, root := e.Sizes(l.Container)
				in.SizeRw, in.SizeRootFs = &rw, &root
			}
			return in, nil
		}
		if kind == "container" || !errors.Is(err, engine.ErrNotFound) {
			return nil, err
		}
	}
	img, err := e.Store.Resolve(ref)
	if err == nil && (kind == "" || kind == "image") {
		return e.InspectImage(img), nil
	}
	if kind == "" || kind == "network" {
		m, err := e.Networks()
		if err != nil {
			return nil, err
		}
		if v, err := inspectNetwork(ctx, m, ref); err == nil || kind == "network" {
			return v, err
		}
	}
	if kind == "" || kind == "volume" {
		if v, err := e.Volume(ref); err == nil || kind == "volume" {
			return v, err
		}
	}
	if kind == "" && errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("no such object: %s", ref)
	}
	return nil, err
}

func printInspect(cmd *cobra.Command, found []any, format string) error {
	w := cmd.OutOrStdout()
	if format == "" {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "    ")
		return enc.Encode(found)
	}
	if format == "json" {
		format = "{{json .}}"
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	for _, v := range found {
		b, err := executeTyped(t, v)
		if err != nil {
			return err
		}
		fmt.Fprintln(w, b)
	}
	return nil
}

// executeTyped has the fields' names in Go and, as Docker, in JSON (.HostConfig.Dns).
func executeTyped(t *template.Template, v any) (string, error) {
	var b strings.Builder
	failed := t.Execute(&b, v)
	if failed == nil {
		return b.String(), nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	var m any
	if err := json.Unmarshal(raw, &m); err != nil {
		return "", err
	}
	b.Reset()
	if t.Option("missingkey=error").Execute(&b, m) != nil {
		return "", failed
	}
	return b.String(), nil
}
