package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"vitro/internal/engine"
	"vitro/internal/monitor"
)

// createCmd has run's flags but those that are about the time from the start on.
func createCmd(a *app) *cobra.Command {
	f := &runFlags{}
	run := runCmdFor(a, f)
	cmd := &cobra.Command{Use: "create [OPTIONS] IMAGE [COMMAND] [ARG...]", Short: "Create a new container", Args: run.Args}
	cmd.Flags().SetNormalizeFunc(run.Flags().GetNormalizeFunc()) // Docker's other names of flags
	run.Flags().VisitAll(func(flag *pflag.Flag) {
		switch flag.Name {
		case "detach", "sig-proxy", "detach-keys", "plan":
		default:
			cmd.Flags().AddFlag(flag)
		}
	})
	cmd.Flags().SetInterspersed(false)
	cmd.PersistentFlags().Bool("help", false, "Print usage") // -h is the hostname, as in Docker
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.Image, f.Cmd = args[0], args[1:]
		err := a.create(cmd, f)
		if err != nil {
			return &exitError{1, err}
		}
		return nil
	}
	return cmd
}

func (a *app) create(cmd *cobra.Command, f *runFlags) error {
	if err := f.finish(cmd); err != nil {
		return err
	}
	e, err := a.open()
	if err != nil {
		return err
	}
	img, err := a.imageFor(cmd.Context(), e, f)
	if err != nil {
		return err
	}
	c, lock, err := a.createContainer(cmd, e, img, f)
	if err != nil {
		return err
	}
	lock.Close()
	fmt.Fprintln(cmd.OutOrStdout(), c.ID)
	return nil
}

func startCmd(a *app) *cobra.Command {
	var attach, interactive bool
	var keys string
	cmd := &cobra.Command{
		Use: "start [OPTIONS] CONTAINER [CONTAINER...]", Short: "Start one or more stopped containers", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			if attach || interactive {
				if len(args) > 1 {
					return errors.New("you cannot start and attach multiple containers at once")
				}
				detachKeys, err := parseDetachKeys(keys)
				if err != nil {
					return err
				}
				return startAttached(e, args[0], interactive, detachKeys)
			}
			var bad []string
			err = each(cmd, args, func(ref string) error {
				_, client, err := e.StartAgain(ref, engine.StartOptions{})
				if err == nil && client != nil {
					defer client.Close()
					err = engine.Started(client)
				}
				if err != nil {
					bad = append(bad, ref)
				}
				return err
			})
			if err != nil {
				err = fmt.Errorf("%w\nvitro: failed to start containers: %s", err, strings.Join(bad, ", "))
			}
			return err
		},
	}
	p := cmd.Flags()
	p.BoolVarP(&attach, "attach", "a", false, "Attach STDOUT/STDERR and forward signals")
	p.BoolVarP(&interactive, "interactive", "i", false, "Attach container's STDIN")
	p.StringVar(&keys, "detach-keys", defaultDetachKeys, "Override the key sequence for detaching a container")
	refuse(p, refused{"checkpoint", "", "checkpoints are not"}, refused{"checkpoint-dir", "", "checkpoints are not"})
	return cmd
}

// startAttached ends with the container's exit status.
func startAttached(e *engine.Engine, ref string, interactive bool, keys []byte) error {
	l, err := e.Find(ref)
	if err != nil {
		return err
	}
	input := interactive && l.Config.OpenStdin
	if l.Config.Tty && input && !term.IsTerminal(0) {
		return errors.New("the input device is not a TTY")
	}
	s := newSession(l.Config.Tty, input, keys)
	s.catchSignals(!l.Config.Tty)
	_, client, err := e.StartAgain(ref, engine.StartOptions{Stdin: input, Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		return err
	}
	if client == nil { // it runs: attach
		if client, err = monitor.Dial(e.AttachPath(l.ID)); err != nil {
			return fmt.Errorf("attach: %w", err)
		}
		if err := client.Send(monitor.Request{Stdin: input}, os.Stdout, os.Stderr); err != nil {
			client.Close()
			return fmt.Errorf("attach: %w", err)
		}
	}
	defer client.Close()
	return s.serve(client)
}

func restartCmd(a *app) *cobra.Command {
	var timeout int
	var signal string
	cmd := &cobra.Command{
		Use: "restart [OPTIONS] CONTAINER [CONTAINER...]", Short: "Restart one or more containers", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			var t *int
			if cmd.Flags().Changed("timeout") {
				t = &timeout
			}
			return each(cmd, args, func(ref string) error { return e.Restart(cmd.Context(), ref, t, signal) })
		},
	}
	cmd.Flags().IntVarP(&timeout, "timeout", "t", 10, "Seconds to wait before killing the container, -1 for ever (default: the image's, or 10)")
	cmd.Flags().Lookup("timeout").DefValue = "0"
	cmd.Flags().StringVarP(&signal, "signal", "s", "", "Signal to send to the container")
	return cmd
}

func waitCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "wait CONTAINER [CONTAINER...]", Short: "Block until one or more containers stop, then print their exit codes", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			var failed []string
			for _, ref := range args {
				code, err := e.Wait(cmd.Context(), ref)
				if err != nil {
					failed = append(failed, err.Error())
					continue
				}
				fmt.Fprintln(cmd.OutOrStdout(), code)
			}
			if failed != nil {
				return errors.New(strings.Join(failed, "\nvitro: "))
			}
			return nil
		},
	}
}

func renameCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rename CONTAINER NEW_NAME", Short: "Rename a container", Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			if err := e.Rename(args[0], strings.TrimPrefix(args[1], "/")); err != nil {
				return fmt.Errorf("%w\nvitro: failed to rename container named %s", err, args[0])
			}
			return nil
		},
	}
}
