package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var runtimes = []string{"vitrun", "crun", "runc"}

// emptyGo is the least that a Go program costs.
const emptyGo = "empty Go"

func (b *bench) startup(ctx context.Context, t *table) error {
	src := filepath.Join(b.dir, "empty.go")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		return err
	}
	empty := filepath.Join(b.dir, "empty")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", empty, src)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	cs := []competitor{{name: emptyGo, cmds: func(int) [][]string { return [][]string{{empty}} }}}
	missing := eachRuntime(func(name, path string) {
		cs = append(cs, competitor{name: name, cmds: func(int) [][]string { return [][]string{{path, "--version"}} }})
	})
	t.fill(b.race(ctx, cs), missing)
	return nil
}

// eachRuntime calls f for those that are there, and gives a result with an error for each of the others.
func eachRuntime(f func(name, path string)) (missing []result) {
	for _, name := range runtimes {
		path, err := find(name)
		if err != nil {
			missing = append(missing, result{name: name, err: err})
			continue
		}
		f(name, path)
	}
	return missing
}

func (t *table) fill(results, missing []result) {
	*t = newTable(t.Part, t.Title, append(results, missing...))
}

// bundle writes what `vitrun spec` or `runc spec` gives, without a terminal, for the shared root filesystem.
func (b *bench) bundle(ctx context.Context, name string, args []string, withSeccomp bool) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	spec, err := b.defaultSpec(ctx, dir)
	if err != nil {
		return "", err
	}
	spec.Process.Terminal, spec.Process.Args, spec.Root.Path = false, args, b.rootfs
	if withSeccomp {
		if spec.Linux.Seccomp, err = seccomp.GetDefaultProfile(spec); err != nil {
			return "", err
		}
	}
	out, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "config.json"), out, 0o644)
}

func (b *bench) defaultSpec(ctx context.Context, dir string) (*specs.Spec, error) {
	// runc first: all have to run the peer's idea of a default.
	for _, name := range []string{"runc", "crun", "vitrun"} {
		path, err := find(name)
		if err != nil {
			continue
		}
		cmd := b.command(ctx, []string{path, "spec"})
		cmd.Dir = dir
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("%s spec: %w", name, err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "config.json"))
		if err != nil {
			return nil, err
		}
		spec := &specs.Spec{}
		return spec, json.Unmarshal(text, spec)
	}
	return nil, errors.New("none of runc, crun and vitrun is installed to write the default config.json")
}

// call is `RUNTIME --root … VERB …`.
func (b *bench) call(name, path string, args ...string) []string {
	return append([]string{path, "--root", filepath.Join(b.dir, "state-"+name)}, args...)
}

func (b *bench) containerID(name string, i int) string {
	return b.id + "-" + name + "-" + strconv.Itoa(i)
}

func (b *bench) runPlain(ctx context.Context, t *table) error { return b.runParts(ctx, t, false) }

func (b *bench) runSeccomp(ctx context.Context, t *table) error { return b.runParts(ctx, t, true) }

func (b *bench) runParts(ctx context.Context, t *table, withSeccomp bool) error {
	dir, err := b.bundle(ctx, t.Part, []string{"/bin/true"}, withSeccomp)
	if err != nil {
		return err
	}
	var cs []competitor
	missing := eachRuntime(func(name, path string) {
		cs = append(cs, competitor{name: name, cmds: func(i int) [][]string {
			return [][]string{b.call(name, path, "run", "--bundle", dir, b.containerID(name, i))}
		}})
		// Only a run that was interrupted leaves something; the state folder is the run's own.
		b.undo = append(b.undo, func() { b.deleteAll(name, path) })
	})
	if !withSeccomp {
		floor, err := b.buildFloor(ctx)
		if err != nil {
			missing = append(missing, result{name: "floor", err: err})
		} else {
			cs = append(cs, competitor{name: "floor", cmds: func(i int) [][]string {
				return [][]string{{floor, b.rootfs, b.containerID("floor", i)}}
			}})
		}
	}
	t.fill(b.race(ctx, cs), missing)
	return nil
}

func (b *bench) buildFloor(ctx context.Context) (string, error) {
	gcc, err := find("gcc")
	if err != nil {
		return "", fmt.Errorf("gcc: %w", err)
	}
	out := filepath.Join(b.dir, "floor")
	if text, err := exec.CommandContext(ctx, gcc, "-O2", "-static", "-o", out, "bench/floor/floor.c").CombinedOutput(); err != nil {
		return "", fmt.Errorf("gcc floor.c (from the root of the repository): %w: %s", err, lastLine(string(text)))
	}
	return out, nil
}

// deleteAll ends what this run started with a runtime: its state folder has nothing else.
func (b *bench) deleteAll(name, path string) {
	entries, _ := os.ReadDir(filepath.Join(b.dir, "state-"+name))
	for _, e := range entries {
		argv := b.call(name, path, "delete", "--force", e.Name())
		b.command(context.Background(), argv).Run()
	}
}

// rss creates a container and looks at its init before the start. The number hardly differs between runs: five will do.
func (b *bench) rss(ctx context.Context, t *table) error {
	dir, err := b.bundle(ctx, t.Part, []string{"/bin/true"}, false)
	if err != nil {
		return err
	}
	const rounds = 5
	missing := eachRuntime(func(name, path string) {
		w := row{Name: name}
		for i := range rounds {
			rss, pss, err := b.waitingInit(ctx, name, path, dir, i)
			if err != nil {
				w.Error = err.Error()
				break
			}
			w.RSSKiB, w.PSSKiB, w.Runs = max(w.RSSKiB, rss), max(w.PSSKiB, pss), i+1
		}
		t.Rows = append(t.Rows, w)
	})
	for _, m := range missing {
		t.Rows = append(t.Rows, row{Name: m.name, Error: m.err.Error()})
	}
	return nil
}

func (b *bench) waitingInit(ctx context.Context, name, path, bundle string, i int) (rss, pss int64, err error) {
	id, pidFile := b.containerID(name+"-rss", i), filepath.Join(b.dir, "pid")
	b.undo = append(b.undo, func() { b.deleteAll(name, path) })
	if _, err := b.run(ctx, [][]string{b.call(name, path, "create", "--bundle", bundle, "--pid-file", pidFile, id)}); err != nil {
		return 0, 0, err
	}
	pid, err := os.ReadFile(pidFile)
	if err == nil {
		rss, err = kib("/proc/"+string(pid)+"/status", "VmRSS:")
	}
	if err == nil {
		pss, err = kib("/proc/"+string(pid)+"/smaps_rollup", "Pss:")
	}
	_, derr := b.run(ctx, [][]string{b.call(name, path, "delete", "--force", id)})
	return rss, pss, errors.Join(err, derr)
}

// kib reads a line such as "VmRSS:   1234 kB".
func kib(file, key string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == key {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s: no %s", file, key)
}

func (b *bench) exec(ctx context.Context, t *table) error {
	dir, err := b.bundle(ctx, t.Part, []string{"/bin/sleep", "3600"}, false)
	if err != nil {
		return err
	}
	var cs []competitor
	var failed []result
	missing := eachRuntime(func(name, path string) {
		id := b.containerID(name, 0) + "-exec"
		b.undo = append(b.undo, func() { b.deleteAll(name, path) })
		if _, err := b.run(ctx, [][]string{b.call(name, path, "run", "--detach", "--bundle", dir, id)}); err != nil {
			failed = append(failed, result{name: name, err: err})
			return
		}
		cs = append(cs, competitor{name: name, cmds: func(int) [][]string {
			return [][]string{b.call(name, path, "exec", id, "/bin/true")}
		}})
	})
	t.fill(b.race(ctx, cs), append(failed, missing...))
	eachRuntime(b.deleteAll)
	return nil
}
