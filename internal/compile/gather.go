package compile

import (
	"errors"
	"strings"

	"vitro/internal/cgroup"
	"vitro/internal/probe"
	"vitro/internal/safepath"
	"vitro/internal/spec"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Gather looks at the host for what Container needs to know. It changes nothing.
func Gather(in *Input) error {
	f := &in.Facts
	f.EUID, f.EGID = unix.Geteuid(), unix.Getegid()
	f.UserNS = in.Group != nil && in.Group.UserNS
	f.V2 = in.Group != nil && in.Group.Mode == cgroup.V2
	f.Rootfs = in.Spec.Root.Path
	if !strings.HasPrefix(f.Rootfs, "/") {
		f.Rootfs = in.Bundle + "/" + f.Rootfs
	}
	var st unix.Stat_t
	if in.RootFD < 0 {
		if err := unix.Stat(f.Rootfs, &st); err != nil {
			return errors.New("root.path (" + f.Rootfs + "): " + err.Error())
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return errors.New("root.path (" + f.Rootfs + "): not a directory")
		}
	}
	f.SourceDir = make([]bool, len(in.Spec.Mounts))
	for k := range in.Spec.Mounts {
		src := in.Spec.Mounts[k].Source
		if !strings.HasPrefix(src, "/") {
			src = in.Bundle + "/" + src
		}
		f.SourceDir[k] = true // where it is missing, the op that opens it says so
		if in.Spec.Mounts[k].Type == "bind" || hasBind(in.Spec.Mounts[k].Options) {
			if unix.Stat(src, &st) == nil {
				f.SourceDir[k] = st.Mode&unix.S_IFMT == unix.S_IFDIR
			}
		}
	}
	gatherTargets(in)
	gatherStdio(f)
	if err := gatherAppArmor(f, in.Spec.Process); err != nil {
		return err
	}
	f.Raises = raises(in.Spec.Process)
	if !hasHome(in.Spec.Process.Env) {
		f.Home = homeOf(in, in.Spec.Process.User.UID)
	}
	return nil
}

func hasBind(opts []string) bool {
	for _, o := range opts {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}

func gatherStdio(f *Facts) {
	for fd := range 3 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil {
			continue
		}
		f.StdioOpen[fd] = true
		f.StdioNull[fd] = st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
	}
}

// gatherAppArmor refuses a profile where nothing would apply it. On such a host everything is unconfined, so that may be asked for.
func gatherAppArmor(f *Facts, p *specs.Process) error {
	if p.ApparmorProfile == "" {
		return nil
	}
	f.AppArmor = probe.AppArmor()
	if !f.AppArmor && p.ApparmorProfile != unconfined {
		return errors.New("process.apparmorProfile (" + p.ApparmorProfile + "): AppArmor is not enabled on this host")
	}
	return nil
}

func raises(p *specs.Process) bool {
	var l unix.Rlimit
	for _, r := range p.Rlimits {
		if n, ok := spec.RlimitNumber(r.Type); ok && unix.Getrlimit(n, &l) == nil && r.Hard > l.Max {
			return true
		}
	}
	return false
}

func hasHome(env []string) bool {
	home := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "HOME="); ok {
			home = v
		}
	}
	return home != ""
}

// homeOf is the user's home in the rootfs' own passwd(5), "/" where there is none (runc #4688: never the host's).
func homeOf(in *Input, uid uint32) string {
	dir := in.RootFD
	if dir < 0 {
		fd, err := unix.Open(in.Facts.Rootfs, cloexecDir, 0)
		if err != nil {
			return "/"
		}
		defer unix.Close(fd)
		dir = fd
	}
	return homeAt(dir, uid)
}

func homeAt(root int, uid uint32) string {
	text, err := safepath.ReadFile(root, "etc/passwd", 8<<20)
	if err != nil {
		return "/"
	}
	want := itoa(int(uid))
	for line := range strings.Lines(string(text)) {
		p := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(p) >= 6 && p[2] == want && p[5] != "" {
			return p[5]
		}
	}
	return "/"
}
