package engine

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"vitro/internal/runtime"
)

// ExecOptions are the flags of exec.
type ExecOptions struct {
	Cmd        []string
	Env        []string // as in CreateOptions
	User       string
	WorkingDir string
	Tty        bool
	Console    [2]uint // rows, columns
}

// ExecProcess is the process that exec runs in a container: the container's own with other arguments. The user is looked
// up through the root folder of the running container.
func (e *Engine) ExecProcess(ref string, o ExecOptions) (*Live, *specs.Process, error) {
	l, err := e.Find(ref)
	if err != nil {
		return nil, nil, err
	}
	if l.Status != Running {
		return nil, nil, fmt.Errorf("container %s is not running", l.ID)
	}
	if o.WorkingDir != "" && !path.IsAbs(o.WorkingDir) {
		return nil, nil, fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path", o.WorkingDir)
	}
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", l.PID), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("root of container %s: %w", shortID(l.ID), err)
	}
	defer unix.Close(root)
	u, home, err := lookupUser(root, pick(o.User, l.Config.User))
	if err != nil {
		return nil, nil, err
	}
	caps, err := capabilities(l.HostConfig.CapAdd, l.HostConfig.CapDrop)
	if err != nil {
		return nil, nil, err
	}
	config := l.Config
	config.Tty = o.Tty
	config.Env = mergeEnv(config.Env, o.Env)
	p := &specs.Process{
		Terminal: o.Tty, User: u, Args: slices.Clone(o.Cmd), Env: processEnv(&config, home),
		Cwd: pick(o.WorkingDir, pick(l.Config.WorkingDir, "/")), Capabilities: processCaps(u, caps),
	}
	if o.Tty && o.Console[0] != 0 {
		p.ConsoleSize = &specs.Box{Height: o.Console[0], Width: o.Console[1]}
	}
	return l, p, nil
}

// Exec starts a process in a running container, as a child of this one, and returns its pid.
func (e *Engine) Exec(id string, o runtime.ExecOpts) (pid int, err error) {
	o.Detach = true
	_, pid, err = e.runtime().Exec(id, o)
	return pid, err
}

// Top lists the processes of a running container.
func (e *Engine) Top(id string) ([]int, error) { return e.runtime().PS(id) }

// CommandLine is the container's command as ps shows it.
func (c *Container) CommandLine() string {
	return strings.Join(append([]string{c.Path}, c.Args...), " ")
}
