package runtime

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"vitro/internal/cgroup"
	"vitro/internal/compile"
	"vitro/internal/plan"
	"vitro/internal/spec"
	"vitro/internal/stub"
)

// Process is the process that container id was made with, for Exec to start from.
func (r *Runtime) Process(id string) (*specs.Process, error) {
	c, err := r.openDir(id)
	if err != nil {
		return nil, err
	}
	defer c.close()
	s, err := loadConfig(c.dir)
	if err != nil {
		return nil, err
	}
	return s.Process, nil
}

// Exec runs a further process in a container. With o.Detach it returns at its execve; else exit is its status or 128 + its
// signal. pid is the process's, as this process sees it.
func (r *Runtime) Exec(id string, o ExecOpts) (exit, pid int, err error) {
	if err := checkTerminal(o.Process.Terminal, o.Detach, o.ConsoleSocket); err != nil {
		return 0, 0, err
	}
	if err := spec.ValidateProcess(o.Process); err != nil {
		return 0, 0, err
	}
	c, err := r.openDir(id) // spawn loads it under the lock
	if err != nil {
		return 0, 0, err
	}
	defer c.close()
	var f *forwarder
	if !o.Detach {
		f = forward()
		defer f.stop()
	}
	con := noConsole
	defer con.close()
	l, err := c.spawn(&o, &con)
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			endChild(l)
		} else {
			unix.Close(l.PIDFD)
		}
	}()
	if err := con.receive(); err != nil {
		return 0, 0, err
	}
	if o.PidFile != "" {
		if err := writeFile(o.PidFile, pidText(l.PID), 0o644); err != nil {
			return 0, 0, wrap("--pid-file", err)
		}
	}
	if o.Detach {
		return 0, l.PID, nil
	}
	f.to(l.PIDFD)
	if err := con.serve(l.PIDFD); err != nil {
		return 0, 0, err
	}
	exit, err = wait(l.PID, false)
	con.drain()
	return exit, l.PID, err
}

// spawn starts the process, under a shared lock: a delete waits until the process is in the cgroup, and kills it then.
func (c *container) spawn(o *ExecOpts, con *console) (*stub.Launch, error) {
	if err := c.flock(unix.LOCK_SH); err != nil {
		return nil, err
	}
	c.held = true
	defer c.unlock()
	if err := c.load(); err != nil {
		return nil, err
	}
	pidfd, st, err := c.init.openStat()
	if err != nil {
		return nil, text("cannot exec in a stopped container")
	}
	defer unix.Close(pidfd)
	switch s := c.live(st); {
	case s == specs.StateCreating:
		return nil, text("cannot exec in a stopped container")
	case s == statusPaused && !o.IgnorePaused:
		return nil, text("cannot exec in a paused container (use --ignore-paused to override)")
	}
	group, err := c.subgroup(o.Cgroup)
	if err != nil {
		return nil, err
	}
	extra, err := extraFDs(0, o.PreserveFDs)
	if err != nil {
		return nil, err
	}
	if err := con.open(o.Process.Terminal, o.ConsoleSocket); err != nil {
		return nil, err
	}
	con.initialSize(o.Process)
	in := compile.ExecInput{
		Process: o.Process, PID: c.init.pid, PIDFD: pidfd, ID: c.id, StateDir: c.dir, NoKeyring: c.noKeyring,
		ConsoleFD: con.far, ExtraFDs: extra,
	}
	if in.Seccomp, err = loadFilter(c.dir); err != nil {
		return nil, err
	}
	if err := inGroup(&in, group); err != nil {
		return nil, err
	}
	if err := compile.GatherExec(&in); err == unix.ENOENT || err == unix.ESRCH { // it is ending: callers take "no such file" for a missing command
		return nil, text("cannot exec in a stopped container")
	} else if err != nil {
		return nil, wrap("container "+c.id, err)
	}
	p, err := compile.Exec(&in)
	if err != nil {
		return nil, inInit(err)
	}
	l, err := stub.Run(p, true, stub.Options{Call: noCalls, Fallback: c.dir, Warn: c.r.warn})
	con.closeFar()
	if err != nil {
		err = inInit(c.refusal(err, o.Process.NoNewPrivileges))
	}
	return l, err
}

// inGroup says how the process gets into the cgroup: by the clone on v2, by writes of its pid elsewhere.
func inGroup(in *compile.ExecInput, g *cgroup.Group) error {
	switch {
	case g == nil:
	case !g.Exists():
		return text("the container's cgroup is gone")
	case g.Mode == cgroup.V2:
		in.CgroupDir = g.Paths()[0].Path
	default:
		in.Join = g.Join
	}
	return nil
}

func noCalls(_ *stub.Launch, o *plan.Op) error {
	if o.Name == "state" { // an exec has none
		return nil
	}
	return text("the plan calls " + o.Name + ", which an exec does not have")
}

// subgroup is the cgroup that an exec joins: the container's, or with --cgroup [CONTROLLER[,CONTROLLER]:]PATH one below it.
func (c *container) subgroup(sub string) (*cgroup.Group, error) {
	if len(c.cgroups) == 0 {
		return nil, nil
	}
	if sub == "" {
		return c.group(), nil
	}
	controllers, path, some := strings.Cut(sub, ":")
	if !some {
		controllers, path = "", sub
	}
	for _, part := range strings.Split(path, "/") {
		if part == ".." {
			return nil, text("--cgroup (" + sub + "): bad sub cgroup path")
		}
	}
	paths := append([]cgroup.Path(nil), c.cgroups...)
	found := false
	for i := range paths {
		if some && !shareName(controllers, paths[i].Controller) {
			continue
		}
		found = true
		paths[i].Path = strings.TrimSuffix(paths[i].Path+"/"+strings.Trim(path, "/"), "/")
	}
	if !found {
		return nil, text("--cgroup (" + sub + "): unknown controller " + controllers)
	}
	return cgroup.FromPaths(paths), nil
}

// shareName tells whether two comma-separated lists have a name in common.
func shareName(a, b string) bool {
	for _, x := range strings.Split(a, ",") {
		for _, y := range strings.Split(b, ",") {
			if x == y {
				return true
			}
		}
	}
	return false
}
