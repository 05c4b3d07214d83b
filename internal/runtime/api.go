package runtime

import (
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Runtime is a folder of containers. Its methods may be called at once from many processes.
type Runtime struct {
	Root  string                  // "/run/vitrun"
	Log   func(level, msg string) // nil: dropped. Levels as logrus has them: "debug", "warning"
	Debug bool                    // warnings of config.json are logged too
}

// Stdio are a process's first three files; nil means this process's own.
type Stdio = *[3]*os.File

// CreateOpts are the options of create and run.
type CreateOpts struct {
	ID     string
	Bundle string      // folder with config.json; relative to the working directory
	Spec   *specs.Spec // in place of Bundle/config.json, normalised and validated by Create

	PidFile       string // gets the init's pid in decimal
	ConsoleSocket string // unix socket that gets the pty's master
	PreserveFDs   int    // files 3…3+n-1 that the container inherits
	NoPivot       bool   // move mount and chroot in place of pivot_root(2)
	NoNewKeyring  bool
	Stdio         Stdio

	// Run only.
	Detach    bool // return once the user's program runs
	Keep      bool // do not delete when it has ended
	Subreaper bool // adopt and reap the container's orphans; reaps every child of this process
}

// ExecOpts are the options of exec.
type ExecOpts struct {
	Process *specs.Process // whole; see Runtime.Process

	PidFile       string
	ConsoleSocket string
	PreserveFDs   int
	Cgroup        string // a cgroup below the container's
	IgnorePaused  bool
	Detach        bool
	Stdio         Stdio
}

// State is what state and list print: the OCI state and runc's additions.
type State struct {
	specs.State
	Rootfs  string
	Created string // RFC 3339, UTC
	Owner   string // user who owns the state folder
}

// Create makes a container whose init waits for Start. Nothing is left of it if that fails.
func (r *Runtime) Create(o CreateOpts) error { return errTodo }

// Start lets the init of a created container execute the user's program, and reports a failure to.
func (r *Runtime) Start(id string) error { return errTodo }

// Run is Create and Start at once, and, unless o.Detach, waits: exit is the program's status or 128 + its signal.
func (r *Runtime) Run(o CreateOpts) (exit int, err error) { return 0, errTodo }

// Process is the process of config.json of container id, for Exec to start from.
func (r *Runtime) Process(id string) (*specs.Process, error) { return nil, errTodo }

// Exec runs a further process in a container. With o.Detach it returns at its execve, with the pid.
func (r *Runtime) Exec(id string, o ExecOpts) (exit, pid int, err error) { return 0, 0, errTodo }

// State is one container's state.
func (r *Runtime) State(id string) (*State, error) { return nil, errTodo }

// List is the state of every container under Root, by name.
func (r *Runtime) List() ([]*State, error) { return nil, errTodo }

// Kill sends a signal to the init, or to every process of the container's cgroup.
func (r *Runtime) Kill(id string, sig int, all bool) error { return errTodo }

// Delete removes a stopped or created container; with force any, and a missing one is no error.
func (r *Runtime) Delete(id string, force bool) error { return errTodo }

// PS lists the container's processes, by pid in this process's pid namespace.
func (r *Runtime) PS(id string) ([]int, error) { return nil, errTodo }

type text string

func (t text) Error() string { return string(t) }

const errTodo = text("not there yet")
