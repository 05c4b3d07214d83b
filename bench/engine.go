package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

const imageRef = "localhost/vitro-bench:1"

// An engine is a program with the arguments that keep its state in the run's folder.
type engine struct {
	name string
	argv []string // program and global flags
	run  []string // further flags of `run`
}

func (e engine) cmd(args ...string) []string {
	return append(e.argv[:len(e.argv):len(e.argv)], args...)
}

func vitroEngine(path, dir string) engine {
	return engine{name: "vitro", argv: []string{path, "--root", filepath.Join(dir, "root"), "--run-root", filepath.Join(dir, "run")}}
}

func podmanEngine(path, dir, group string) engine {
	return engine{
		name: "podman",
		argv: []string{
			path, "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--tmpdir", filepath.Join(dir, "tmp"),
			"--cgroup-manager=cgroupfs", "--events-backend=none", "--storage-driver=overlay",
			"--runtime-flag=root=" + filepath.Join(dir, "runtime"),
		},
		// Its default limits may be above ours, and then need CAP_SYS_RESOURCE.
		run: []string{"--cgroup-parent=/" + group, "--log-driver=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"},
	}
}

// engine compares a whole `run --rm` with the image loaded before.
func (b *bench) engine(ctx context.Context, t *table) error {
	archive := filepath.Join(b.dir, "image.tar")
	if err := writeImage(archive, imageRef, b.rootfs, 1); err != nil {
		return err
	}
	var engines []engine
	var missing []result
	for _, start := range []func(context.Context) (engine, error){b.startVitro, b.startDocker, b.startPodman} {
		e, err := start(ctx)
		if err == nil {
			_, err = b.run(ctx, [][]string{e.cmd("load", "-q", "-i", archive)})
		}
		if err != nil {
			missing = append(missing, result{name: e.name, err: err})
			continue
		}
		engines = append(engines, e)
	}
	var cs []competitor
	for _, e := range engines {
		argv := append(e.cmd("run", "--rm", "--network", "none"), append(e.run, imageRef, "/bin/true")...)
		cs = append(cs, competitor{name: e.name, cmds: func(int) [][]string { return [][]string{argv} }})
	}
	t.fill(b.race(ctx, cs), missing)
	return nil
}

func (b *bench) startVitro(context.Context) (engine, error) {
	path, err := find("vitro")
	return vitroEngine(path, filepath.Join(b.dir, "vitro")), err
}

func (b *bench) startPodman(context.Context) (engine, error) {
	path, err := find("podman")
	return podmanEngine(path, filepath.Join(b.dir, "podman"), b.id+"-podman"), err
}

// startDocker starts a daemon of the run's own, without networks.
func (b *bench) startDocker(ctx context.Context) (engine, error) {
	return b.startDockerd(ctx, "docker", nil, "--iptables=false", "--ip6tables=false", "--bridge=none")
}

// startDockerd has the daemon's state on whatever file system TMPDIR is on; where overlay2 does not work there, vfs does.
func (b *bench) startDockerd(ctx context.Context, name string, enter []string, flags ...string) (engine, error) {
	e := engine{name: "docker"}
	client, err := find("docker")
	if err != nil {
		return e, err
	}
	daemon, err := find("dockerd")
	if err != nil {
		return e, fmt.Errorf("dockerd: %w", err)
	}
	for _, driver := range []string{"overlay2", "vfs"} {
		argv := append(append(slices.Clone(enter), daemon, "--storage-driver", driver), flags...)
		var socket string
		if socket, err = b.startDaemon(ctx, argv, name+"-"+driver); err == nil {
			e.argv = []string{client, "--host", "unix://" + socket}
			return e, nil
		}
	}
	return e, err
}

func (b *bench) startDaemon(ctx context.Context, argv []string, name string) (socket string, err error) {
	dir, err := os.MkdirTemp(b.dir, name+"-")
	if err != nil {
		return "", err
	}
	// The daemon's default configuration may ask for anything: an empty one takes its place.
	config := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}\n"), 0o644); err != nil {
		return "", err
	}
	socket = dir + "/docker.sock"
	return socket, b.startServer(ctx, append(argv, "--config-file", config, "--host", "unix://"+socket, "--data-root", dir+"/data",
		"--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "--cgroup-parent", "/"+b.id+"-docker"), dir+"/log", "unix", socket)
}

// startServer starts a daemon, waits until it listens, and has it ended by SIGTERM at the end of the run.
func (b *bench) startServer(ctx context.Context, argv []string, logFile, network, address string) error {
	log, err := os.Create(logFile)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := b.command(context.WithoutCancel(ctx), argv)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	b.undo = append(b.undo, func() { stopServer(cmd, ended) })
	for range 300 {
		if c, err := net.Dial(network, address); err == nil {
			return c.Close()
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(logFile)
			return fmt.Errorf("%s: %s: %s", filepath.Base(argv[0]), cmd.ProcessState, lastLine(string(text)))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s: does not listen on %s after 30 s", filepath.Base(argv[0]), address)
}

func stopServer(cmd *exec.Cmd, ended <-chan struct{}) {
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		cmd.Process.Kill()
		<-ended
	}
}

// pull compares a pull with all layers unpacked, into an empty store each time.
func (b *bench) pull(ctx context.Context, t *table) error {
	ref, err := b.startRegistry(ctx)
	if err != nil {
		return err
	}
	var cs []competitor
	var missing []result
	add := func(name string, programs []string, cmds func(paths []string, dir string) [][]string) {
		paths := make([]string, len(programs))
		for i, p := range programs {
			path, err := find(p)
			if err != nil {
				if p != name {
					err = fmt.Errorf("%s: %w", p, err)
				}
				missing = append(missing, result{name: name, err: err})
				return
			}
			paths[i] = path
		}
		dir := func(i int) string { return filepath.Join(b.dir, name[:1]+strconv.Itoa(i)) } // podman's runroot: at most 50 characters
		cs = append(cs, competitor{
			name: name,
			cmds: func(i int) [][]string {
				os.MkdirAll(dir(i), 0o755) // a failure shows in the command
				return cmds(paths, dir(i))
			},
			clean: func(i int) error {
				unmountBelow(dir(i))
				return os.RemoveAll(dir(i))
			},
		})
	}
	add("vitro", []string{"vitro"}, func(p []string, dir string) [][]string {
		return [][]string{vitroEngine(p[0], dir).cmd("pull", "-q", ref)}
	})
	add("podman", []string{"podman"}, func(p []string, dir string) [][]string {
		return [][]string{podmanEngine(p[0], dir, "").cmd("pull", "-q", "--tls-verify=false", ref)}
	})
	add("skopeo+umoci", []string{"skopeo", "umoci"}, func(p []string, dir string) [][]string {
		return [][]string{
			{p[0], "copy", "-q", "--src-tls-verify=false", "docker://" + ref, "oci:" + dir + "/oci:1"},
			{p[1], "unpack", "--image", dir + "/oci:1", dir + "/bundle"},
		}
	})
	t.fill(b.race(ctx, cs), missing)
	return nil
}

// startRegistry serves the made image on a free port of the loopback.
func (b *bench) startRegistry(ctx context.Context) (ref string, err error) {
	registry, err := find("docker-registry")
	if err != nil {
		return "", fmt.Errorf("docker-registry: %w", err)
	}
	skopeo, err := find("skopeo")
	if err != nil {
		return "", fmt.Errorf("skopeo, to push the image: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address := l.Addr().String()
	config := filepath.Join(b.dir, "registry.yml")
	text := "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: " + b.dir + "/registry\nhttp:\n  addr: " + address + "\n"
	err = errors.Join(l.Close(), os.WriteFile(config, []byte(text), 0o644))
	if err != nil {
		return "", err
	}
	if err := b.startServer(ctx, []string{registry, "serve", config}, b.dir+"/registry.log", "tcp", address); err != nil {
		return "", err
	}
	archive := filepath.Join(b.dir, "layers.tar")
	if err := writeImage(archive, imageRef, b.rootfs, pullLayers); err != nil {
		return "", err
	}
	ref = address + "/bench/layers:1"
	_, err = b.run(ctx, [][]string{{skopeo, "copy", "-q", "--dest-tls-verify=false", "docker-archive:" + archive, "docker://" + ref}})
	return ref, err
}
