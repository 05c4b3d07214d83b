package compile

import (
	"strings"

	"golang.org/x/sys/unix"
)

// gatherTargets finds mount points behind a link that leads nowhere, as images have them (/var/run, runc #4985): the folder that is missing is made where the
// link points to, inside the root. This is advice alone: the stub resolves what comes of it below the root by openat2, as any other path. What an earlier mount
// covers is not looked at.
func gatherTargets(in *Input) {
	root := -1
	mounts := in.Spec.Mounts
	if len(mounts) > maxOps/8 {
		return // refused later, and to compare each with each takes long
	}
	for k := range mounts {
		dest := clean(mounts[k].Destination)
		if m := &mounts[k]; m.Type == "proc" || m.Type == "sysfs" || m.Type == "tmpfs" && dest == "dev" || covered(in, k, dest) {
			continue
		}
		if root < 0 {
			root = in.RootFD
			if root < 0 {
				fd, err := unix.Open(in.Facts.Rootfs, cloexecDir, 0)
				if err != nil {
					return
				}
				defer unix.Close(fd)
				root = fd
			}
		}
		if to := behindLinks(root, dest); to != dest {
			if in.Facts.Targets == nil {
				in.Facts.Targets = make([]string, len(mounts))
			}
			in.Facts.Targets[k] = to
		}
	}
}

// covered tells whether dest is below a mount that is made before mount k.
func covered(in *Input, k int, dest string) bool {
	for n := range k {
		if strings.HasPrefix(dest, clean(in.Spec.Mounts[n].Destination)+"/") {
			return true
		}
	}
	return false
}

// behindLinks is path with every link resolved by its letters where the last of them leads nowhere, else path itself.
func behindLinks(root int, path string) string {
	fd, err := unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | cloexec, Resolve: uint64(inRoot)})
	if err == nil {
		unix.Close(fd)
	}
	if err != unix.ENOENT {
		return path
	}
	done, rest := "", path // done has no link in it
	buf := make([]byte, 4096)
	for links := 0; rest != "" && links < 40; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		next := clean(done + "/" + part)
		n, err := unix.Readlinkat(root, next, buf)
		if err != nil || n <= 0 || n == len(buf) { // no link, or not there yet
			done = next
			continue
		}
		links++
		to := string(buf[:n])
		if to[0] == '/' {
			done = "."
		}
		rest = strings.TrimSuffix(strings.TrimPrefix(to, "/")+"/"+rest, "/")
	}
	if rest != "" || done == "." {
		return path
	}
	return done
}
