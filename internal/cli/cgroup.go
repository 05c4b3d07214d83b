package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"vitro/internal/explain"
)

func cgroupCmd(a *app) *cobra.Command {
	var format, since, save string
	cmd := &cobra.Command{
		Use: "cgroup [OPTIONS]", Short: "List control groups, or what has come and gone since a snapshot", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := explain.Groups(a.seen().containers())
			if err != nil {
				return err
			}
			var old *explain.Snapshot
			if since != "" {
				b, err := os.ReadFile(since)
				if err == nil {
					old, err = explain.ParseSnapshot(b)
				}
				if err != nil {
					return fmt.Errorf("--since: %w", err)
				}
			}
			if save != "" {
				if err := saveSnapshot(save, s); err != nil {
					return fmt.Errorf("--save: %w", err)
				}
			}
			switch {
			case old != nil:
				changes := s.Since(old)
				return show(cmd, format, changes, func(p explain.Page) string { return explain.ChangesText(changes, p) })
			case save != "":
				return nil
			}
			return show(cmd, format, s, s.Text)
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "Show what was added and removed since the snapshot in FILE (of --save or --format json)")
	cmd.Flags().StringVar(&save, "save", "", "Write a snapshot to FILE")
	formatFlag(cmd, &format)
	return cmd
}

// saveSnapshot replaces the file as a whole.
func saveSnapshot(path string, s *explain.Snapshot) error {
	b, err := explain.JSON(s)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
