package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// marker is the environment variable that holds the run's name in every process that the harness starts.
const marker = "VITRO_BENCH"

const cgroupRoot = "/sys/fs/cgroup"

// enterNamespace gives the calling thread a mount namespace of its own. Children start in it, since they are forked
// from this thread; the rest of the process stays where it is, and the namespace ends with the last of them.
func (b *bench) enterNamespace() error {
	b.before = map[string]bool{}
	for _, dir := range b.shared() {
		b.before[dir] = true
	}
	// What a killed runtime leaves becomes our child, and is waited for in sweep.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	runtime.LockOSThread()
	host, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare the mount namespace: %w (bench needs root)", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make / private: %w", err)
	}
	return b.hideUnified(host)
}

// hideUnified puts a /sys/fs/cgroup of our own in the place of a hybrid host's: the same v1 hierarchies, no v2 tree.
// (On the host's tmpfs crun would make folders where the v2 tree was.) It looks twice that this namespace is ours
// alone: the host's /sys/fs/cgroup is never to be touched.
func (b *bench) hideUnified(host string) error {
	var st unix.Statfs_t
	if unix.Statfs(cgroupRoot+"/unified", &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil
	}
	own, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	if own == host || strings.Contains(string(mounts), " shared:") {
		return errors.New("hide " + cgroupRoot + "/unified: this mount namespace is not private")
	}
	view := filepath.Join(b.dir, "cgroup")
	if err := os.Mkdir(view, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", view, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs for v1 hierarchies: %w", err)
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, to := filepath.Join(cgroupRoot, e.Name()), filepath.Join(view, e.Name())
		switch link, _ := os.Readlink(from); {
		case e.Name() == "unified":
			continue
		case link != "":
			err = os.Symlink(link, to)
		case e.IsDir():
			err = os.Mkdir(to, 0o755)
			if err == nil {
				err = unix.Mount(from, to, "", unix.MS_BIND, "")
			}
		}
		if err != nil {
			return fmt.Errorf("show %s: %w", from, err)
		}
	}
	if err := unix.Unmount(cgroupRoot, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("hide %s: %w", cgroupRoot, err)
	}
	if err := unix.Mount(view, cgroupRoot, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the v1 hierarchies to %s: %w", cgroupRoot, err)
	}
	return nil
}

// sweep removes what carries the run's name: processes by environment and by cgroup, then the cgroups, then folders.
func (b *bench) sweep() {
	for _, undo := range slices.Backward(b.undo) {
		undo()
	}
	b.undo = nil
	for range 20 {
		for _, pid := range b.processes() {
			unix.Kill(pid, unix.SIGKILL)
		}
		if left := b.removeCgroups(); left == 0 && len(b.processes()) == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, dir := range b.newCgroups() {
		fmt.Fprintln(os.Stderr, "bench: left behind:", dir)
	}
	// Empty folders only, and only if the run was the first to need them.
	for _, dir := range b.shared() {
		if !b.before[dir] {
			os.Remove(dir)
		}
	}
	for reaped := 1; reaped > 0; {
		reaped, _ = unix.Wait4(-1, nil, unix.WNOHANG, nil)
	}
	unmountBelow(b.dir)
	if err := os.RemoveAll(b.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// shared gives the folders that podman, conmon and crun make under one name for all, deepest first.
func (b *bench) shared() []string {
	var dirs []string
	for _, pattern := range []string{"/*/libpod_parent/conmon", "/*/libpod_parent", "/libpod_parent/conmon", "/libpod_parent"} {
		found, _ := filepath.Glob(cgroupRoot + pattern)
		dirs = append(dirs, found...)
	}
	if _, err := os.Stat("/run/crun"); err == nil {
		dirs = append(dirs, "/run/crun")
	}
	return dirs
}

// unmountBelow takes away the mounts in dir: podman bind-mounts its store onto itself, in the harness's namespace.
func unmountBelow(dir string) {
	mounts, _ := os.ReadFile("/proc/thread-self/mountinfo")
	for _, line := range slices.Backward(strings.Split(string(mounts), "\n")) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			unix.Unmount(f[4], unix.MNT_DETACH)
		}
	}
}

// processes were started by the harness, or by something that it started.
func (b *bench) processes() (pids []int) {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range environs {
		text, err := os.ReadFile(f)
		if err != nil || !strings.Contains("\x00"+string(text), "\x00"+marker+"="+b.id+"\x00") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	for _, dir := range b.newCgroups() {
		procs, _ := os.ReadFile(dir + "/cgroup.procs")
		for _, f := range strings.Fields(string(procs)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 1 && pid != os.Getpid() {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// newCgroups have the run's name in their path, deepest first.
func (b *bench) newCgroups() (dirs []string) {
	filepath.WalkDir(cgroupRoot, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, b.id) {
			dirs = append(dirs, path)
		}
		return nil
	})
	slices.Reverse(dirs)
	return dirs
}

func (b *bench) removeCgroups() (left int) {
	for _, dir := range b.newCgroups() {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			left++
		}
	}
	return left
}
