package explain

import (
	"encoding/binary"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mount is a line of mountinfo (proc_pid_mountinfo(5)), and what it is.
type Mount struct {
	ID, Parent int
	Device     string   // "8:1"
	Root       string   // folder of the file system that is mounted
	Point      string   // as the process sees it
	Options    []string // of the mount
	Tags       []string `json:",omitempty"` // shared:N, master:N, propagate_from:N, unbindable
	Type       string
	Source     string
	Super      string // options of the file system

	HostPath string `json:",omitempty"` // the same file or folder on the host
	Deleted  bool   `json:",omitempty"` // nothing has the name Root any more
	Class    string `json:",omitempty"` // root, volume, bind, device, mask, read-only, engine file, kernel, memory
}

// Layer is a read-only folder that the root file system is made of.
type Layer struct {
	Digest string `json:",omitempty"` // diff ID; "": not known
	Size   int64  `json:",omitempty"` // bytes of file content
	Path   string
}

// Mounts is how the file tree of a process came about.
type Mounts struct {
	Root  Root
	Table []Mount
}

// Root is how "/" came about.
type Root struct {
	Entry   string  // pivot_root, move, chroot, host, …: see machine.entry
	Why     string  // what says so
	Type    string  // file system
	Layers  []Layer `json:",omitempty"` // topmost first
	Upper   string  `json:",omitempty"`
	Work    string  `json:",omitempty"`
	Device  string
	Inode   uint64
	Outside string `json:",omitempty"` // path of the same folder on the host
	Proven  bool   // device and inode of Outside were compared
}

// Propagation says with whom mounts and unmounts below m are exchanged (mount_namespaces(7)).
func (m *Mount) Propagation() string {
	var out []string
	for _, t := range m.Tags {
		k, v, _ := strings.Cut(t, ":")
		switch k {
		case "shared":
			out = append(out, "shared "+v)
		case "master":
			out = append(out, "slave of "+v)
		case "unbindable":
			out = append(out, "unbindable")
		}
	}
	if out == nil {
		return "private"
	}
	return strings.Join(out, ", ")
}

func (m *Mount) has(option string) bool { return slices.Contains(m.Options, option) }

func parseMounts(text string) (out []Mount) {
	for line := range strings.Lines(text) {
		left, right, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		f, g := strings.Fields(left), strings.SplitN(right, " ", 3)
		if !ok || len(f) < 6 || len(g) < 3 {
			continue
		}
		root, deleted := strings.CutSuffix(unoctal(f[3]), "//deleted") // no path has two slashes
		out = append(out, Mount{
			ID: atoi(f[0]), Parent: atoi(f[1]), Device: f[2], Root: root, Deleted: deleted, Point: unoctal(f[4]),
			Options: strings.Split(f[5], ","), Tags: f[6:], Type: unoctal(g[0]), Source: unoctal(g[1]), Super: unoctal(g[2]),
		})
	}
	return out
}

// unoctal undoes \040 and the like.
func unoctal(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// rootMount is the mount that the process has as "/": the last one there is the topmost.
func (t *target) rootMount() *Mount {
	for i := len(t.mounts) - 1; i >= 0; i-- {
		if t.mounts[i].Point == "/" {
			return &t.mounts[i]
		}
	}
	return nil
}

func (m *machine) explainMounts(t *target, o Options) *Mounts {
	out := &Mounts{Root: m.rootOf(t, o), Table: t.mounts}
	shared := t.p.NS[KindMnt] == m.self.NS[KindMnt]
	for i := range out.Table {
		mt := &out.Table[i]
		switch {
		case shared:
			mt.HostPath = mt.Point
		case !mt.Deleted:
			mt.HostPath = hostPath(t.hostMounts, mt.Device, mt.Root)
		}
		mt.Class = classify(mt, o.Volumes, shared)
	}
	return out
}

// hostPath finds where the host has the folder root of a file system: the mount that holds most of the path, and of two
// the later one. What is mounted over it there is not looked at.
func hostPath(host []Mount, device, root string) string {
	best, found := "", -1
	for i := range host {
		h := &host[i]
		if h.Device != device || h.Deleted {
			continue
		}
		if rest, ok := below(h.Root, root); ok && len(h.Root) >= found {
			found, best = len(h.Root), path.Join(h.Point, rest)
		}
	}
	return best
}

// below is the part of p under dir.
func below(dir, p string) (string, bool) {
	if dir == "/" {
		return p, true
	}
	rest, ok := strings.CutPrefix(p, dir)
	return rest, ok && (rest == "" || rest[0] == '/')
}

var engineFiles = []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv", "/.dockerenv", "/dev/shm"}

// madeByEngine: engines keep these under the last part of their name in a folder of the container (…/userdata/hosts), or as
// nothing that the host sees. Another file of the host that was put there is a bind as any other.
func madeByEngine(m *Mount) bool {
	return slices.Contains(engineFiles, m.Point) && (m.HostPath == "" || m.HostPath != m.Point && path.Base(m.HostPath) == path.Base(m.Point))
}

// classify says what a mount is for. Shared: the process has the host's mounts, so that all are seen there.
func classify(m *Mount, volumes []string, shared bool) string {
	memory := (m.Type == "tmpfs" || m.Type == "ramfs") && m.Root == "/"
	switch {
	case m.Point == "/":
		return "root"
	case m.Root == "/null" && m.Point != "/dev/null" && (m.Type == "devtmpfs" || m.Type == "tmpfs"), // of the host's /dev, or of the container's own
		m.Type == "tmpfs" && m.has("ro") && (strings.HasPrefix(m.Point, "/proc/") || strings.HasPrefix(m.Point, "/sys/")) && m.Point != "/sys/fs/cgroup":
		return "mask"
	case m.Type == "devtmpfs" && m.Root != "/", m.Type == "devpts" && m.Root != "/":
		return "device"
	case m.Type == "proc" && m.Root != "/" && m.has("ro"):
		return "read-only"
	case slices.Contains([]string{"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "securityfs", "debugfs", "tracefs", "bpf", "nsfs", "devtmpfs"}, m.Type):
		return "kernel"
	case memory && (shared || m.HostPath == "" || madeByEngine(m)):
		return "memory"
	case madeByEngine(m):
		return "engine file"
	case m.HostPath != "" && isVolume(m.HostPath, volumes):
		return "volume"
	case m.Root != "/" || m.HostPath != "":
		return "bind"
	}
	return "mount"
}

func isVolume(p string, volumes []string) bool {
	for _, v := range append([]string{"/var/lib/docker/volumes", "/var/lib/containers/storage/volumes"}, volumes...) {
		if strings.HasPrefix(p, strings.TrimSuffix(v, "/")+"/") {
			return true
		}
	}
	return false
}

func (m *machine) rootOf(t *target, o Options) Root {
	r := Root{}
	mt := t.rootMount()
	st, err := statFD(t.root)
	if err == nil {
		r.Device, r.Inode = fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor), st.Ino
	}
	r.Entry, r.Why = m.entry(t, mt)
	if mt == nil { // chroot into a folder that is no mount point: the link is a path of its mount namespace
		r.Outside = t.dir.readlink("root")
		if t.p.NS[KindMnt] != m.self.NS[KindMnt] {
			r.Outside = ""
		}
	} else {
		r.Type = mt.Type
		if !mt.Deleted {
			r.Outside = hostPath(t.hostMounts, mt.Device, mt.Root)
		}
		if mt.Type == "overlay" {
			r.overlay(mt.Super, o.Layers)
		}
	}
	if r.Outside != "" && err == nil {
		r.Proven = sameFile(r.Outside, &st)
	}
	return r
}

// statFD does not ask a server: a dead FUSE or NFS mount cannot hold us.
func statFD(fd int) (unix.Statx_t, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_INO|unix.STATX_TYPE, &st)
	return st, err
}

func sameFile(p string, want *unix.Statx_t) bool {
	fd, err := unix.Openat2(unix.AT_FDCWD, p, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	st, err := statFD(fd)
	return err == nil && st.Ino == want.Ino && st.Dev_major == want.Dev_major && st.Dev_minor == want.Dev_minor
}

// overlay reads the folders from the options of the file system. lowerdir+ and datadir+ come once for each folder; in lowerdir a
// colon or comma of a name has a backslash.
func (r *Root) overlay(super string, layers func([]string) []Layer) {
	var lower []string
	for _, o := range splitEscaped(super, ',') {
		k, v, _ := strings.Cut(o, "=")
		switch k {
		case "lowerdir":
			for _, d := range splitEscaped(v, ':') {
				if d != "" { // "::" separates data-only layers
					lower = append(lower, plainPath(d))
				}
			}
		case "lowerdir+", "datadir+":
			lower = append(lower, plainPath(v))
		case "upperdir":
			r.Upper = plainPath(v)
		case "workdir":
			r.Work = plainPath(v)
		}
	}
	if layers != nil {
		r.Layers = layers(lower)
	}
	if len(r.Layers) != len(lower) {
		r.Layers = nil
		for _, d := range lower {
			r.Layers = append(r.Layers, Layer{Path: d})
		}
	}
}

func splitEscaped(s string, sep byte) (out []string) {
	from := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			out = append(out, s[from:i])
			from = i + 1
		}
	}
	return append(out, s[from:])
}

func plainPath(s string) string {
	return strings.NewReplacer(`\\`, `\`, `\:`, ":", `\,`, ",").Replace(s)
}

// entry finds out how the process came to its root. The mounts of a namespace that cannot be reached from a process's root
// are not in its mountinfo; statmount(2) knows them.
func (m *machine) entry(t *target, root *Mount) (entry, why string) {
	own := t.p.NS[KindMnt] != m.host[KindMnt]
	switch {
	case root == nil:
		return "chroot", "its root is no mount point of its mount namespace"
	case t.root < 0:
		return "unknown", "its root may not be looked at"
	case isOurRoot(t.root) && own:
		return "host", "a mount namespace of its own, and the host's root in it"
	case isOurRoot(t.root):
		return "host", "the host's mount namespace and root"
	case !own:
		return "chroot", "the host's mount namespace, and another root in it"
	}
	depth, ok := t.mountDepth()
	switch {
	case !ok:
		return "pivot_root or move", "its root is a mount of its own namespace; this kernel (before 6.8) does not tell more"
	case depth > 1:
		return "move", "its root was moved over the host's, which is still below it (--no-pivot)"
	}
	return "pivot_root", "its root is the root of its mount namespace; nothing is below it"
}

func isOurRoot(root int) bool {
	ours, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(ours)
	a, err1 := statFD(ours)
	b, err2 := statFD(root)
	return err1 == nil && err2 == nil && a.Ino == b.Ino && a.Dev_major == b.Dev_major && a.Dev_minor == b.Dev_minor
}

// mountDepth counts the mounts on which the root's mount is stacked: one is the kernel's hidden rootfs. The question is put
// from inside the namespace, on a thread of its own that opens nothing there (asking by the namespace's id fails with ENOENT
// on 6.18).
func (t *target) mountDepth() (depth int, ok bool) {
	ns, err := openat(t.dir.fd, "ns/mnt", unix.O_RDONLY)
	if err != nil {
		return 0, false
	}
	defer unix.Close(ns)
	var st unix.Statx_t
	err = unix.Statx(t.root, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID_UNIQUE, &st)
	if err != nil || st.Mask&unix.STATX_MNT_ID_UNIQUE == 0 {
		return 0, false
	}
	inThread(func() {
		if unix.Unshare(unix.CLONE_FS) == nil && unix.Setns(ns, unix.CLONE_NEWNS) == nil {
			depth, ok = stacked(st.Mnt_id)
		}
	})
	return depth, ok
}

// stacked follows a mount of this thread's namespace to the one that is its own parent.
func stacked(mount uint64) (depth int, ok bool) {
	const mntBasic = 2 // STATMOUNT_MNT_BASIC
	req := struct {    // struct mnt_id_req
		size, spare  uint32
		mount, param uint64
	}{size: 24, mount: mount, param: mntBasic}
	for depth = 0; depth < 100; depth++ {
		var out [512]byte // struct statmount: mnt_id at 40, mnt_parent_id at 48
		if _, _, errno := unix.Syscall6(unix.SYS_STATMOUNT, uintptr(unsafe.Pointer(&req)), uintptr(unsafe.Pointer(&out)), uintptr(len(out)), 0, 0, 0); errno != 0 {
			return 0, false
		}
		parent := binary.NativeEndian.Uint64(out[48:])
		if parent == req.mount {
			return depth, true
		}
		req.mount = parent
	}
	return 0, false
}

// inThread runs f on a thread that ends with it, so what f changes of the thread (namespaces) is nobody else's. The first
// thread does not end with its goroutine, and is what /proc/self shows: it is kept busy meanwhile.
func inThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			inThread(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}
