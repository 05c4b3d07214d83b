package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"vitro/internal/explain"
)

func capsCmd(a *app) *cobra.Command {
	var format string
	var all bool
	cmd := &cobra.Command{
		Use: "caps [OPTIONS]", Short: "List the capabilities of the processes of containers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, unread, err := explain.CapsOf(a.seen().containers(), all)
			if err != nil {
				return err
			}
			if unread > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "vitro: warning: %d threads were not read: they may have other capabilities than their process\n", unread)
			}
			return show(cmd, format, list, func(p explain.Page) string { p.Rows = 0; return explain.CapsText(list, p) })
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Every process of the machine that has a capability")
	formatFlag(cmd, &format)
	return cmd
}
