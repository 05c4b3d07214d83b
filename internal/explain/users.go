package explain

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// IDRange is a line of a map: Count ids from Inside on are those from Outside on.
type IDRange struct{ Inside, Outside, Count uint32 }

// IDMap is uid_map or gid_map (user_namespaces(7)).
type IDMap []IDRange

func parseIDMap(text string) (m IDMap) {
	for line := range strings.Lines(text) {
		var r [3]uint32
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		for i := range r {
			n, _ := strconv.ParseUint(f[i], 10, 32)
			r[i] = uint32(n)
		}
		m = append(m, IDRange{r[0], r[1], r[2]})
	}
	return m
}

// overflowID is what the kernel shows for an id that is not mapped.
const overflowID = 65534

// inside translates an id of ours.
func (m IDMap) inside(id uint32) uint32 {
	for _, r := range m {
		if id >= r.Outside && uint64(id) < uint64(r.Outside)+uint64(r.Count) {
			return id - r.Outside + r.Inside
		}
	}
	return overflowID
}

// Users is who the process is on both sides.
type Users struct {
	Own       bool // a user namespace that is not the host's
	UIDs      IDMap
	GIDs      IDMap
	Setgroups string `json:",omitempty"` // allow or deny
	IDs       []IDPair
}

// IDPair is one id of the process.
type IDPair struct {
	What            string // "uid, effective"
	Inside, Outside uint32
	NameIn, NameOut string `json:",omitempty"`
}

// names maps ids to names by a passwd or group file.
type names map[uint32]string

// parseNames reads passwd(5) or group(5); the first name of an id counts.
func parseNames(b []byte) names {
	n := names{}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(line, ":", 4)
		if len(f) < 4 {
			continue
		}
		id, err := strconv.ParseUint(f[2], 10, 32)
		if _, ok := n[uint32(id)]; err == nil && !ok {
			n[uint32(id)] = f[0]
		}
	}
	return n
}

// resolveCached is RESOLVE_CACHED of openat2(2): fail with EAGAIN rather than ask a file system.
const resolveCached = 0x20

// maxNames bounds a passwd file, in bytes.
const maxNames = 1 << 20

// readNames reads a file below a root that is not ours: no symbolic link is followed, no other file system is entered,
// a FIFO is not waited for. Without the file there are numbers only.
func readNames(root int, path string, more uint64) names {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC | unix.O_NOATIME,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV | more,
	}
	fd, err := unix.Openat2(root, path, &how)
	if err == unix.EPERM { // O_NOATIME is the owner's
		how.Flags &^= unix.O_NOATIME
		fd, err = unix.Openat2(root, path, &how)
	}
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxNames {
		return nil
	}
	b := make([]byte, st.Size)
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		return nil
	}
	return parseNames(b[:n])
}

// loadNames reads the names of both sides. A root that answers slowly or never (FUSE, network) is not asked; nor is an overlay
// that nobody knows, which may be made of such folders: a process that waits for FUSE cannot even be killed. Of that one
// the names are read that the kernel has at hand.
func (t *target) loadNames() {
	t.usersOut, t.groupsOut = hostNames("etc/passwd"), hostNames("etc/group")
	root := t.rootMount()
	if root == nil || remote(root.Type) {
		return
	}
	more := uint64(0)
	if root.Type == "overlay" && !t.knownOverlay(root) {
		more = resolveCached
	}
	t.usersIn, t.groupsIn = readNames(t.root, "etc/passwd", more), readNames(t.root, "etc/group", more)
}

// knownOverlay: the host sees the mount, or its root is the upper folder that it claims to have on the host, by inode. The names of the
// folders alone say nothing: they are those of the mount namespace in which it was made.
func (t *target) knownOverlay(root *Mount) bool {
	if !root.Deleted && hostPath(t.hostMounts, root.Device, root.Root) != "" {
		return true
	}
	var r Root
	r.overlay(root.Super, nil)
	st, err := statFD(t.root)
	if err != nil || r.Upper == "" {
		return false
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, r.Upper, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	upper, err := statFD(fd)
	return err == nil && upper.Ino == st.Ino
}

// remote file systems are served by another process or machine.
func remote(fstype string) bool {
	name, _, _ := strings.Cut(fstype, ".")
	switch name {
	case "fuse", "fuseblk", "virtiofs", "9p", "nfs", "nfs4", "cifs", "smb3", "ceph", "afs", "autofs":
		return true
	}
	return false
}

func hostNames(path string) names {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	return readNames(fd, path, 0)
}

func (m *machine) users(t *target) Users {
	u := Users{Own: t.userNS(m), UIDs: t.uids, GIDs: t.gids, Setgroups: t.dir.text("setgroups")}
	what := []string{"real", "effective", "saved", "file system"}
	for i, id := range t.p.UID {
		in := t.uids.inside(id)
		u.IDs = append(u.IDs, IDPair{"uid, " + what[i], in, id, t.usersIn[in], t.usersOut[id]})
	}
	for i, id := range t.p.GID {
		in := t.gids.inside(id)
		u.IDs = append(u.IDs, IDPair{"gid, " + what[i], in, id, t.groupsIn[in], t.groupsOut[id]})
	}
	for _, id := range t.p.Groups {
		in := t.gids.inside(id)
		u.IDs = append(u.IDs, IDPair{"group", in, id, t.groupsIn[in], t.groupsOut[id]})
	}
	return u
}
