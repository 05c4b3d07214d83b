package snapshot

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is a mount as data. Options are one per string and are not escaped:
// a name may hold any byte.
type Mount struct {
	Type    string // overlay or bind
	Source  string
	Target  string // inside the root filesystem; empty for the root itself
	Options []string
}

// Form is the way in which the kernel was told of an overlay's folders.
type Form string

const (
	FormFD     Form = "fd"        // fsconfig(FSCONFIG_SET_FD), Linux 6.13
	FormAdd    Form = "lowerdir+" // fsconfig(FSCONFIG_SET_STRING, "lowerdir+"), Linux 6.7
	FormString Form = "string"    // mount(2), all in one page
	FormBind   Form = "bind"      // no overlay: open_tree(OPEN_TREE_CLONE)
)

// Open makes the mount, detached: it is in no mount namespace, and gone when
// the file is closed unless it was attached. It also returns the form taken.
func (m Mount) Open() (*os.File, Form, error) {
	switch m.Type {
	case "bind":
		f, err := m.openBind()
		return f, FormBind, err
	case "overlay":
		return m.openOverlay(FormFD, FormAdd, FormString)
	}
	return nil, "", fmt.Errorf("snapshot: mount type %q is not supported", m.Type)
}

// openOverlay tries the forms in turn; a newer form falls back to the next
// only if the kernel does not know it.
func (m Mount) openOverlay(forms ...Form) (*os.File, Form, error) {
	var f *os.File
	err := errors.New("no form")
	for _, form := range forms {
		if form == FormAdd && errors.Is(err, unix.EOPNOTSUPP) {
			continue // it would take any option, and fail at the end
		}
		if form == FormString {
			f, err = m.openString()
		} else {
			f, err = m.openFS(form)
		}
		if !errors.Is(err, errForm) {
			return f, form, err
		}
	}
	return nil, "", err
}

// errForm says that the kernel does not know a form.
var errForm = errors.New("not known to this kernel")

// openFS uses the mount API of Linux 5.2.
func (m Mount) openFS(form Form) (*os.File, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err == unix.ENOSYS {
		return nil, errForm
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot: fsopen overlay: %w", err)
	}
	defer unix.Close(fs)
	// The source is what mountinfo shows; overlayfs has none of its own.
	if err := unix.FsconfigSetString(fs, "source", m.Source); err != nil {
		return nil, fmt.Errorf("snapshot: overlay: %w", fsError(fs, err))
	}
	attr := 0
	for _, o := range m.Options {
		if o == "ro" {
			attr |= unix.MOUNT_ATTR_RDONLY
			continue
		}
		if err := setOption(fs, o, form); err != nil {
			return nil, fmt.Errorf("snapshot: overlay option %s: %w", o, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("snapshot: overlay: %w", fsError(fs, err))
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return nil, fmt.Errorf("snapshot: fsmount overlay: %w", fsError(fs, err))
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

// setOption passes one option. EINVAL for the first lowerdir+ (or its fd) is a
// kernel that is older than the form; EOPNOTSUPP for an fd one whose overlayfs
// is older than the mount API (6.5).
func setOption(fs int, o string, form Form) error {
	key, value, ok := strings.Cut(o, "=")
	if !ok {
		return fsError(fs, unix.FsconfigSetFlag(fs, key))
	}
	folder := isFolder(key)
	if !folder || form == FormAdd {
		err := unix.FsconfigSetString(fs, key, value)
		if folder && err == unix.EINVAL {
			return fmt.Errorf("%w (%w)", errForm, fsError(fs, err))
		}
		return fsError(fs, err)
	}
	fd, err := unix.Open(value, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err = unix.FsconfigSetFd(fs, key, fd); err == unix.EINVAL || err == unix.EOPNOTSUPP {
		return fmt.Errorf("%w (%w)", errForm, fsError(fs, err))
	}
	return fsError(fs, err)
}

func isFolder(key string) bool {
	return key == "lowerdir+" || key == "upperdir" || key == "workdir"
}

// fsError adds the last message of the file-system context, which says more
// than the errno ("overlay: workdir and upperdir must reside under …").
func fsError(fs int, err error) error {
	if err == nil {
		return nil
	}
	var last string
	buf := make([]byte, 4096)
	for {
		n, rerr := unix.Read(fs, buf)
		if rerr != nil || n <= 0 {
			break
		}
		// "e overlay: text": the first letter is the level.
		if msg := strings.TrimSpace(string(buf[:n])); len(msg) > 2 {
			last = msg[2:]
		}
	}
	if last == "" {
		return err
	}
	return fmt.Errorf("%s: %w", last, err)
}

// openString uses mount(2) at a folder of its own, for older kernels.
func (m Mount) openString() (_ *os.File, err error) {
	data, files, err := m.data()
	defer closeAll(files)
	if err != nil {
		return nil, err
	}
	var flags uintptr
	if slices.Contains(m.Options, "ro") {
		flags = unix.MS_RDONLY
	}
	at, err := os.MkdirTemp("", "vitro-overlay-")
	if err != nil {
		return nil, fmt.Errorf("snapshot: overlay: %w", err)
	}
	defer os.Remove(at)
	if err := unix.Mount(m.Source, at, "overlay", flags, data); err != nil {
		return nil, fmt.Errorf("snapshot: mount overlay: %w", err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	return openTree(at)
}

// data is the option string of mount(2). Folders appear as /proc/self/fd/N:
// short, and free of the characters that would need escapes.
func (m Mount) data() (string, []*os.File, error) {
	var files []*os.File
	var lowers, opts []string
	for _, o := range m.Options {
		key, value, _ := strings.Cut(o, "=")
		if !isFolder(key) {
			if o != "ro" {
				opts = append(opts, o)
			}
			continue
		}
		fd, err := unix.Open(value, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", files, fmt.Errorf("snapshot: overlay option %s: %w", o, err)
		}
		files = append(files, os.NewFile(uintptr(fd), value))
		if name := fmt.Sprintf("/proc/self/fd/%d", fd); key == "lowerdir+" {
			lowers = append(lowers, name)
		} else {
			opts = append(opts, key+"="+name)
		}
	}
	data := strings.Join(append([]string{"lowerdir=" + strings.Join(lowers, ":")}, opts...), ",")
	if len(data) >= os.Getpagesize() {
		return "", files, fmt.Errorf("snapshot: overlay: %d layers need %d bytes of mount options, this kernel takes %d; Linux 6.7 has no such limit",
			len(lowers), len(data), os.Getpagesize()-1)
	}
	return data, files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// openBind clones the tree at the source.
func (m Mount) openBind() (*os.File, error) {
	f, err := openTree(m.Source)
	if err != nil || !slices.Contains(m.Options, "ro") {
		return f, err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH, &attr); err != nil {
		f.Close()
		return nil, fmt.Errorf("snapshot: make %q read-only: %w", m.Source, err)
	}
	return f, nil
}

func openTree(path string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return nil, fmt.Errorf("snapshot: open_tree %q: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Attach moves a detached mount to target, an existing folder and no symlink.
// The file stays the caller's.
func Attach(tree *os.File, target string) error {
	at, err := unix.Open(target, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("snapshot: mount at %q: %w", target, err)
	}
	defer unix.Close(at)
	err = unix.MoveMount(int(tree.Fd()), "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("snapshot: mount at %q: move_mount: %w", target, err)
	}
	return nil
}

// Mount makes the mount and attaches it to target.
func (m Mount) Mount(target string) (Form, error) {
	tree, form, err := m.Open()
	if err != nil {
		return form, err
	}
	defer tree.Close()
	return form, Attach(tree, target)
}

// Unmount takes the mount at target out of the tree; the kernel ends it when
// its last user goes. It is no error if none is there.
func Unmount(target string) error {
	err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("snapshot: unmount %q: %w", target, err)
	}
	return nil
}
