package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"vitro/internal/monitor"
	"vitro/internal/runtime"
)

// ExecOptions are the flags of exec.
type ExecOptions struct {
	Cmd        []string
	Env        []string // as in CreateOptions
	User       string
	WorkingDir string
	Tty        bool
	Privileged bool
	Console    [2]uint // rows, columns
}

// ExecProcess is the process that exec runs in a container: the container's own with other arguments, and with o.Privileged all
// capabilities. The user is looked up through the root folder of the running container.
func (e *Engine) ExecProcess(ref string, o ExecOptions) (*Live, *specs.Process, error) {
	l, err := e.Find(ref)
	if err != nil {
		return nil, nil, err
	}
	if l.Status != Running {
		return nil, nil, fmt.Errorf("container %s is not running", l.ID)
	}
	if l.Paused {
		return nil, nil, fmt.Errorf("container %s is paused, unpause the container before exec", l.ID)
	}
	if o.WorkingDir != "" && !path.IsAbs(o.WorkingDir) {
		return nil, nil, fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path", o.WorkingDir)
	}
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", l.PID), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("root of container %s: %w", shortID(l.ID), err)
	}
	defer unix.Close(root)
	u, home, err := lookupUser(root, pick(o.User, l.Config.User), l.HostConfig.GroupAdd...)
	if err != nil {
		return nil, nil, err
	}
	p, err := e.runtime().Process(l.ID) // with its limits, no_new_privs and AppArmor profile
	if err != nil {
		return nil, nil, fmt.Errorf("container %s: %w", shortID(l.ID), err)
	}
	var caps []string
	if p.Capabilities != nil {
		caps = p.Capabilities.Bounding
	}
	if o.Privileged {
		if caps, err = capabilities([]string{"ALL"}, nil); err != nil {
			return nil, nil, err
		}
		if p.ApparmorProfile != "" {
			p.ApparmorProfile = unconfined
		}
	}
	config := l.Config
	config.Tty = o.Tty
	config.Env = mergeEnv(config.Env, o.Env)
	p.Terminal, p.User, p.Args, p.Env = o.Tty, u, slices.Clone(o.Cmd), processEnv(&config, home)
	p.Cwd, p.Capabilities, p.ConsoleSize = pick(o.WorkingDir, pick(l.Config.WorkingDir, "/")), processCaps(u, caps), nil
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

// ExecDetached starts a process as a child of the container's monitor, which reaps it, or, where that cannot be asked, as
// an orphan. Its files are /dev/null.
func (e *Engine) ExecDetached(id string, p *specs.Process) error {
	request, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if client, err := monitor.Dial(e.AttachPath(id)); err == nil {
		defer client.Close()
		if client.Send(monitor.Request{Exec: request}, nil, nil) == nil {
			m, _, err := client.Next()
			switch {
			case err != nil:
				return err
			case m.Event == monitor.Failed:
				return errors.New(m.Error)
			case m.Event == monitor.Started:
				return nil
			}
		}
	}
	_, err = e.execNull(id, p)
	return err
}

// execNull starts a process with /dev/null for its files.
func (e *Engine) execNull(id string, p *specs.Process) (pid int, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	err = monitor.Lend([3]*os.File{null, null, null}, func() (err error) {
		pid, err = e.Exec(id, runtime.ExecOpts{Process: p})
		return err
	})
	return pid, err
}

// Top lists the processes of a running container.
func (e *Engine) Top(id string) ([]int, error) { return e.runtime().PS(id) }

// CommandLine is the container's command as ps shows it.
func (c *Container) CommandLine() string {
	return strings.Join(append([]string{c.Path}, c.Args...), " ")
}
