package runtime

import (
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"vitro/internal/cgroup"
	"vitro/internal/stub"
	"vitro/internal/sys"
)

const statusPaused specs.ContainerState = "paused" // runc's; the runtime-spec has no word for it

// container is a state folder that is open.
type container struct {
	record
	r    *Runtime
	dir  string
	fd   int // of the folder: the lock
	held bool
	lost bool        // go without a readable state.json
	spec *specs.Spec // what it was made of, where this process knows without reading it
}

// open finds a container. A folder without a record (its maker died early) is opened too, with an empty one.
func (r *Runtime) open(id string) (*container, error) {
	c, err := r.openDir(id)
	if err != nil {
		return nil, err
	}
	if err := c.load(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// openDir opens the state folder and reads nothing.
func (r *Runtime) openDir(id string) (*container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	dir := r.dir(id)
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	switch {
	case err == unix.ENOENT || err == unix.ENOTDIR:
		return nil, ErrNotExist
	case err != nil:
		return nil, wrap("open "+dir, err)
	}
	return &container{r: r, dir: dir, fd: fd}, nil
}

func (c *container) close() { unix.Close(c.fd) }

// load reads state.json.
func (c *container) load() error {
	id := c.dir[strings.LastIndexByte(c.dir, '/')+1:]
	b, err := sys.ReadFile(c.dir + stateFile)
	if err == unix.ENOENT {
		c.record = record{id: id}
		return nil
	}
	if err != nil && !c.lost {
		return wrap("read "+c.dir+stateFile, err)
	}
	rec, err := decodeRecord(b)
	if err == nil && rec.id != id {
		err = text("not the state of container " + id)
	}
	if err != nil && !c.lost {
		return wrap(c.dir+stateFile, err)
	}
	c.record = *rec
	if err != nil {
		c.salvage(id)
	}
	return nil
}

// salvage completes what could be read of a broken state.json (its init, if that is before the break) from the config beside it:
// enough to end the container.
func (c *container) salvage(id string) {
	c.id, c.cgroups = id, nil
	s, err := loadConfig(c.dir)
	if err != nil || s.Linux == nil || s.Linux.CgroupsPath != "" && strings.Trim(s.Linux.CgroupsPath, "/.") == "" {
		c.r.log("warning", "container "+id+": its cgroup is not known, and stays")
		return
	}
	layout, err := cgroup.Detect()
	if err != nil {
		return
	}
	if g, err := layout.Group(s.Linux.CgroupsPath, id); err == nil {
		c.cgroups = g.Paths()
	}
}

// lock takes the folder for a change of state and looks at it afresh; ErrNotExist if it was deleted meanwhile.
func (c *container) lock() error {
	if err := c.flock(unix.LOCK_EX); err != nil {
		return err
	}
	c.held = true
	var a, b unix.Stat_t
	if unix.Fstat(c.fd, &a) != nil || unix.Stat(c.dir, &b) != nil || a.Ino != b.Ino || a.Dev != b.Dev {
		return ErrNotExist
	}
	return c.load()
}

func (c *container) unlock() {
	_ = unix.Flock(c.fd, unix.LOCK_UN)
	c.held = false
}

// openLocked opens and locks.
func (r *Runtime) openLocked(id string) (*container, error) {
	c, err := r.open(id)
	if err != nil {
		return nil, err
	}
	if err := c.lock(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// making tells whether the container's creator is still at it.
func (c *container) making() bool {
	if c.held {
		return false
	}
	err := again(func() error { return unix.Flock(c.fd, unix.LOCK_SH|unix.LOCK_NB) })
	if err == nil {
		_ = unix.Flock(c.fd, unix.LOCK_UN)
	}
	return err == unix.EWOULDBLOCK
}

// status derives the container's status from facts.
func (c *container) status() specs.ContainerState {
	st, alive := c.init.stat()
	switch {
	case !alive && c.init.pid == 0 && c.making():
		return specs.StateCreating
	case !alive:
		return specs.StateStopped
	}
	return c.live(st)
}

// live is the status of a container whose init is alive.
func (c *container) live(st sys.ProcStat) specs.ContainerState {
	if frozen, err := c.group().Frozen(); err == nil && frozen {
		return statusPaused
	}
	if !c.waiting(st.Comm) {
		return specs.StateRunning
	}
	if !c.ready {
		return specs.StateCreating
	}
	return specs.StateCreated
}

// waiting tells whether init is still the stub: by its comm, which anybody may have, and by its executable, which nobody else has.
func (c *container) waiting(comm string) bool {
	if comm != stub.StubComm {
		return false
	}
	exe := stub.ExeID(c.init.pid)
	return exe == "" || c.stub == "" || exe == c.stub
}

func (c *container) group() *cgroup.Group { return cgroup.FromPaths(c.cgroups) }

// ociState is what hooks read and what state prints.
func (c *container) ociState(status specs.ContainerState, pid int) *specs.State {
	return &specs.State{
		Version:     c.version,
		ID:          c.id,
		Status:      status,
		Pid:         pid,
		Bundle:      c.bundle,
		Annotations: c.annotations,
	}
}

func (c *container) state() *State {
	status := c.status()
	pid := c.init.pid
	if status == specs.StateStopped {
		pid = 0
	}
	s := &State{State: *c.ociState(status, pid), Rootfs: c.rootfs, Created: c.created}
	var st unix.Stat_t
	if unix.Fstat(c.fd, &st) == nil {
		s.Owner = userName(st.Uid)
		if s.Created == "" { // no record: the folder's time is what there is
			s.Created = rfc3339(time.Unix(st.Ctim.Unix()))
		}
	}
	return s
}

// rfc3339 formats in UTC with nanoseconds, as time.RFC3339Nano.
func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// userName looks uid up in /etc/passwd; the number itself where it has no name.
func userName(uid uint32) string {
	want := sys.Utoa(uint64(uid))
	b, _ := sys.ReadFile("/etc/passwd")
	for rest := string(b); rest != ""; {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		name, f, _ := strings.Cut(line, ":")
		_, f, _ = strings.Cut(f, ":")
		if id, _, ok := strings.Cut(f, ":"); ok && id == want {
			return name
		}
	}
	return want
}
