package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vitro/internal/layer"
	"vitro/internal/safepath"
	"vitro/internal/snapshot"
	"vitro/internal/store"
)

// A volume is a folder that outlives its containers:
//
//	<root>/volumes/<name>/volume.json  the record (Volume)
//	<root>/volumes/<name>/_data        what containers see
//	<root>/volumes/<name>/copying      there while the image's content is copied in
//	<root>/volumes/.new-*, .rm-*       on the way in or out
//
// Who uses it is read from the containers' records: nothing is counted, so nothing can be miscounted. A container's record
// is written before its volumes are made, and a volume is removed under the exclusive volumesLock after a look at all
// records; so a container either is seen by the remover or makes the volume again.
const volumesLock = "volumes.lock"

// anonymousLabel is how Docker marks a volume that was made without a name.
const anonymousLabel = "com.docker.volume.anonymous"

// Volume is a volume in the shape of Docker's API.
type Volume struct {
	CreatedAt  time.Time
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}

// Anonymous tells whether the volume was made without a name.
func (v Volume) Anonymous() bool { _, ok := v.Labels[anonymousLabel]; return ok }

// ErrNoVolume is wrapped by errors about a volume that is not there.
var ErrNoVolume = errors.New("no such volume")

type noVolumeError struct{ name string }

func (e *noVolumeError) Error() string        { return "get " + e.name + ": no such volume" }
func (e *noVolumeError) Is(target error) bool { return target == ErrNoVolume }

func (e *Engine) volumeDir(elem ...string) string {
	return filepath.Join(append([]string{e.Root, "volumes"}, elem...)...)
}

func checkVolumeName(name string) error {
	if validName(name) == nil {
		return nil
	}
	if len(name) == 1 {
		return fmt.Errorf("create %s: volume name is too short, names should be at least two alphanumeric characters", name)
	}
	return fmt.Errorf("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name, name)
}

// CreateVolume makes a volume, an anonymous one without a name. One that is there stays as it is.
func (e *Engine) CreateVolume(name string, labels map[string]string) (v Volume, err error) {
	if name == "" {
		name = newID()
		labels = maps.Clone(labels)
		if labels == nil {
			labels = map[string]string{}
		}
		labels[anonymousLabel] = ""
	}
	if err := checkVolumeName(name); err != nil {
		return v, err
	}
	err = e.withLock(volumesLock, syscall.LOCK_SH, func() (err error) {
		v, err = e.ensureVolume(name, labels)
		return err
	})
	return v, err
}

// ensureVolume needs volumesLock, shared. The volume appears as a whole, by rename.
func (e *Engine) ensureVolume(name string, labels map[string]string) (v Volume, err error) {
	if v, err = e.Volume(name); !errors.Is(err, ErrNoVolume) {
		return v, err
	}
	fail := func(err error) (Volume, error) { return Volume{}, fmt.Errorf("create %s: %w", name, err) }
	if err := os.MkdirAll(e.volumeDir(), 0o711); err != nil {
		return fail(err)
	}
	tmp, err := os.MkdirTemp(e.volumeDir(), ".new-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(tmp)
	v = Volume{CreatedAt: time.Now().UTC().Truncate(time.Second), Labels: labels, Name: name}
	b, err := json.MarshalIndent(v, "", " ")
	if err == nil {
		err = os.Mkdir(tmp+"/_data", 0o755)
	}
	if err == nil {
		err = errors.Join(os.Chmod(tmp+"/_data", 0o755), os.Chmod(tmp, 0o711)) // whatever the umask
	}
	if err == nil {
		err = replaceFile(tmp+"/volume.json", append(b, '\n'), true)
	}
	if err != nil {
		return fail(err)
	}
	if err := os.Rename(tmp, e.volumeDir(name)); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
		return fail(err)
	}
	if err := syncFolder(e.volumeDir()); err != nil {
		return fail(err)
	}
	return e.Volume(name)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Volume reads a volume's record.
func (e *Engine) Volume(name string) (v Volume, err error) {
	if validName(name) != nil {
		return v, &noVolumeError{name}
	}
	b, err := os.ReadFile(e.volumeDir(name, "volume.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return v, &noVolumeError{name}
	}
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		return v, fmt.Errorf("volume %s: %w", name, err)
	}
	v.Name, v.Driver, v.Scope, v.Mountpoint = name, "local", "local", e.volumeDir(name, "_data")
	return v, nil
}

// Volumes lists the volumes by name, and clears away what killed commands left.
func (e *Engine) Volumes() (out []Volume, err error) {
	entries, err := os.ReadDir(e.volumeDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, d := range entries {
		if strings.HasPrefix(d.Name(), ".") {
			if fi, err := d.Info(); err == nil && time.Since(fi.ModTime()) > time.Minute {
				os.RemoveAll(e.volumeDir(d.Name()))
			}
			continue
		}
		v, err := e.Volume(d.Name())
		if errors.Is(err, ErrNoVolume) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// VolumeUsers are the IDs of the containers that use a volume, whether they run or not, by its name.
func (e *Engine) VolumeUsers() (map[string][]string, error) {
	entries, err := os.ReadDir(filepath.Join(e.Root, "containers"))
	if err != nil {
		return nil, err
	}
	users := map[string][]string{}
	for _, d := range entries {
		c, err := e.readRecord(d.Name())
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil { // what cannot be read may use any of them
			return nil, err
		}
		for _, m := range c.Mounts {
			if m.Name != "" && !slices.Contains(users[m.Name], c.ID) {
				users[m.Name] = append(users[m.Name], c.ID)
			}
		}
	}
	return users, nil
}

// RemoveVolume removes a volume that no container uses.
func (e *Engine) RemoveVolume(name string) error {
	if _, err := e.Volume(name); err != nil {
		return err
	}
	trash := ""
	err := e.withLock(volumesLock, syscall.LOCK_EX, func() error {
		users, err := e.VolumeUsers()
		if err != nil {
			return err
		}
		if ids := users[name]; ids != nil {
			return fmt.Errorf("volume is in use - [%s]", strings.Join(ids, ", "))
		}
		trash = e.volumeDir(".rm-" + newID())
		now := time.Now() // Volumes clears away what is old
		_ = os.Chtimes(e.volumeDir(name), now, now)
		return os.Rename(e.volumeDir(name), trash)
	})
	if err == nil {
		err = os.RemoveAll(trash)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// removeAnonymous removes the volumes that were made for a container without a name, but for those that others use.
func (e *Engine) removeAnonymous(c *Container) {
	for _, m := range c.Mounts {
		if m.Anonymous {
			_ = e.RemoveVolume(m.Name)
		}
	}
}

// VolumeSize is the bytes of the files in a volume.
func (e *Engine) VolumeSize(name string) int64 { return treeSize(e.volumeDir(name, "_data")) }

// treeSize is the bytes of the files below a folder, those with several names once.
func treeSize(dir string) (n int64) {
	seen := map[uint64]bool{}
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if fi, err := d.Info(); err == nil {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok && (st.Nlink == 1 || !seen[st.Ino]) {
				seen[st.Ino] = true
				n += fi.Size()
			}
		}
		return nil
	})
	return n
}

// Sizes are the bytes that a container has written, and those of its whole root file system.
func (e *Engine) Sizes(c *Container) (rw, root int64) {
	if img, err := e.Store.Resolve(c.ImageID); err == nil {
		root = img.Size
	}
	if c.Driver == "" {
		rw = treeSize(e.dir(c.ID, "upper"))
		return rw, root + rw
	}
	all := treeSize(e.dir(c.ID, "rootfs")) // a copy: what is more than the image was written
	return max(0, all-root), all
}

// makeVolumes makes the volumes of a container whose record is on disk, and copies the image's content into those that
// are empty.
func (e *Engine) makeVolumes(img store.Image, c *Container) error {
	if !slices.ContainsFunc(c.Mounts, func(m Mount) bool { return m.Name != "" }) {
		return nil
	}
	err := e.withLock(volumesLock, syscall.LOCK_SH, func() error {
		for _, m := range c.Mounts {
			if m.Name == "" {
				continue
			}
			var labels map[string]string
			if m.Anonymous {
				labels = map[string]string{anonymousLabel: ""}
			}
			if _, err := e.ensureVolume(m.Name, labels); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return e.fillVolumes(c, e.Store.Layers(img))
}

// fillVolumes copies the content that the image has at a volume's place into the volume, if that is empty.
func (e *Engine) fillVolumes(c *Container, layers []string) (err error) {
	var root *os.File
	for _, m := range c.Mounts {
		if m.Name == "" {
			continue
		}
		if empty, err := e.volumeEmpty(m.Name); err != nil || !empty {
			if err != nil {
				return fmt.Errorf("volume %s: %w", m.Name, err)
			}
			continue
		}
		if root == nil && !m.NoCopy {
			if root, err = e.imageView(c, layers); err != nil {
				return fmt.Errorf("volume %s: %w", m.Name, err)
			}
			defer root.Close()
		}
		if err := e.fillVolume(m, root); err != nil {
			return fmt.Errorf("volume %s: copy the image's %s: %w", m.Name, m.Destination, err)
		}
	}
	return nil
}

// volumeEmpty is also true for a volume whose filling was interrupted.
func (e *Engine) volumeEmpty(name string) (bool, error) {
	if _, err := os.Lstat(e.volumeDir(name, "copying")); err == nil {
		return true, nil
	}
	return emptyDir(e.volumeDir(name, "_data"))
}

func emptyDir(dir string) (bool, error) {
	d, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer d.Close()
	names, err := d.Readdirnames(1)
	return len(names) == 0, errIfNotEOF(err)
}

// imageView opens the tree of the layers alone, for a container that has nothing of its own yet.
func (e *Engine) imageView(c *Container, layers []string) (*os.File, error) {
	m, err := snapshot.View(e.dir(c.ID, "no-such"), layers)
	if errors.Is(err, os.ErrNotExist) { // an image without layers
		return os.Open(e.volumeDir())
	}
	if err == nil {
		if root, _, err := m.Open(); err == nil {
			return root, nil
		}
	}
	return e.mountRoot(c, layers, c.HostConfig.AutoRemove) // by a copy, where overlayfs does not work
}

// fillVolume holds the volume's lock, so that it is filled once, and marks it: what a killed filler has left is removed
// and copied again.
func (e *Engine) fillVolume(m Mount, root *os.File) error {
	lock, err := os.Open(e.volumeDir(m.Name))
	if err != nil {
		return err
	}
	defer lock.Close()
	for err = syscall.EINTR; err == syscall.EINTR; {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		return os.NewSyscallError("flock", err)
	}
	data, mark := e.volumeDir(m.Name, "_data"), e.volumeDir(m.Name, "copying")
	if _, err := os.Lstat(mark); err == nil {
		if err := clearDir(data); err != nil {
			return err
		}
	}
	if empty, err := emptyDir(data); err != nil || !empty {
		return err
	}
	src := -1
	if !m.NoCopy {
		if src, err = safepath.Open(int(root.Fd()), m.Destination, unix.O_RDONLY|unix.O_DIRECTORY); err != nil && err != unix.ENOENT && err != unix.ENOTDIR {
			return err
		}
	}
	if src < 0 || root.Name() == e.volumeDir() {
		return ignoreMissing(os.Remove(mark))
	}
	defer unix.Close(src)
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return err
	}
	dst, err := os.Open(data)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := layer.CopyTree(context.Background(), src, int(dst.Fd())); err != nil {
		return errors.Join(err, clearDir(data), os.Remove(mark))
	}
	if empty, _ := emptyDir(data); !empty { // what is there without the mark must be complete, also after a power cut
		if err := unix.Syncfs(int(dst.Fd())); err != nil {
			return os.NewSyscallError("syncfs", err)
		}
	}
	return os.Remove(mark)
}

func clearDir(dir string) error {
	names, err := os.ReadDir(dir)
	for _, n := range names {
		if err == nil {
			err = os.RemoveAll(filepath.Join(dir, n.Name()))
		}
	}
	return err
}

// prepareMounts makes what a start needs: volumes that somebody took away by hand, sources of binds that -v makes.
func (e *Engine) prepareMounts(c *Container, layers []string) error {
	for _, m := range c.Mounts {
		if err := e.prepareMount(c, m, layers); err != nil {
			return err
		}
		if strings.HasSuffix(m.Propagation, "shared") || strings.HasSuffix(m.Propagation, "slave") {
			if err := canPropagate(m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Engine) prepareMount(c *Container, m Mount, layers []string) error {
	switch {
	case m.Type == "bind" && m.Make:
		if err := os.MkdirAll(m.Source, 0o755); err != nil && !errors.Is(err, syscall.ENOTDIR) {
			return fmt.Errorf("-v %s:%s: %w", m.Source, m.Destination, err)
		}
	case m.Type == "bind":
		if _, err := os.Stat(m.Source); err != nil {
			return fmt.Errorf("invalid mount config for type \"bind\": bind source path does not exist: %s", m.Source)
		}
	case m.Name != "":
		if _, err := os.Lstat(e.volumeDir(m.Name, "copying")); err == nil {
			if err := e.fillVolumes(c, layers); err != nil {
				return err
			}
		}
		if _, err := os.Stat(m.Source); err != nil {
			return fmt.Errorf("volume %s: %w", m.Name, err)
		}
	}
	return nil
}

// unescape undoes what mountinfo does to the characters that separate its fields.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// canPropagate refuses a propagation that would do nothing, as Docker does: what is mounted later below a source whose mount
// has no peers reaches no copy of it, and from a slave or private mount nothing gets out. See mount_namespaces(7).
func canPropagate(m Mount) error {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, m.Source, unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st); err != nil {
		return &os.PathError{Op: "statx", Path: m.Source, Err: err}
	}
	info, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	slave := strings.HasSuffix(m.Propagation, "slave")
	for line := range strings.Lines(string(info)) {
		// 36 35 98:0 /root /point rw,noatime shared:1 master:2 - ext3 /dev/root rw
		f := strings.Fields(line)
		if f[0] != strconv.FormatUint(st.Mnt_id, 10) {
			continue
		}
		for _, tag := range f[6:] {
			switch {
			case strings.HasPrefix(tag, "shared:") || slave && strings.HasPrefix(tag, "master:"):
				return nil
			case tag == "-" && slave:
				return fmt.Errorf("path %s is mounted on %s but it is not a shared or slave mount", m.Source, unescape.Replace(f[4]))
			case tag == "-":
				return fmt.Errorf("path %s is mounted on %s but it is not a shared mount", m.Source, unescape.Replace(f[4]))
			}
		}
	}
	return fmt.Errorf("path %s is on no mount of this mount namespace", m.Source) // above a chroot
}

// sortedMounts has parents before what is in them.
func sortedMounts(in []Mount) []Mount {
	out := slices.Clone(in)
	slices.SortStableFunc(out, func(a, b Mount) int {
		return strings.Count(path.Clean(a.Destination), "/") - strings.Count(path.Clean(b.Destination), "/")
	})
	return out
}
