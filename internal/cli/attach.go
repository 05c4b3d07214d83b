package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"vitro/internal/engine"
	"vitro/internal/monitor"
)

func attachCmd(a *app) *cobra.Command {
	var noStdin, proxy bool
	var keys string
	cmd := &cobra.Command{
		Use: "attach [OPTIONS] CONTAINER", Short: "Attach local standard input, output, and error streams to a running container", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			detachKeys, err := parseDetachKeys(keys)
			if err != nil {
				return err
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			l, err := e.Find(args[0])
			if err != nil {
				return err
			}
			if l.Status != engine.Running {
				return fmt.Errorf("cannot attach to a stopped container, start it first")
			}
			s := newSession(l.Config.Tty, l.Config.OpenStdin && !noStdin, detachKeys)
			s.catchSignals(proxy && !l.Config.Tty)
			client, err := monitor.Dial(e.AttachPath(l.ID))
			if err != nil {
				return fmt.Errorf("attach: %w", err)
			}
			defer client.Close()
			if err := client.Send(monitor.Request{Stdin: s.input}, os.Stdout, os.Stderr); err != nil {
				return fmt.Errorf("attach: %w", err)
			}
			return s.serve(client)
		},
	}
	cmd.Flags().BoolVar(&noStdin, "no-stdin", false, "Do not attach STDIN")
	cmd.Flags().BoolVar(&proxy, "sig-proxy", true, "Proxy all received signals to the process")
	cmd.Flags().StringVar(&keys, "detach-keys", defaultDetachKeys, "Override the key sequence for detaching a container")
	return cmd
}
