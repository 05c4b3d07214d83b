package testenv

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A View is what can be left on a machine: names that a person would look for, each with the text in which a run may
// be recognised (for a process: its mounts and environment).
type View map[string]string

// Look takes a View of this machine.
func Look() View {
	v := View{}
	v.mounts()
	v.cgroups()
	v.links()
	v.folders()
	v.processes()
	return v
}

// Since lists what is in v, not in before, and is recognised by mine.
func (v View) Since(before View, mine func(string) bool) (found []string) {
	for name, text := range v {
		if _, old := before[name]; !old && (mine(name) || mine(text)) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

func (v View) mounts() {
	for line := range strings.Lines(readString("/proc/self/mountinfo")) {
		// The mount id alone tells two mounts on the same target apart, but ids are used again.
		if f := strings.Fields(line); len(f) > 6 {
			v["mount "+f[4]+" (id "+f[0]+")"] = line
		}
	}
}

func (v View) cgroups() {
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			v["cgroup "+path] = ""
		}
		return nil
	})
}

func (v View) links() {
	entries, _ := os.ReadDir("/sys/class/net")
	for _, e := range entries {
		v["link "+e.Name()] = ""
	}
}

func (v View) folders() {
	for _, dir := range []string{"/run/vitrun", "/run/vitro/*", "/var/lib/vitro/*", "/run/netns"} {
		names, _ := filepath.Glob(dir + "/*")
		for _, n := range names {
			v["folder "+n] = ""
		}
	}
}

// processes remembers where each one's mounts come from and what it was started with; a container's init shows
// nothing of its bundle but that.
func (v View) processes() {
	entries, _ := os.ReadDir("/proc")
	own := readString("/proc/self/mountinfo")
	self := strconv.Itoa(os.Getpid())
	for _, e := range entries {
		pid := e.Name()
		if pid[0] < '1' || pid[0] > '9' || pid == self {
			continue
		}
		text := readString("/proc/"+pid+"/cgroup") + readString("/proc/"+pid+"/environ")
		if mounts := readString("/proc/" + pid + "/mountinfo"); mounts != own {
			text += mounts
		}
		v["process "+describe(pid)] = text
	}
}
