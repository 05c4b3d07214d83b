package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"vitro/internal/engine"
)

// app is what the verbs share.
type app struct {
	version       string
	root, runRoot string
}

func (a *app) open() (*engine.Engine, error) { return engine.Open(a.root, a.runRoot) }

// exitError ends vitro with a status; a nil error prints nothing.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprint("exit status ", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// Main runs the command line and returns the exit status.
func Main(ctx context.Context, version string, args []string) int {
	cmd := newRoot(&app{version: version}, args)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code := 1
	var exit *exitError
	if errors.As(err, &exit) {
		code, err = exit.code, exit.err
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vitro:", err)
	}
	return code
}

func newRoot(a *app, args []string) *cobra.Command {
	root := &cobra.Command{
		Use: "vitro COMMAND", Short: "Run containers, and see what they are made of", Version: a.version,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("'%s' is not a vitro command.\nSee 'vitro --help'", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetVersionTemplate("Vitro version {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitError{125, fmt.Errorf("%w\nSee '%s --help'", err, cmd.CommandPath())}
	})
	p := root.PersistentFlags()
	p.StringVar(&a.root, "root", defaultRoot(), "folder of images and containers (VITRO_ROOT)")
	p.StringVar(&a.runRoot, "run-root", "", "folder of what dies with the machine (default /run/vitro, or ROOT/run with --root)")
	root.PersistentPreRun = func(*cobra.Command, []string) {
		switch {
		case a.runRoot != "":
		case a.root == engine.DefaultRoot:
			a.runRoot = engine.DefaultRunRoot
		default:
			a.runRoot = a.root + "/run"
		}
	}
	addVerbs(root, a, args)
	return root
}

// verbs are the commands by name.
var verbs = map[string]func(*app) *cobra.Command{
	"attach": attachCmd, "caps": capsCmd, "cgroup": cgroupCmd, "commit": commitCmd, "container": containerCmd, "cp": cpCmd, "create": createCmd, "diff": diffCmd,
	"exec": execCmd, "explain": explainCmd, "export": exportCmd, "history": historyCmd, "image": imageCmd, "images": imagesCmd,
	"import": importCmd, "inspect": inspectCmd, "kill": killCmd, "load": loadCmd, "logs": logsCmd, "network": networkCmd, "ns": nsCmd,
	"pause": pauseCmd, "port": portCmd, "ps": psCmd, "pull": pullCmd, "push": pushCmd, "rename": renameCmd, "restart": restartCmd,
	"rm": rmCmd, "rmi": rmiCmd, "run": runCmd, "save": saveCmd, "start": startCmd, "stats": statsCmd, "stop": stopCmd, "tag": tagCmd,
	"trace": traceCmd, "unpause": unpauseCmd, "update": updateCmd, "version": versionCmd, "volume": volumeCmd, "wait": waitCmd,
}

// addVerbs adds the command that args name: to make them all costs a tenth of a short command's time. Where none is named, all are added.
func addVerbs(root *cobra.Command, a *app, args []string) {
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--root" || args[i] == "--run-root":
			i++
		case strings.HasPrefix(args[i], "-"):
		case verbs[args[i]] != nil:
			root.AddCommand(verbs[args[i]](a))
			return
		default:
			i = len(args)
		}
	}
	for _, verb := range verbs {
		root.AddCommand(verb(a))
	}
}

func defaultRoot() string {
	if r := os.Getenv("VITRO_ROOT"); r != "" {
		return r
	}
	return engine.DefaultRoot
}

func versionCmd(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "version [OPTIONS]", Short: "Show the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := cmd.OutOrStdout()
			goVersion, _, _ := strings.Cut(runtime.Version(), "-X:") // the experiments it was built with
			v := versionOf{Version: a.version, GoVersion: goVersion, Os: runtime.GOOS, Arch: runtime.GOARCH}
			if format != "" { // there is no server: what asks for its version means this program
				return printInspect(cmd, []any{struct{ Client, Server versionOf }{v, v}}, format)
			}
			fmt.Fprintf(w, "Vitro\n Version:    %s\n Go version: %s\n OS/Arch:    %s/%s\n", v.Version, v.GoVersion, v.Os, v.Arch)
			return nil
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Format output using a Go template, or 'json'")
	return cmd
}

// versionOf has the fields of docker version --format.
type versionOf struct{ Version, GoVersion, Os, Arch string }

// allProcessors is for what moves many bytes, or bytes both ways: package boot starts the process with one.
func allProcessors() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.NumCPU())
	}
}

// needArgs is cobra.MinimumNArgs with Docker's words.
func needArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		s := "s"
		if n == 1 {
			s = ""
		}
		return fmt.Errorf("%q requires at least %d argument%s.\nSee '%s --help'.\n\nUsage:  %s\n\n%s", cmd.CommandPath(), n, s, cmd.CommandPath(), cmd.UseLine(), cmd.Short)
	}
}

// errTold is a failure that has been told already.
var errTold = errors.New("told")

// each runs f for all of refs and prints those that went well; one failure does not stop the others.
func each(cmd *cobra.Command, refs []string, f func(ref string) error) error {
	var failed []string
	for _, r := range refs {
		err := f(r)
		if err == errTold {
			continue
		}
		if err != nil {
			failed = append(failed, err.Error())
			continue
		}
		fmt.Fprintln(cmd.OutOrStdout(), r)
	}
	if len(failed) > 0 {
		return errors.New(strings.Join(failed, "\nvitro: "))
	}
	return nil
}
