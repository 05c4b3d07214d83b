package explain

import (
	"slices"
	"strings"
	"testing"
)

// What comes from the host is judged, whatever it lies on and however the rest of the container is closed.
func TestBindsAreJudged(t *testing.T) {
	rw, ro := []string{"rw"}, []string{"ro"}
	for _, c := range []struct {
		name        string
		mount       Mount
		class, want string // want "": nothing found
	}{
		{"the host's /run is a tmpfs", Mount{Root: "/", Point: "/r", Type: "tmpfs", HostPath: "/run", Options: rw}, "bind", "It writes to /run of the host: programs"},
		{"one of its own", Mount{Root: "/", Point: "/r", Type: "tmpfs", Options: rw}, "memory", ""},
		{"an engine's /dev/shm", Mount{Root: "/", Point: "/dev/shm", Type: "tmpfs", HostPath: "/var/lib/docker/containers/x/mounts/shm", Options: rw}, "memory", ""},
		{"the host's", Mount{Root: "/", Point: "/dev/shm", Type: "tmpfs", HostPath: "/dev/shm", Options: rw}, "bind", "It writes to /dev/shm of the host."},
		{"a file for /etc/hosts", Mount{Root: "/srv/key", Point: "/etc/hosts", Type: "ext4", HostPath: "/srv/key", Options: rw}, "bind", "It writes to /srv/key of the host."},
		{"the host's own", Mount{Root: "/etc/hosts", Point: "/etc/hosts", Type: "ext4", HostPath: "/etc/hosts", Options: rw}, "bind", "It writes to /etc/hosts of the host: programs"},
		{"the engine's", Mount{Root: "/x/hosts", Point: "/etc/hosts", Type: "ext4", HostPath: "/x/hosts", Options: rw}, "engine file", ""},
		{"a file called null", Mount{Root: "/null", Point: "/x", Type: "ext4", HostPath: "/srv/null", Options: rw}, "bind", "It writes to /srv/null of the host."},
		{"/dev/null", Mount{Root: "/null", Point: "/x", Type: "devtmpfs", HostPath: "/dev/null", Options: rw}, "mask", ""},
		{"below a trusted folder", Mount{Root: "/etc/cron.d", Point: "/x", Type: "ext4", HostPath: "/etc/cron.d", Options: rw}, "bind", "It writes to /etc/cron.d of the host: programs"},
		{"root's keys", Mount{Root: "/root/.ssh", Point: "/x", Type: "ext4", HostPath: "/root/.ssh", Options: rw}, "bind", "It writes to /root/.ssh of the host: programs"},
		{"beside one", Mount{Root: "/etcetera", Point: "/x", Type: "ext4", HostPath: "/etcetera", Options: rw}, "bind", "It writes to /etcetera of the host."},
		{"the host's /proc", Mount{Root: "/", Point: "/x", Type: "proc", HostPath: "/proc", Options: rw}, "kernel", "It has the host's /proc at /x: it sees the host's processes, and writes settings"},
		{"read-only", Mount{Root: "/", Point: "/x", Type: "proc", HostPath: "/proc", Options: ro}, "kernel", "It has the host's /proc at /x: it sees the host's processes."},
		{"a part of it", Mount{Root: "/sys/kernel", Point: "/x", Type: "proc", HostPath: "/proc/sys/kernel", Options: rw}, "kernel", "It can write to /proc/sys/kernel"},
		{"the root of a hierarchy", Mount{Root: "/", Point: "/x", Type: "cgroup", HostPath: "/sys/fs/cgroup/memory", Options: rw}, "kernel", "It can write to the host's cgroups at /x"},
		{"its own cgroup", Mount{Root: "/vitro-1", Point: "/x", Type: "cgroup", HostPath: "/sys/fs/cgroup/memory/vitro-1", Options: rw}, "kernel", ""},
	} {
		if got := classify(&c.mount, nil, false); got != c.class {
			t.Errorf("%s: class %q, want %q", c.name, got, c.class)
		}
		c.mount.Class = c.class
		j := judge{f: &Facts{Mounts: &Mounts{Table: []Mount{
			{Root: "/", Point: "/proc", Type: "proc", Options: rw},
			{Root: "/sys", Point: "/proc/sys", Type: "proc", Options: ro},
			c.mount,
		}}}, host: map[string]bool{}}
		j.mounts()
		if c.want == "" && len(j.out) > 0 || c.want != "" && !slices.ContainsFunc(j.out, func(f Finding) bool { return strings.HasPrefix(f.What, c.want) }) {
			t.Errorf("%s: %v, want %q", c.name, j.out, c.want)
		}
	}
}

func TestRawRule(t *testing.T) {
	for rule, want := range map[string]string{
		"b 7:0 rwm": "the block device 7:0", "b *:* r": "every block device", "b *:* m": "", "c 1:3 rwm": "", "a *:* rwm": "", "": "",
		"c 1:1 r": "the memory or ports of the machine (character device 1:1)", "c 136:* rwm": "",
	} {
		if got, ok := rawRule(rule); got != want || ok != (want != "") {
			t.Errorf("%q: %q, want %q", rule, got, want)
		}
	}
}
