package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"vitro/internal/boot"
	"vitro/internal/monitor"
	"vitro/internal/plan"
	"vitro/internal/runtime"
	"vitro/internal/snapshot"
	"vitro/internal/store"
	"vitro/internal/sys"
)

// MonitorArg0 is the argv[0] that makes vitro a monitor: cmd/vitro calls RunMonitor then.
const MonitorArg0 = "vitro-monitor"

// StartOptions attach the caller to the container.
type StartOptions struct {
	Stdout, Stderr *os.File // nil: not attached
	Stdin          bool     // the caller wants the container's input
	// Here makes the caller the monitor: no second process, and half the time. The caller stays until the end and passes
	// signals on; if it is killed, the container is without a monitor.
	Here bool
	// Again is for a container that has been there before: a failure to start it does not remove it.
	Again bool
}

// startRequest goes from Start to the monitor: what Start knows already.
type startRequest struct {
	Layers []string // lowerdirs, top first
}

// Start hands the container and its lock to a monitor. The first message of the client is Started or Failed.
func (e *Engine) Start(img store.Image, c *Container, lock *os.File, o StartOptions) (*monitor.Client, error) {
	fail := func(err error) (*monitor.Client, error) {
		defer lock.Close()
		err = fmt.Errorf("start the monitor: %w", err)
		if o.Again {
			return nil, err
		}
		return nil, errors.Join(err, e.removeAll(c, c.HostConfig.AutoRemove))
	}
	request, err := json.Marshal(startRequest{Layers: e.Store.Layers(img)})
	if err != nil {
		return fail(err)
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "monitor")
	client, err := monitor.NewClient(os.NewFile(uintptr(pair[0]), "monitor"))
	if err != nil {
		theirs.Close()
		return fail(err)
	}
	if err := client.Send(monitor.Request{Stdin: o.Stdin, Start: request}, o.Stdout, o.Stderr); err != nil {
		client.Close()
		theirs.Close()
		return fail(err)
	}
	if o.Here {
		own := *c
		go e.monitor(&own, theirs, lock, true)
		return client, nil
	}
	defer theirs.Close()
	if err := e.spawnMonitor(c.ID, theirs, lock); err != nil {
		client.Close()
		return fail(err)
	}
	lock.Close()
	return client, nil
}

// spawnMonitor starts a process for RunMonitor. Its standard error, where a panic goes, is the lock file. ForkExec, since
// os/exec forks a first time to try pidfds.
func (e *Engine) spawnMonitor(id string, client, lock *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	boot.OwnSlack()
	_, err = syscall.ForkExec("/proc/self/exe", []string{MonitorArg0, e.Root, e.RunRoot, id}, &syscall.ProcAttr{
		Dir: "/", Env: monitorEnv(), Sys: &syscall.SysProcAttr{Setsid: true},
		Files: []uintptr{null.Fd(), null.Fd(), lock.Fd(), monitorClient: client.Fd(), monitorLock: lock.Fd()},
	})
	return err
}

// monitorEnv has nothing of the caller's environment but what CNI's plugins are found by, and they find their programs by (portmap:
// iptables); a start shall not be held up by the garbage collector.
func monitorEnv() []string {
	env := []string{"GOGC=400"}
	for _, name := range []string{"PATH", "CNI_PATH", "NETCONFPATH"} {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// The monitor's inherited files.
const (
	monitorClient = 3
	monitorLock   = 4 // the container's lock
)

// RunMonitor is the main function of a monitor process: argv is MonitorArg0, root, run root, id.
func RunMonitor(argv []string) int {
	if len(argv) != 4 {
		return 2
	}
	syscall.CloseOnExec(monitorClient)
	syscall.CloseOnExec(monitorLock)
	if err := runMonitor(argv[1], argv[2], argv[3]); err != nil {
		fmt.Fprintln(os.Stderr, "vitro-monitor:", err)
		return 1
	}
	return 0
}

func runMonitor(root, runRoot, id string) error {
	e := &Engine{Root: root, RunRoot: runRoot}
	c, err := e.readRecord(id)
	if err != nil {
		return err
	}
	return e.monitor(c, os.NewFile(monitorClient, "client"), os.NewFile(monitorLock, "lock"), false)
}

// monitor looks after a container from its start to its end; lock is its own.
func (e *Engine) monitor(c *Container, client, lock *os.File, here bool) error {
	defer lock.Close()
	s := &starter{e: e, c: c}
	var exec func([]byte) (int, error)
	if !here { // standard input and output are in use there
		exec = s.exec
	}
	return monitor.Run(client, monitor.Config{
		Tty: c.Config.Tty, OpenStdin: c.Config.OpenStdin, StdinOnce: c.Config.StdinOnce,
		LogPath: e.LogPath(c.ID), RunDir: e.runDir(c.ID), Here: here,
		Start: s.start, Exec: exec, Code: FailureCode,
		Exited: func(exit int, failed error) {
			s.exited(exit, failed)
			_ = syscall.Flock(int(lock.Fd()), syscall.LOCK_UN) // clients may still be served
		},
	})
}

// LogPath is where the container's log is.
func (e *Engine) LogPath(id string) string { return e.dir(id, id+"-json.log") }

func (e *Engine) runtime() *runtime.Runtime {
	return &runtime.Runtime{Root: filepath.Join(e.RunRoot, "runtime")}
}

// starter is the monitor's view of its container.
type starter struct {
	e     *Engine
	c     *Container
	wires *wires // nil: no networks of its own
}

// start mounts the root, runs the container, and notes that it runs.
func (s *starter) start(request []byte, io monitor.Stdio) (int, error) {
	var req startRequest
	if err := json.Unmarshal(request, &req); err != nil {
		return 0, err
	}
	if s.c.HostConfig.wired() {
		lock, err := s.e.lockNetworks(s.c, networksWait)
		if err != nil {
			return 0, err
		}
		defer lock.Close()
	}
	w, err := s.e.reservePorts(s.c)
	if err != nil {
		return 0, err
	}
	s.wires = w
	pid, err := s.launch(req, io)
	if err == nil {
		err = s.started(pid)
	}
	if err != nil {
		_ = w.close() // what it says comes after why
		return 0, err
	}
	return pid, nil
}

// launch runs the container. One with networks waits as an init until it is on them.
func (s *starter) launch(req startRequest, io monitor.Stdio) (pid int, err error) {
	opts, done, err := s.e.prepare(s.c, req.Layers)
	if err != nil {
		return 0, err
	}
	defer done()
	opts.Detach, opts.Keep, opts.ConsoleSocket, opts.PID = true, true, io.Console, &pid
	rt := s.e.runtime()
	run := func() error {
		if s.wires != nil {
			return rt.Create(opts)
		}
		_, err := rt.Run(opts)
		return err
	}
	if io.Console == "" {
		err = monitor.Lend(io.Files, run)
	} else {
		err = run()
	}
	if err != nil {
		return 0, err
	}
	if s.wires == nil {
		return pid, nil
	}
	if err = s.wires.attach(pid); err == nil {
		err = rt.Start(s.c.ID)
	}
	if err != nil {
		return 0, errors.Join(err, rt.Delete(s.c.ID, true))
	}
	return pid, nil
}

func (s *starter) exec(request []byte) (pid int, err error) {
	var p specs.Process
	if err := json.Unmarshal(request, &p); err != nil {
		return 0, err
	}
	return s.e.execNull(s.c.ID, &p)
}

// prepare mounts the root file system and makes the runtime's options. The mount is detached: it goes with this process
// and the container. done closes this process's hold on it.
func (e *Engine) prepare(c *Container, layers []string) (o runtime.CreateOpts, done func(), err error) {
	root, err := e.mountRoot(c, layers, c.HostConfig.AutoRemove)
	if err != nil {
		return o, nil, err
	}
	defer func() {
		if err != nil {
			root.Close()
		}
	}()
	in := specInput{Rootfs: fmt.Sprintf("/proc/self/fd/%d", root.Fd()), Dir: e.dir(c.ID)}
	if target := c.HostConfig.joined(); target != "" {
		if in.NetNS, err = e.netnsOf(target); err != nil {
			return o, nil, err
		}
		if in.Dir, err = e.filesDir(c); err != nil {
			return o, nil, err
		}
	}
	if in.PidNS, err = e.pidNS(&c.HostConfig); err != nil {
		return o, nil, err
	}
	if in.User, in.Home, err = lookupUser(int(root.Fd()), c.Config.User, c.HostConfig.GroupAdd...); err != nil {
		return o, nil, err
	}
	if err = e.prepareMounts(c, layers); err != nil {
		return o, nil, err
	}
	s, err := buildSpec(c, in)
	if err != nil {
		return o, nil, err
	}
	again := func() (string, func(), error) { return e.rootAgain(layers) }
	return runtime.CreateOpts{ID: c.ID, Bundle: e.dir(c.ID), Spec: s, Again: again}, func() { root.Close() }, nil
}

// mountRoot makes the root file system: by overlayfs, or, where no overlay can be mounted in the container's folder, by a
// copy of the layers. The record says which. A volatile one is mounted once only.
func (e *Engine) mountRoot(c *Container, layers []string, volatile bool) (*os.File, error) {
	ctx, dir := context.Background(), e.dir(c.ID)
	o := snapshot.Options{Volatile: volatile}
	m, err := snapshot.Reopen(dir, layers, o)
	if err == nil {
		root, _, err := m.Open()
		return root, err
	}
	m, err = snapshot.OverlayDriver{}.Prepare(ctx, dir, layers, o)
	if err != nil {
		return nil, err
	}
	root, _, failed := m.Open()
	if failed == nil {
		return root, nil
	}
	d, why := snapshot.Choose(dir)
	if why == nil { // it is this one only that overlayfs does not take
		return nil, failed
	}
	for _, own := range []string{"upper", "work"} {
		if err := os.RemoveAll(e.dir(c.ID, own)); err != nil {
			return nil, err
		}
	}
	if m, err = d.Prepare(ctx, dir, layers, o); err != nil {
		return nil, errors.Join(why, err)
	}
	c.Driver = d.Name()
	root, _, err = m.Open()
	return root, err
}

// started notes the process for other commands, and the time for the case that all of /run goes.
func (s *starter) started(pid int) error {
	st, _ := sys.ReadProcStat(pid)
	s.c.StartedAt, s.c.FinishedAt = time.Now().UTC(), time.Time{}
	s.c.ExitCode, s.c.OOMKilled, s.c.Error = 0, false, ""
	run := runState{PID: pid, Start: st.Start, Monitor: os.Getpid(), Started: s.c.StartedAt}
	if s.wires != nil && s.wires.held != nil {
		run.Ports = s.wires.held.Ports
	}
	if err := run.write(s.e.runDir(s.c.ID)); err != nil {
		return err
	}
	if s.c.HostConfig.AutoRemove && s.c.Driver == "" {
		return nil // the record on disk says all that matters
	}
	return s.e.writeRecord(s.c)
}

// exited notes the end or the failure, and clears away what the container does not need any more.
func (s *starter) exited(exit int, failed error) {
	c := s.c
	detached := make(chan struct{})
	go func() {
		_ = s.wires.close() // what stays of it, the next command or reconcile finds
		close(detached)
	}()
	c.OOMKilled = failed == nil && !c.HostConfig.AutoRemove && oomKilled(c)
	_ = s.e.runtime().Delete(c.ID, true)
	<-detached // who sees the end may want the ports again
	if failed != nil {
		c.Error, c.ExitCode = failed.Error(), FailureCode(failed)
	} else {
		c.FinishedAt, c.ExitCode = time.Now().UTC(), exit
	}
	if c.HostConfig.AutoRemove {
		if s.e.erase(c) == nil {
			s.e.removeAnonymous(c)
		}
		return
	}
	_ = s.e.changeRecord(c.ID, func(now *Container) error {
		c.Name, c.HostConfig = now.Name, now.HostConfig // renamed, updated since the start
		*now = *c
		return nil
	})
	os.RemoveAll(s.e.runDir(c.ID))
}

// FailureCode is Docker's exit status for a container that did not start.
func FailureCode(err error) int {
	if errors.As(err, new(netError)) {
		return 125
	}
	s := err.Error()
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(s, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("executable file not found", "no such file or directory"):
		return 127
	case has("permission denied", "is a directory"):
		return 126
	}
	return 125
}

// AttachPath is the socket of a running container's monitor.
func (e *Engine) AttachPath(id string) string { return e.runDir(id, "attach.sock") }

// Plan is the program that would start a container with these options; nothing is made that stays.
func (e *Engine) Plan(img store.Image, o CreateOptions) (*plan.Program, error) {
	before, err := e.Volumes()
	if err != nil {
		return nil, err
	}
	c, lock, err := e.Create(img, o)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	defer func() {
		e.removeAll(c, true)
		for _, m := range c.Mounts { // volumes with names that were made for this only
			if m.Name != "" && !slices.ContainsFunc(before, func(v Volume) bool { return v.Name == m.Name }) {
				_ = e.RemoveVolume(m.Name)
			}
		}
	}()
	opts, done, err := e.prepare(c, e.Store.Layers(img))
	if err != nil {
		return nil, err
	}
	defer done()
	return e.runtime().Plan(opts)
}
