package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"vitro/internal/engine"
	"vitro/internal/monitor"
	"vitro/internal/runtime"
)

func execCmd(a *app) *cobra.Command {
	var o engine.ExecOptions
	var env, envFiles []string
	var interactive, detach bool
	var keys string
	cmd := &cobra.Command{
		Use: "exec [OPTIONS] CONTAINER COMMAND [ARG...]", Short: "Execute a command in a running container", Args: needArgs(2),
		RunE: func(_ *cobra.Command, args []string) (err error) {
			o.Cmd = args[1:]
			if o.Env, err = readEnv(envFiles, env); err != nil {
				return err
			}
			if interactive && o.Tty && !detach && !term.IsTerminal(0) {
				return errors.New("the input device is not a TTY")
			}
			detachKeys, err := parseDetachKeys(keys)
			if err != nil {
				return err
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			if cols, rows, err := term.GetSize(1); err == nil {
				o.Console = [2]uint{uint(rows), uint(cols)}
			}
			l, p, err := e.ExecProcess(args[0], o)
			if err != nil {
				return err
			}
			x := &execution{e: e, id: l.ID, p: p, s: newSession(o.Tty, interactive && !detach, detachKeys), detach: detach}
			if err := x.run(); err != nil {
				return execError(err)
			}
			return nil
		},
	}
	p := cmd.Flags()
	p.SetInterspersed(false)
	p.BoolVarP(&detach, "detach", "d", false, "Detached mode: run command in the background")
	p.BoolVarP(&interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
	p.BoolVarP(&o.Tty, "tty", "t", false, "Allocate a pseudo-TTY")
	p.BoolVar(&o.Privileged, "privileged", false, "Give extended privileges to the command")
	p.StringArrayVarP(&env, "env", "e", nil, "Set environment variables")
	p.StringArrayVar(&envFiles, "env-file", nil, "Read in a file of environment variables")
	p.StringVarP(&o.WorkingDir, "workdir", "w", "", "Working directory inside the container")
	p.StringVarP(&o.User, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	p.StringVar(&keys, "detach-keys", defaultDetachKeys, "Override the key sequence for detaching a container")
	return cmd
}

// execError gives a process that could not be started Docker's status.
func execError(err error) error {
	var exit *exitError
	if errors.As(err, &exit) {
		return err
	}
	code := engine.FailureCode(err)
	if code == 125 {
		code = 126
	}
	return &exitError{code, err}
}

// execution is one exec: this process is the parent of the container's new one.
type execution struct {
	e      *engine.Engine
	id     string
	p      *specs.Process
	s      *session
	detach bool
}

func (x *execution) run() error {
	if x.p.Terminal {
		return x.terminal()
	}
	if x.detach {
		return x.e.ExecDetached(x.id, x.p)
	}
	var theirs [3]*os.File
	var input *os.File
	var outputs [3]*os.File
	var err error
	defer func() {
		for _, f := range theirs {
			if f != nil {
				f.Close()
			}
		}
	}()
	for i := range theirs {
		switch {
		case i == 0 && !x.s.input:
			theirs[i], err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
		case i == 0:
			theirs[0], input, err = monitor.Pipe()
		case i == 2 && oneOutput():
			theirs[2] = theirs[1] // and so what is written stays in order
		default:
			outputs[i], theirs[i], err = monitor.Pipe()
		}
		if err != nil {
			return err
		}
	}
	var pid int
	err = monitor.Lend(theirs, func() (err error) {
		pid, err = x.e.Exec(x.id, runtime.ExecOpts{Process: x.p})
		return err
	})
	if err != nil {
		return err
	}
	for i, f := range theirs {
		f.Close()
		theirs[i] = nil
	}
	allProcessors()
	if input != nil {
		go x.s.copyInput(input)
	}
	var copies sync.WaitGroup
	copies.Go(func() { _, _ = io.Copy(os.Stdout, outputs[1]) })
	if outputs[2] != nil {
		copies.Go(func() { _, _ = io.Copy(os.Stderr, outputs[2]) })
	}
	return ended(pid, copies.Wait)
}

// oneOutput tells whether standard output and error are the same open file, or the same pipe or terminal.
func oneOutput() bool {
	out, err1 := os.Stdout.Stat()
	errs, err2 := os.Stderr.Stat()
	return err1 == nil && err2 == nil && os.SameFile(out, errs)
}

// ended reaps the process, waits for its output, and makes the exit status an error.
func ended(pid int, rest func()) error {
	var st syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &st, 0, nil)
		if err == nil {
			break
		}
		if err != syscall.EINTR {
			return fmt.Errorf("wait for the process: %w", err)
		}
	}
	rest()
	code := st.ExitStatus()
	if st.Signaled() {
		code = 128 + int(st.Signal())
	}
	if code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// terminal runs the process on a new terminal and passes bytes both ways.
func (x *execution) terminal() error {
	dir, err := os.MkdirTemp(x.e.RunRoot, "exec-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "console.sock")
	var pid int
	master, err := monitor.Terminal(path, func() (err error) {
		pid, err = x.e.Exec(x.id, runtime.ExecOpts{Process: x.p, ConsoleSocket: path})
		return err
	})
	if err != nil || x.detach {
		return err
	}
	restore, err := x.s.rawMode()
	if err != nil {
		return err
	}
	defer restore()
	x.s.resize(master)
	x.s.catchSignals(false)
	allProcessors()
	if x.s.input {
		go x.s.copyInput(master)
	}
	end := make(chan error, 1)
	copied := make(chan struct{})
	go func() { _, _ = io.Copy(os.Stdout, master); close(copied) }()
	go func() { end <- ended(pid, func() { <-copied }) }()
	for {
		select {
		case err := <-end:
			return err
		case <-x.s.detached:
			return nil
		case <-x.s.signals:
			x.s.resize(master)
		}
	}
}
