package runtime

import (
	"slices"

	"vitro/internal/sys"

	"golang.org/x/sys/unix"
)

// State is one container's state. runc leaves the owner out of it.
func (r *Runtime) State(id string) (*State, error) {
	c, err := r.open(id)
	if err != nil {
		return nil, err
	}
	defer c.close()
	s := c.state()
	s.Owner = ""
	return s, nil
}

// List is the state of every container under Root, by name. One that cannot be read is left out and logged.
func (r *Runtime) List() ([]*State, error) {
	names, err := readDir(r.Root)
	if err != nil && err != unix.ENOENT {
		return nil, wrap("read "+r.Root, err)
	}
	slices.Sort(names)
	var out []*State
	for _, name := range names {
		if checkID(name) != nil {
			continue
		}
		c, err := r.open(name)
		if err == ErrNotExist { // a file, or gone since
			continue
		}
		if err != nil {
			r.log("error", "load container "+name+": "+err.Error())
			continue
		}
		out = append(out, c.state())
		c.close()
	}
	return out, nil
}

// readDir lists a folder without os.ReadDir's sort by lstat.
func readDir(path string) ([]string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 8192)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// PS lists the container's processes, by pid in this process's pid namespace.
func (r *Runtime) PS(id string) ([]int, error) {
	c, err := r.open(id)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if len(c.cgroups) == 0 { // no cgroup of its own: init is what is known
		if _, alive := c.init.stat(); alive {
			return []int{c.init.pid}, nil
		}
		return nil, nil
	}
	pids, err := c.group().Procs(true)
	return pids, wrap("processes of container "+id, err)
}

func (r *Runtime) log(level, msg string) {
	if r.Log != nil {
		r.Log(level, msg)
	}
}

// pidText is a pid as pid files have it.
func pidText(pid int) []byte { return []byte(sys.Itoa(pid)) }
