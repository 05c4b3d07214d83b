package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"vitro/internal/engine"
)

func stopCmd(a *app) *cobra.Command {
	var timeout int
	var signal string
	cmd := &cobra.Command{
		Use: "stop [OPTIONS] CONTAINER [CONTAINER...]", Short: "Stop one or more running containers", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			var t *int
			if cmd.Flags().Changed("timeout") {
				t = &timeout
			}
			return each(cmd, args, func(ref string) error { return e.Stop(cmd.Context(), ref, t, signal) })
		},
	}
	cmd.Flags().IntVarP(&timeout, "timeout", "t", 10, "Seconds to wait before killing the container, -1 for ever (default: the image's, or 10)")
	cmd.Flags().Lookup("timeout").DefValue = "0"
	cmd.Flags().StringVarP(&signal, "signal", "s", "", "Signal to send to the container")
	return cmd
}

func killCmd(a *app) *cobra.Command {
	var signal string
	cmd := &cobra.Command{
		Use: "kill [OPTIONS] CONTAINER [CONTAINER...]", Short: "Kill one or more running containers", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			return each(cmd, args, func(ref string) error { return e.Kill(cmd.Context(), ref, signal) })
		},
	}
	cmd.Flags().StringVarP(&signal, "signal", "s", "KILL", "Signal to send to the container")
	return cmd
}

func rmCmd(a *app) *cobra.Command {
	var force, volumes bool
	cmd := &cobra.Command{
		Use: "rm [OPTIONS] CONTAINER [CONTAINER...]", Short: "Remove one or more containers", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			return each(cmd, args, func(ref string) error {
				err := e.Remove(ref, force, volumes)
				if force && errors.Is(err, engine.ErrNotFound) { // Docker says it, and succeeds
					fmt.Fprintln(os.Stderr, "vitro:", err)
					return errTold
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Force the removal of a running container (uses SIGKILL)")
	cmd.Flags().BoolVarP(&volumes, "volumes", "v", false, "Remove anonymous volumes associated with the container")
	refuse(cmd.Flags(), refused{"link", "false", "containers of one network have each other's names"})
	return cmd
}
