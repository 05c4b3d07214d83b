package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// etcLimit bounds what is read of an image's passwd and group.
const etcLimit = 8 << 20

// lookupUser resolves USER[:GROUP] with the container's own passwd and group, read through root, a folder's fd. It also
// gives the home folder. more are further groups, by name or number.
func lookupUser(root int, who string, more ...string) (specs.User, string, error) {
	passwd, err := readInRoot(root, "/etc/passwd")
	if err != nil {
		return specs.User{}, "", fmt.Errorf("user %q: /etc/passwd: %w", who, err)
	}
	group, err := readInRoot(root, "/etc/group")
	if err != nil {
		return specs.User{}, "", fmt.Errorf("user %q: /etc/group: %w", who, err)
	}
	eu, err := user.GetExecUser(who, &user.ExecUser{Home: "/"}, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return specs.User{}, "", err
	}
	for _, id := range append([]int{eu.Uid, eu.Gid}, eu.Sgids...) {
		if id < 0 || int64(id) >= math.MaxUint32 { // cut to 32 bits, it could be root's
			return specs.User{}, "", fmt.Errorf("user %q: id %d in the container's passwd or group is out of range", who, id)
		}
	}
	u := specs.User{UID: uint32(eu.Uid), GID: uint32(eu.Gid)}
	// Docker's daemon puts the primary group into the list, too (CVE-2022-36109).
	u.AdditionalGids = append(u.AdditionalGids, u.GID)
	if name, g, ok := strings.Cut(who, ":"); !ok || g == "" || name == "" {
		for _, g := range eu.Sgids {
			if uint32(g) != u.GID {
				u.AdditionalGids = append(u.AdditionalGids, uint32(g))
			}
		}
	}
	if len(more) == 0 {
		return u, eu.Home, nil
	}
	gids, err := user.GetAdditionalGroups(more, bytes.NewReader(group))
	if err != nil {
		return specs.User{}, "", fmt.Errorf("--group-add: %w", err)
	}
	for _, g := range gids {
		if int64(g) >= math.MaxUint32 {
			return specs.User{}, "", fmt.Errorf("--group-add: id %d is out of range", g)
		}
		if !slices.Contains(u.AdditionalGids, uint32(g)) {
			u.AdditionalGids = append(u.AdditionalGids, uint32(g))
		}
	}
	return u, eu.Home, nil
}

// readInRoot reads a file as a process whose root is the given folder would find it: absolute links and .. stay inside.
// A missing file is empty.
func readInRoot(root int, path string) ([]byte, error) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	var fd int
	var err error
	for range 128 { // EAGAIN: somebody renames or mounts while a .. is resolved
		if fd, err = unix.Openat2(root, path, &how); err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	if errors.Is(err, fs.ErrNotExist) || err == unix.ENOTDIR {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return io.ReadAll(io.LimitReader(f, etcLimit))
}

// boundingSet is this process's, as a mask.
func boundingSet() uint64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "\nCapBnd:\t")
	hex, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.ParseUint(hex, 16, 64)
	return n
}
