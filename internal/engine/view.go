package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"

	"golang.org/x/sys/unix"

	"vitro/internal/layer"
	"vitro/internal/safepath"
	"vitro/internal/snapshot"
	"vitro/internal/sys"
)

// tree opens the container's root file system as its layers make it, read-only and without what is mounted in it. The
// caller closes its Root. It works while the container runs, too.
func (e *Engine) tree(c *Container) (layer.Tree, error) {
	img, err := e.Store.Resolve(c.ImageID)
	if err != nil {
		return layer.Tree{}, err
	}
	t := layer.Tree{Lowers: e.Store.Layers(img)}
	for _, m := range defaultMounts() {
		t.Mountpoints = append(t.Mountpoints, m.Destination)
	}
	t.Mountpoints = append(t.Mountpoints, "/etc/resolv.conf", "/etc/hostname", "/etc/hosts")
	m, err := snapshot.View(e.dir(c.ID), t.Lowers)
	if err != nil {
		return t, err
	}
	if _, err := os.Lstat(e.dir(c.ID, "work")); err == nil {
		t.Upper = e.dir(c.ID, "upper")
	}
	if t.Root, _, err = m.Open(); err != nil {
		return t, err
	}
	return t, nil
}

// View is a container's file system as a process of it would see it, volumes included. Paths are looked up in it as in a
// chroot, and never lead out of it.
type View struct {
	Root *os.File // O_PATH
	ns   *os.File // keeps the mounts of a stopped container
	lock *os.File // and nobody starts that meanwhile
	c    *Container
}

// Close takes the view away.
func (v *View) Close() {
	v.unmount() // its files may be nil
	v.lock.Close()
}

func (v *View) unmount() {
	v.Root.Close()
	v.ns.Close()
}

// OpenView opens the file system of a container that runs, or of one that does not: that is mounted, with its volumes
// and binds, in a mount namespace of its own which goes with the view.
func (e *Engine) OpenView(ref string) (*View, error) {
	l, err := e.Find(ref)
	if err != nil {
		return nil, err
	}
	l, lock, err := e.seize(l, leave) // or somebody starts it meanwhile
	if err == nil && lock == nil {
		fd, opened := unix.Open(fmt.Sprintf("/proc/%d/root", l.PID), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if opened == nil {
			return &View{Root: os.NewFile(uintptr(fd), "/"), c: l.Container}, nil
		}
		if l, err = e.Find(l.ID); err != nil {
			return nil, err
		}
		if l.Status == Running {
			return nil, fmt.Errorf("root of container %s: %w", ref, opened)
		}
		if l, lock, err = e.seize(l, leave); err == nil && lock == nil {
			err = fmt.Errorf("container %s: %w", shortID(l.ID), errBusy) // it starts and ends faster than one can look
		}
	}
	if err != nil {
		return nil, err
	}
	v := &View{c: l.Container, lock: lock}
	if err := e.mountView(v, l.Container); err != nil {
		lock.Close()
		return nil, fmt.Errorf("container %s: %w", shortID(l.ID), err)
	}
	return v, nil
}

// mountView mounts a container that does not run.
func (e *Engine) mountView(v *View, l *Container) error {
	img, err := e.Store.Resolve(l.ImageID)
	if err != nil {
		return err
	}
	driver := l.Driver
	root, err := e.mountRoot(l, e.Store.Layers(img), false)
	if err != nil {
		return err
	}
	defer root.Close()
	if l.Driver != driver {
		if err := e.writeRecord(l); err != nil {
			return err
		}
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its mount namespace
		failed <- v.mount(root)
	}()
	return <-failed
}

// mount attaches the root file system, and the container's mounts in it, in a new mount namespace of this thread.
func (v *View) mount(root *os.File) (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount /", err)
	}
	const at = "/proc" // some folder that is there; only this thread sees what covers it
	ns, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return err
	}
	if err := snapshot.Attach(root, at); err != nil {
		ns.Close()
		return err
	}
	fd, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		ns.Close()
		return err
	}
	v.Root, v.ns = os.NewFile(uintptr(fd), "/"), ns
	for _, m := range sortedMounts(v.c.Mounts) {
		if err := v.mountIn(m); err != nil {
			v.unmount()
			return fmt.Errorf("mount %s: %w", m.Destination, err)
		}
	}
	if v.c.HostConfig.ReadonlyRootfs {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			v.unmount()
			return os.NewSyscallError("mount_setattr", err)
		}
	}
	return nil
}

// mountIn clones a volume or a bind's source into place. A tmpfs is empty, and gone, when the container does not run.
func (v *View) mountIn(m Mount) error {
	if m.Type == "tmpfs" {
		return nil
	}
	src, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if errors.Is(err, unix.ENOENT) && m.Type == "bind" {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(src)
	if !m.RW {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(src, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	at, err := v.mountpoint(m.Destination, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return unix.MoveMount(src, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// mountpoint opens a path, and makes it as a start would.
func (v *View) mountpoint(p string, dir bool) (int, error) {
	root := int(v.Root.Fd())
	fd, err := safepath.Open(root, p, unix.O_PATH)
	if !errors.Is(err, unix.ENOENT) || p == "/" {
		return fd, err
	}
	parent, err := v.mountpoint(path.Dir(p), true)
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	if dir {
		err = unix.Mkdirat(parent, path.Base(p), 0o755)
	} else {
		err = unix.Mknodat(parent, path.Base(p), unix.S_IFREG|0o644, 0)
	}
	if err != nil && err != unix.EEXIST {
		return -1, err
	}
	return safepath.Open(root, p, unix.O_PATH)
}

// withPaused runs f while the container is paused, if it runs and is not paused already.
func (e *Engine) withPaused(ctx context.Context, l *Live, pause bool, f func() error) (err error) {
	if !pause || l.Status != Running {
		return f()
	}
	rt := e.runtime()
	if st, err := rt.State(l.ID); err == nil && st.Status == "paused" {
		return f()
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := e.notePauser(l.ID); err != nil {
		return err
	}
	defer os.Remove(e.runDir(l.ID, pauserFile))
	if err := rt.Pause(l.ID); err != nil {
		if now, e2 := e.Find(l.ID); e2 == nil && now.Status != Running { // it has just ended
			return f()
		}
		return fmt.Errorf("pause container %s: %w", shortID(l.ID), err)
	}
	defer func() {
		if e := rt.Resume(l.ID); err == nil && e != nil {
			err = fmt.Errorf("resume container %s: %w", shortID(l.ID), e)
		}
	}()
	return f()
}

// pauserFile names the process that has paused a container for as long as it reads its files: a symbolic link, whose text is its pid and start.
const pauserFile = "pauser"

// notePauser comes before the pause. One that was killed is forgotten.
func (e *Engine) notePauser(id string) error {
	st, _ := sys.ReadProcStat(os.Getpid())
	os.Remove(e.runDir(id, pauserFile))
	return os.Symlink(fmt.Sprintf("%d %d", os.Getpid(), st.Start), e.runDir(id, pauserFile))
}

// pauserGone lets a container go on whose pauser was killed, and tells whether it did.
func (e *Engine) pauserGone(c *Container) bool {
	text, err := os.Readlink(e.runDir(c.ID, pauserFile))
	if err != nil {
		return false
	}
	var pid int
	var start uint64
	if _, err := fmt.Sscan(text, &pid, &start); err != nil {
		return false
	}
	if _, lives := sys.Lives(pid, start); lives {
		return false
	}
	if e.runtime().Resume(c.ID) != nil {
		return false
	}
	os.Remove(e.runDir(c.ID, pauserFile))
	return true
}
