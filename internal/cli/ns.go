package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"vitro/internal/explain"
)

func nsCmd(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "ns [OPTIONS] [PID|INODE|CONTAINER]", Short: "List namespaces, their processes and owners", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s := a.seen()
			q := explain.NamespaceQuery{Containers: s.containers()}
			if len(args) == 1 {
				var err error
				if q.ID, err = nsID(s, args[0]); err != nil {
					return err
				}
			}
			l, err := explain.Namespaces(q)
			if err != nil {
				return err
			}
			return show(cmd, format, l, func(p explain.Page) string { p.Rows = 0; return l.Text(p) })
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

// nsID is a pid or an inode as it stands, and a container's pid.
func nsID(s *sight, ref string) (uint64, error) {
	pid, _, err := s.find(ref)
	if err == nil {
		return uint64(pid), nil
	}
	if n, e := strconv.ParseUint(ref, 10, 64); e == nil && n > 0 {
		return n, nil
	}
	return 0, fmt.Errorf("%w (nor an inode of a namespace)", err)
}
