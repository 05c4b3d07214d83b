package main

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"vitro/internal/runtime"
	"vitro/internal/spec"
	"vitro/internal/sys"
)

// failed puts the envelope around an error that callers expect (CASES §5).
func failed(what string, code int, err error) error {
	return &exitError{usageError(what + " failed: " + err.Error()), code}
}

func (a *app) createOpts(id string) runtime.CreateOpts {
	return runtime.CreateOpts{
		ID: id, Bundle: a.bundle, PidFile: a.pidFile, ConsoleSocket: a.consoleSocket, PreserveFDs: a.preserveFDs,
		NoPivot: a.noPivot, NoNewKeyring: a.noNewKeyring, Detach: a.detach, Keep: a.keep, Subreaper: !a.noSubreaper,
	}
}

func (a *app) create(args []string) (int, error) {
	if err := a.runtime().Create(a.createOpts(args[0])); err != nil {
		return 1, failed("vitrun create", 1, err)
	}
	return 0, nil
}

func (a *app) runCommand(args []string) (int, error) {
	code, err := a.runtime().Run(a.createOpts(args[0]))
	if err != nil {
		return 1, failed("vitrun run", 1, err)
	}
	return code, nil
}

func (a *app) start(args []string) (int, error) { return 0, a.runtime().Start(args[0]) }

func (a *app) pause(args []string) (int, error) { return 0, a.runtime().Pause(args[0]) }

func (a *app) resume(args []string) (int, error) { return 0, a.runtime().Resume(args[0]) }

func (a *app) delete(args []string) (int, error) { return 0, a.runtime().Delete(args[0], a.force) }

func (a *app) kill(args []string) (int, error) {
	name := "SIGTERM"
	if len(args) == 2 {
		name = args[1]
	}
	r := a.runtime()
	n, ok := spec.SignalNumber(name)
	if !ok {
		if _, err := r.State(args[0]); err != nil { // first, as in runc
			return 1, err
		}
		return 1, usageError(`unknown signal "` + name + `"`)
	}
	return 0, r.Kill(args[0], n, a.all)
}

const execFailure = 255

func (a *app) exec(args []string) (int, error) {
	r := a.runtime()
	p, err := a.execProcess(r, args)
	if err != nil {
		return execFailure, failed("exec", execFailure, err)
	}
	code, _, err := r.Exec(args[0], runtime.ExecOpts{
		Process: p, PidFile: a.pidFile, ConsoleSocket: a.consoleSocket, PreserveFDs: a.preserveFDs, Cgroup: a.cgroup,
		IgnorePaused: a.ignorePaused, Detach: a.detach,
	})
	if err != nil {
		return execFailure, failed("exec", execFailure, err)
	}
	return code, nil
}

// execProcess is --process, or the container's process with what the flags say.
func (a *app) execProcess(r *runtime.Runtime, args []string) (*specs.Process, error) {
	if a.process != "" {
		if len(args) > 1 {
			return nil, usageError("--process and a command exclude each other")
		}
		if _, err := r.State(args[0]); err != nil {
			return nil, err
		}
		b, err := sys.ReadFile(a.process)
		if err != nil {
			return nil, usageError("open " + a.process + ": " + err.Error())
		}
		p, _, err := spec.DecodeProcess(b)
		if err != nil {
			return nil, usageError(a.process + ": " + err.Error())
		}
		return p, nil
	}
	p, err := r.Process(args[0])
	if err != nil {
		return nil, err
	}
	p.Args = args[1:]
	if len(p.Args) == 0 {
		return nil, usageError("exec args cannot be empty")
	}
	p.Env = append(p.Env, a.env...)
	p.Terminal = a.tty
	p.NoNewPrivileges = p.NoNewPrivileges || a.noNewPrivs
	if a.appArmor != "" {
		p.ApparmorProfile = a.appArmor
	}
	p.User.AdditionalGids = append(p.User.AdditionalGids, a.gids...)
	if a.cwd != "" {
		p.Cwd = a.cwd
	}
	if len(a.caps) > 0 {
		if p.Capabilities == nil {
			p.Capabilities = new(specs.LinuxCapabilities)
		}
		for _, set := range []*[]string{&p.Capabilities.Bounding, &p.Capabilities.Effective, &p.Capabilities.Permitted} {
			*set = append(*set, a.caps...)
		}
	}
	return p, a.setUser(p)
}

// setUser is --user: numbers, as names are the engine's to look up.
func (a *app) setUser(p *specs.Process) error {
	if a.user == "" {
		return nil
	}
	uid, gid, both := strings.Cut(a.user, ":")
	n, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return usageError("--user: parsing " + uid + " as int for uid failed")
	}
	p.User.UID = uint32(n)
	if !both {
		return nil
	}
	if n, err = strconv.ParseUint(gid, 10, 32); err != nil {
		return usageError("--user: parsing " + gid + " as int for gid failed")
	}
	p.User.GID = uint32(n)
	return nil
}

func (a *app) spec([]string) (int, error) {
	path := filepath.Join(a.bundle, "config.json")
	s := spec.Example()
	if a.rootlessSpec {
		s = spec.ExampleRootless(uint32(geteuid()), uint32(getegid()))
	}
	return 0, writeNew(path, spec.EncodeIndent(s))
}

func (a *app) plan(args []string) (int, error) {
	bundle := a.bundle
	if len(args) == 1 {
		bundle = args[0]
	}
	p, err := a.runtime().Plan(runtime.CreateOpts{Bundle: bundle, NoPivot: a.noPivot})
	if err != nil {
		return 1, err
	}
	switch a.format {
	case "", "text":
		return 0, p.Render(stdout{})
	case "json":
		return 0, p.RenderJSON(stdout{})
	}
	return 1, errFormat
}
