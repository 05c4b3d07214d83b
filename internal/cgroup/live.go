package cgroup

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"vitro/internal/sys"

	"golang.org/x/sys/unix"
)

// main is the folder that is asked for processes: the v2 one (a process cannot leave it unseen), else devices as in runc.
func (g *Group) main() *place {
	for _, c := range [...]string{"", "devices"} {
		if p := g.find(c); p != nil {
			return p
		}
	}
	if len(g.places) > 0 {
		return &g.places[0]
	}
	return nil
}

// Exists tells whether the group's folder is there.
func (g *Group) Exists() bool {
	p := g.main()
	return p != nil && exists(p.path)
}

// HasProcs tells whether a process is in the group or below it.
func (g *Group) HasProcs() (bool, error) {
	pids, err := g.Procs(true)
	return len(pids) > 0, err
}

// Procs lists the processes of the group; with all, of the groups below it, too. A group that is gone has none.
func (g *Group) Procs(all bool) ([]int, error) {
	p := g.main()
	if p == nil {
		return nil, nil
	}
	return procs(nil, p.path, all)
}

func procs(out []int, dir string, all bool) ([]int, error) {
	b, err := sys.ReadFile(dir + "/cgroup.procs")
	switch err {
	case nil, unix.EOPNOTSUPP: // a threaded group: its processes are listed by its domain
	case unix.ENOENT, unix.ENODEV:
		return out, nil
	default:
		return out, failed("read", dir+"/cgroup.procs", err)
	}
	for s := range strings.FieldsSeq(string(b)) {
		pid, err := strconv.Atoi(s)
		if err != nil {
			return out, failed("parse", dir+"/cgroup.procs", err)
		}
		if pid > 0 { // 0 is a process outside of this pid namespace
			out = append(out, pid)
		}
	}
	if !all {
		return out, nil
	}
	for _, sub := range folders(dir) {
		if out, err = procs(out, sub, true); err != nil {
			return out, err
		}
	}
	return out, nil
}

// folders lists the groups in dir; a group that goes away meanwhile is left out.
func folders(dir string) (out []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, dir+"/"+e.Name())
		}
	}
	return out
}

// Kill ends every process of the group and below it with SIGKILL, by cgroup.kill (5.14) where it is there, else under a
// freeze so that none can fork. It does not wait for their end; Remove does.
func (g *Group) Kill() error {
	if p := g.find(""); p != nil {
		err := write(p.path+"/cgroup.kill", "1")
		if err == nil || errors.Is(err, unix.ENODEV) {
			return errors.Join(g.killV1(), g.thawV1()) // a process frozen by the v1 freezer does not see its SIGKILL
		}
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	freeze := g.Freeze()
	var kill error
	for range 10 { // one round under a freeze; without one, until nobody is left
		pids, err := g.Procs(true)
		if err != nil || len(pids) == 0 {
			kill = err
			break
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
				kill = os.NewSyscallError("kill "+strconv.Itoa(pid), err)
			}
		}
		if freeze == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return errors.Join(kill, g.Thaw())
}

// killV1 ends who is in a v1 folder of the group without being in its v2 one.
func (g *Group) killV1() error {
	for i := range g.places {
		if g.places[i].controllers == "" {
			continue
		}
		pids, err := procs(nil, g.places[i].path, true)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
				return os.NewSyscallError("kill "+strconv.Itoa(pid), err)
			}
		}
	}
	return nil
}

func (g *Group) thawV1() error {
	if g.find("freezer") != nil {
		return g.Thaw()
	}
	return nil
}

// freezer is the file that freezes and its words: v1's where there is one, as in runc.
func (g *Group) freezer() (dir, file, frozen, thawed string) {
	if p := g.find("freezer"); p != nil {
		return p.path, "/freezer.state", "FROZEN", "THAWED"
	}
	if p := g.find(""); p != nil {
		return p.path, "/cgroup.freeze", "1", "0"
	}
	return "", "", "", ""
}

// Freeze stops every process of the group and returns when all have stopped. On a failure the group is thawed.
func (g *Group) Freeze() error {
	dir, file, frozen, _ := g.freezer()
	if dir == "" {
		return errors.New("freeze: the container has no freezer cgroup")
	}
	for i := range 1000 {
		// v1: FREEZING may stay until the state is written again, while processes fork.
		if i == 0 || frozen == "FROZEN" {
			if err := write(dir+file, frozen); err != nil {
				return err
			}
		}
		ok, err := g.Frozen()
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
		if i > 10 {
			if frozen == "FROZEN" && i%50 == 49 {
				_ = g.Thaw()
			}
			time.Sleep(time.Millisecond)
		}
	}
	return errors.Join(errors.New("freeze "+dir+": processes go on running"), g.Thaw())
}

// Thaw lets the group go on.
func (g *Group) Thaw() error {
	dir, file, _, thawed := g.freezer()
	if dir == "" {
		return nil
	}
	if err := write(dir+file, thawed); err != nil && !gone(err) {
		return err
	}
	return nil
}

// Frozen tells whether all of the group is stopped. A group that is gone is not (runc #4798: ENODEV while stopping).
func (g *Group) Frozen() (bool, error) {
	dir, file, frozen, _ := g.freezer()
	if dir == "" {
		return false, nil
	}
	if file == "/freezer.state" {
		s, err := readLine(dir + file)
		if err != nil && !gone(err) {
			return false, failed("read", dir+file, err)
		}
		return s == frozen, nil
	}
	s, err := readLine(dir + "/cgroup.events")
	if err != nil && !gone(err) {
		return false, failed("read", dir+"/cgroup.events", err)
	}
	return strings.HasSuffix(s, "frozen 1") || strings.Contains(s, "frozen 1\n"), nil
}

// Remove removes the group's folder, and those below it, from every hierarchy; a failure keeps it from none of them. Killed
// processes may still be on their way out: EBUSY is tried again for a second in all.
func (g *Group) Remove() error {
	var first error // the others have the same cause, and an error is one line
	wait := firstWait
	for i := range g.places {
		if err := remove(g.places[i].path, &wait); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Undo removes what a failed start made, which may include parents of the group, and nothing that was there before.
func (g *Group) Undo() error {
	var errs error
	wait := firstWait
	for i := range g.places {
		if p := &g.places[i]; !p.existed {
			errs = errors.Join(errs, remove(p.path, &wait))
		}
	}
	for i := len(g.made) - 1; i >= 0; i-- {
		_ = unix.Rmdir(g.made[i]) // a parent that somebody else uses by now stays
	}
	return errs
}

const firstWait = time.Millisecond // of remove; each is twice the one before

// remove waits for what is busy as long as wait, which it doubles, is below a second.
func remove(dir string, wait *time.Duration) error {
	err := rmdir(dir)
	for try := true; err == unix.EBUSY && try; *wait *= 2 {
		for _, sub := range folders(dir) {
			if err := remove(sub, wait); err != nil {
				return err
			}
		}
		err = rmdir(dir)
		if try = err == unix.EBUSY && *wait < time.Second; try {
			time.Sleep(*wait)
			err = rmdir(dir)
		}
	}
	if err != nil {
		return failed("remove", dir, err)
	}
	return nil
}

func rmdir(dir string) error {
	for {
		switch err := unix.Rmdir(dir); err {
		case unix.EINTR:
		case unix.ENOENT:
			return nil
		default:
			return err
		}
	}
}

func write(path, s string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed("open", path, err)
	}
	defer unix.Close(fd)
	if err := sys.WriteAll(fd, []byte(s)); err != nil {
		return failed("write "+s+" to", path, err)
	}
	return nil
}

func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) }
