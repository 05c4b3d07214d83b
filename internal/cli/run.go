package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"vitro/internal/engine"
	"vitro/internal/image"
	"vitro/internal/monitor"
	"vitro/internal/store"
)

// runFlags are run's flags as given.
type runFlags struct {
	engine.CreateOptions
	entrypoint, pull, detachKeys string
	env, envFiles                []string
	plan, sigProxy               bool
	net                          netFlags
	host                         hostFlags
}

func runCmd(a *app) *cobra.Command { return runCmdFor(a, &runFlags{}) }

func runCmdFor(a *app, f *runFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "run [OPTIONS] IMAGE [COMMAND] [ARG...]", Short: "Create and run a new container from an image",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := needArgs(1)(cmd, args); err != nil {
				return &exitError{125, err}
			}
			return nil
		},
	}
	p := cmd.Flags()
	p.SetInterspersed(false)
	p.BoolVarP(&f.Detach, "detach", "d", false, "Run container in background and print container ID")
	p.BoolVarP(&f.Interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
	p.BoolVarP(&f.Tty, "tty", "t", false, "Allocate a pseudo-TTY")
	p.BoolVar(&f.AutoRemove, "rm", false, "Automatically remove the container when it exits")
	p.StringVar(&f.Name, "name", "", "Assign a name to the container")
	p.StringArrayVarP(&f.env, "env", "e", nil, "Set environment variables")
	p.StringArrayVar(&f.envFiles, "env-file", nil, "Read in a file of environment variables")
	p.StringVarP(&f.WorkingDir, "workdir", "w", "", "Working directory inside the container")
	p.StringVarP(&f.User, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	p.StringArrayVarP(&f.HostConfig.Binds, "volume", "v", nil, "Mount a volume or a folder or file of the host: [SRC:]DST[:MODE]")
	f.mountFlags(p)
	f.addHostFlags(p)
	f.addNetFlags(cmd)
	p.BoolVar(&f.HostConfig.ReadonlyRootfs, "read-only", false, "Mount the container's root filesystem as read only")
	p.StringVar(&f.entrypoint, "entrypoint", "", "Overwrite the default ENTRYPOINT of the image")
	p.StringVar(&f.pull, "pull", "missing", "Pull image before running (always, missing, never)")
	p.BoolVar(&f.sigProxy, "sig-proxy", true, "Proxy received signals to the process")
	p.StringVar(&f.detachKeys, "detach-keys", defaultDetachKeys, "Override the key sequence for detaching a container")
	p.BoolVar(&f.plan, "plan", false, "Print the program of system calls that would start the container")
	cmd.PersistentFlags().Bool("help", false, "Print usage") // -h is the hostname, as in Docker
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.Image, f.Cmd = args[0], args[1:]
		if err := a.run(cmd, f); err != nil {
			var exit *exitError
			if errors.As(err, &exit) {
				return err
			}
			return &exitError{125, err}
		}
		return nil
	}
	return cmd
}

// warnPlatform tells of an image for another machine, which only binfmt_misc can run; the words are Docker's.
func warnPlatform(w io.Writer, img store.Image) {
	host, have := image.HostPlatform(), img.Config.Platform
	if have.Architecture != "" && !image.Matches(host, have) {
		fmt.Fprintf(w, "WARNING: The requested image's platform (%s) does not match the detected host platform (%s) and no specific platform was requested\n",
			image.FormatPlatform(have), image.FormatPlatform(host))
	}
}

func (a *app) run(cmd *cobra.Command, f *runFlags) error {
	if err := f.finish(cmd); err != nil {
		return err
	}
	keys, err := parseDetachKeys(f.detachKeys)
	if err != nil {
		return err
	}
	if f.Tty && f.Interactive && !f.Detach && f.attaches("stdin") && !term.IsTerminal(0) {
		return &exitError{1, errors.New("the input device is not a TTY")}
	}
	e, err := a.open()
	if err != nil {
		return err
	}
	img, err := a.imageFor(cmd.Context(), e, f)
	if err != nil {
		return err
	}
	if f.plan {
		return printPlan(cmd, e, img, f.CreateOptions)
	}
	if cols, rows, err := term.GetSize(1); f.Tty && err == nil {
		f.HostConfig.ConsoleSize = [2]uint{uint(rows), uint(cols)}
	}
	c, lock, err := a.createContainer(cmd, e, img, f)
	if err != nil {
		return err
	}
	var o engine.StartOptions
	if !f.Detach {
		o = engine.StartOptions{Stdin: f.Interactive && f.attaches("stdin"), Stdout: os.Stdout, Stderr: os.Stderr}
		if o.Stdout, o.Stderr, err = f.streams(); err != nil {
			return err
		}
		o.Here = f.AutoRemove && f.sigProxy && !f.Tty // nothing that it could be detached by
	}
	s := newSession(f.Tty, f.Interactive && f.attaches("stdin"), keys)
	if !f.Detach {
		s.catchSignals(f.sigProxy && !f.Tty)
	}
	client, err := e.Start(img, c, lock, o)
	if err != nil {
		return err
	}
	defer client.Close()
	if f.Detach {
		if err := detached(cmd, client, c); err != nil {
			return err
		}
		openPorts(os.Stderr, e, c, "\n")
		return nil
	}
	s.started = func() {
		eol := "\n"
		if f.Tty && f.Interactive {
			eol = "\r\n"
		}
		openPorts(os.Stderr, e, c, eol)
	}
	return s.serve(client)
}

// createContainer makes it and notes its ID where --cidfile says.
func (a *app) createContainer(cmd *cobra.Command, e *engine.Engine, img store.Image, f *runFlags) (*engine.Container, *os.File, error) {
	c, lock, err := e.Create(img, f.CreateOptions)
	if err != nil {
		return nil, nil, err
	}
	if f.host.platform == "" {
		warnPlatform(cmd.ErrOrStderr(), img)
	}
	if err := writeCidFile(f.host.cidFile, c.ID); err != nil {
		lock.Close()
		return nil, nil, errors.Join(err, e.Remove(c.ID, true, true))
	}
	return c, lock, nil
}

// streams are those that the container writes to: what is not attached goes nowhere but into its log.
func (f *runFlags) streams() (stdout, stderr *os.File, err error) {
	stdout, stderr = os.Stdout, os.Stderr
	if f.attaches("stdout") && f.attaches("stderr") {
		return stdout, stderr, nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if !f.attaches("stdout") {
		stdout = null
	}
	if !f.attaches("stderr") {
		stderr = null
	}
	return stdout, stderr, err
}

// detached waits for the start only.
func detached(cmd *cobra.Command, client *monitor.Client, c *engine.Container) error {
	m, _, err := client.Next()
	if err != nil {
		return err
	}
	if m.Event == monitor.Failed {
		return &exitError{m.Code, errors.New(m.Error)}
	}
	fmt.Fprintln(cmd.OutOrStdout(), c.ID)
	return nil
}

// finish decodes the flags that need it.
func (f *runFlags) finish(cmd *cobra.Command) (err error) {
	if cmd.Flags().Changed("entrypoint") {
		f.Entrypoint = &f.entrypoint
	}
	if f.Env, err = readEnv(f.envFiles, f.env); err != nil {
		return err
	}
	if err := f.finishHost(cmd); err != nil {
		return err
	}
	return f.finishNetwork()
}

// bytesValue is a flag of bytes, with a unit or without.
type bytesValue struct {
	n         *int64
	unlimited bool // -1 is allowed, too
}

func (v *bytesValue) Set(s string) (err error) {
	if v.unlimited && s == "-1" {
		*v.n = -1
		return nil
	}
	*v.n, err = units.RAMInBytes(s)
	return err
}

func (v *bytesValue) Type() string { return "bytes" }

func (v *bytesValue) String() string {
	if *v.n == 0 {
		return ""
	}
	return units.BytesSize(float64(*v.n))
}

// cpusValue is a flag of CPUs, kept as 1e-9 CPUs.
type cpusValue int64

func (v *cpusValue) Set(s string) error {
	r, ok := new(big.Rat), !strings.ContainsAny(s, "eEpP") // an exponent may be too large to be worked out
	if ok {
		r, ok = r.SetString(s)
	}
	if !ok {
		return fmt.Errorf("failed to parse %s as a rational number", s)
	}
	if r.Mul(r, big.NewRat(1e9, 1)); !r.IsInt() || !r.Num().IsInt64() {
		return errors.New("value is too precise")
	}
	*v = cpusValue(r.Num().Int64())
	return nil
}

func (v *cpusValue) Type() string { return "decimal" }

func (v *cpusValue) String() string {
	if *v == 0 {
		return ""
	}
	return big.NewRat(int64(*v), 1e9).FloatString(3)
}

// readEnv reads the files, then the flags; a bare NAME takes the caller's value, or takes the image's away.
func readEnv(files, flags []string) (out []string, err error) {
	for _, name := range files {
		lines, err := readEnvFile(name)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	out = append(out, flags...)
	for i, kv := range out {
		name, _, set := strings.Cut(kv, "=")
		if name == "" {
			return nil, fmt.Errorf("invalid environment variable: %s", kv)
		}
		if v, ok := os.LookupEnv(name); ok && !set {
			out[i] = name + "=" + v
		}
	}
	return out, nil
}

func readEnvFile(name string) (out []string, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	sc := bufio.NewScanner(file)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimLeft(sc.Text(), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, set := strings.Cut(line, "=")
		if key == "" || strings.ContainsAny(key, " \t") {
			return nil, fmt.Errorf("invalid env file (%s): line %d: variable '%s' contains whitespaces or has no name", name, n, key)
		}
		if _, there := os.LookupEnv(key); set || there {
			out = append(out, line)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("invalid env file (%s): %w", name, err)
	}
	return out, nil
}

func printPlan(cmd *cobra.Command, e *engine.Engine, img store.Image, o engine.CreateOptions) error {
	o.Name, o.AutoRemove = "", true
	p, err := e.Plan(img, o)
	if err != nil {
		return err
	}
	return p.Render(cmd.OutOrStdout())
}
