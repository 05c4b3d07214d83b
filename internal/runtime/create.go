package runtime

import (
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"vitro/internal/cgroup"
	"vitro/internal/compile"
	"vitro/internal/plan"
	"vitro/internal/seccomp"
	"vitro/internal/spec"
	"vitro/internal/stub"
	"vitro/internal/sys"
)

// making is a container on its way: what create and run share.
type making struct {
	*container
	o       *CreateOpts
	spec    *specs.Spec
	in      compile.Input
	console console
	launch  *stub.Launch
	undo    []func() // in reverse, on failure
}

// Create makes a container whose init waits for Start. Nothing is left of it if that fails.
func (r *Runtime) Create(o CreateOpts) error {
	o.Detach = true
	m, err := r.make(&o, true)
	if err != nil {
		return err
	}
	defer m.done()
	m.ready = true
	if err := m.store(m.dir); err != nil {
		return m.fail(err)
	}
	return nil
}

// make brings a container to its wait (create) or its execve.
func (r *Runtime) make(o *CreateOpts, create bool) (*making, error) {
	m, err := r.makeOnce(o, create)
	if err != nil {
		return nil, r.tooSmall(err, m.spec, o)
	}
	return m, nil
}

// makeOnce is make; on an error nothing is left of m but what it was to be.
func (r *Runtime) makeOnce(o *CreateOpts, create bool) (*making, error) {
	m := &making{o: o, console: noConsole}
	err := m.prepare(r)
	if err == nil {
		err = r.checkMemory(m.spec, o)
	}
	if err == nil {
		err = m.acquire(r, create)
	}
	if err == nil {
		if err = m.start(); err != nil {
			err = inInit(m.refusal(err, m.spec.Process.NoNewPrivileges))
		}
	}
	if err != nil {
		return m, m.fail(err)
	}
	return m, nil
}

// prepare looks at the options and the config; it changes nothing.
func (m *making) prepare(r *Runtime) error {
	if err := checkID(m.o.ID); err != nil {
		return err
	}
	bundle, err := filepath.Abs(m.o.Bundle)
	if err != nil {
		return wrap("bundle "+m.o.Bundle, err)
	}
	m.in = compile.Input{ID: m.o.ID, Bundle: bundle, StateDir: r.dir(m.o.ID), NoPivot: m.o.NoPivot, NoKeyring: m.o.NoNewKeyring, ConsoleFD: -1, RootFD: -1}
	if m.spec, err = r.config(m.o.Spec, bundle, m.o.NoPivot); err != nil {
		return err
	}
	m.in.Spec = m.spec
	if err := checkTerminal(m.spec.Process.Terminal, m.o.Detach, m.o.ConsoleSocket); err != nil {
		return err
	}
	root := m.rootfs()
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil {
		return wrap("root.path ("+root+")", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return wrap("root.path ("+root+")", unix.ENOTDIR)
	}
	if _, err := os.Lstat(m.in.StateDir); err == nil {
		return ErrExist
	}
	return nil
}

// config loads, checks and normalises.
func (r *Runtime) config(s *specs.Spec, bundle string, noPivot bool) (*specs.Spec, error) {
	if s == nil {
		var warnings []spec.Warning
		var err error
		if err := unix.Access(bundle, unix.X_OK); err != nil {
			return nil, wrap("chdir "+bundle, err)
		}
		if s, warnings, err = spec.Load(bundle); err != nil {
			return nil, err
		}
		for _, w := range warnings {
			if r.Debug {
				r.log("warning", "config.json: "+w.String())
			}
		}
	}
	if err := spec.Validate(s, spec.ValidateOptions{Rootless: unix.Geteuid() != 0, NoPivot: noPivot}); err != nil {
		return nil, err
	}
	spec.Normalise(s)
	return s, nil
}

func (m *making) rootfs() string {
	if filepath.IsAbs(m.spec.Root.Path) {
		return m.spec.Root.Path
	}
	return filepath.Join(m.in.Bundle, m.spec.Root.Path)
}

// acquire makes the state folder with its first record, which names the cgroup so that a half-made one can be deleted.
func (m *making) acquire(r *Runtime, create bool) error {
	extra, err := m.inheritFDs()
	if err != nil {
		return err
	}
	m.in.ExtraFDs = extra
	if err := m.folder(r); err != nil {
		return err
	}
	layout, err := cgroup.Detect()
	if err != nil {
		return wrap("control groups", err)
	}
	group, err := layout.Group(m.spec.Linux.CgroupsPath, m.o.ID)
	if err != nil {
		return wrap("linux.cgroupsPath", err)
	}
	m.in.Group = group
	m.in.Create = create || len(m.spec.Hooks.StartContainer) > 0 // run waits for those too
	m.record = record{
		id:          m.o.ID,
		version:     m.spec.Version,
		created:     rfc3339(time.Now()),
		bundle:      m.in.Bundle,
		rootfs:      m.rootfs(),
		annotations: m.spec.Annotations,
		cgroups:     group.Paths(),
		privatePID:  privatePID(m.spec),
		noKeyring:   m.o.NoNewKeyring,
	}
	m.arm(func() { _ = group.Undo() })
	if err := writeNew(m.dir+configFile, spec.Encode(m.spec)); err != nil {
		return err
	}
	if err := m.seccomp(); err != nil {
		return err
	}
	return m.store(m.dir)
}

// seccomp compiles the filter, and keeps it for exec.
func (m *making) seccomp() error {
	f, err := seccomp.Compile(m.spec.Linux.Seccomp, seccomp.Native())
	if err != nil || f == nil {
		return err
	}
	m.in.Facts.Program, m.in.Facts.SecFlags = f.Bytes(), uint32(f.Flags)
	return writeNew(m.dir+seccompFile, append(le32(m.in.Facts.SecFlags), m.in.Facts.Program...))
}

// folder makes and locks the state folder. mkdir is what decides between two creates of one id.
func (m *making) folder(r *Runtime) error {
	if err := os.MkdirAll(r.Root, 0o711); err != nil {
		return wrap("--root", err)
	}
	dir := m.in.StateDir
	switch err := unix.Mkdir(dir, 0o700); {
	case err == unix.EEXIST:
		return ErrExist
	case err != nil:
		return wrap("mkdir "+dir, err)
	}
	m.arm(func() { _ = removeDir(dir) })
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrap("open "+dir, err)
	}
	m.container = &container{r: r, dir: dir, fd: fd, held: true, spec: m.spec}
	return wrap("lock "+dir, unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB))
}

// privatePID tells whether the container has a new pid namespace, whose end kills all in it.
func privatePID(s *specs.Spec) bool {
	for _, n := range s.Linux.Namespaces {
		if n.Type == specs.PIDNamespace {
			return n.Path == ""
		}
	}
	return false
}

// start compiles and runs the program.
func (m *making) start() error {
	if err := m.console.open(m.spec.Process.Terminal, m.o.ConsoleSocket); err != nil {
		return err
	}
	m.console.initialSize(m.spec.Process)
	m.in.ConsoleFD = m.console.far
	if err := compile.Gather(&m.in); err != nil {
		return err
	}
	p, err := compile.Container(&m.in)
	if err != nil {
		return err
	}
	m.texts = failureTexts(p)
	if m.in.Create {
		if err := m.store(m.dir); err != nil {
			return err
		}
	}
	m.launch, err = stub.Run(p, !m.in.Create, stub.Options{Call: m.call, Fallback: m.dir, Warn: m.r.warn})
	m.console.closeFar()
	if err != nil {
		return err
	}
	m.arm(func() { endChild(m.launch) })
	if err := m.console.receive(); err != nil {
		return err
	}
	if m.o.PID != nil {
		*m.o.PID = m.launch.PID
	}
	if m.o.PidFile != "" {
		return wrap("--pid-file", writeFile(m.o.PidFile, pidText(m.launch.PID), 0o644))
	}
	return nil
}

// call does the plan's Call ops that are the runtime's.
func (m *making) call(l *stub.Launch, o *plan.Op) error {
	switch o.Name {
	case "state":
		st, _ := sys.ReadProcStat(l.PID)
		m.init = process{l.PID, st.Start}
		m.stub = l.ExeID()
		return m.store(m.dir)
	case "newidmap":
		return newIDMap(l.PID, m.spec.Linux)
	case "copyup":
		return copyUp(l, l.Slot(plan.Slot(o.Args[0].V)))
	case "netdevices":
		return moveDevices(l, m.spec.Linux.NetDevices)
	case "hooks":
		return m.hooks(m.spec, int(o.Args[0].V), specs.StateCreating)
	}
	return text("the plan calls " + o.Name + ", which this runtime does not have")
}

// endChild kills and reaps a container's first process.
func endChild(l *stub.Launch) {
	if l == nil || l.PID == 0 {
		return
	}
	_ = unix.Kill(l.PID, unix.SIGKILL) // a child that was not reaped: the pid is its own
	_, _ = syscall.Wait4(l.PID, nil, 0, nil)
	unix.Close(l.PIDFD)
	l.PID = 0
}

func (m *making) arm(f func()) { m.undo = append(m.undo, f) }

// fail undoes everything, last first.
func (m *making) fail(err error) error {
	for i := len(m.undo) - 1; i >= 0; i-- {
		m.undo[i]()
	}
	m.done()
	return err
}

// done lets go of what belongs to this process, not to the container.
func (m *making) done() {
	m.console.close()
	if m.container != nil {
		m.close()
		m.container = nil
	}
	if m.launch != nil && m.launch.PID != 0 && m.launch.PIDFD >= 0 {
		unix.Close(m.launch.PIDFD)
		m.launch.PIDFD = -1
	}
}

// Plan is the program of a container, compiled and not run.
func (r *Runtime) Plan(o CreateOpts) (*plan.Program, error) {
	m := &making{o: &o, console: noConsole}
	if o.ID == "" {
		o.ID = "plan"
	}
	if err := m.prepare(r); err != nil && err != error(ErrExist) {
		return nil, err
	}
	layout, err := cgroup.Detect()
	if err != nil {
		return nil, wrap("control groups", err)
	}
	if m.in.Group, err = layout.Group(m.spec.Linux.CgroupsPath, o.ID); err != nil {
		return nil, wrap("linux.cgroupsPath", err)
	}
	if err := compile.Gather(&m.in); err != nil {
		return nil, err
	}
	f, err := seccomp.Compile(m.spec.Linux.Seccomp, seccomp.Native())
	if err != nil {
		return nil, err
	}
	if f != nil {
		m.in.Facts.Program, m.in.Facts.SecFlags = f.Bytes(), uint32(f.Flags)
	}
	return compile.Container(&m.in)
}
