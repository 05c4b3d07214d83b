package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"vitro/internal/spec"
)

// Docker's defaults as tables (moby: daemon/pkg/oci/defaults.go, caps/defaults.go).

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const shmSize = 64 << 20 // bytes

var defaultCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

var maskedPaths = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
	"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
}

var readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}

func defaultMounts() []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprint("size=", shmSize)}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
	}
}

func defaultDevices() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range [][2]int64{{1, 5}, {1, 3}, {1, 9}, {1, 8}, {5, 0}, {5, 1}} { // zero, null, urandom, random, tty, console
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &d[0], Minor: &d[1], Access: "rwm"})
	}
	return rules
}

// capabilities is Docker's default set with --cap-add and --cap-drop applied. ALL means every one that the kernel has;
// names come in any case, with or without CAP_.
func capabilities(add, drop []string) ([]string, error) {
	norm := func(flag string, in []string) (out []string, all bool, err error) {
		for _, c := range in {
			n := strings.ToUpper(c)
			if n == "ALL" || n == "CAP_ALL" {
				all = true
				continue
			}
			if !strings.HasPrefix(n, "CAP_") {
				n = "CAP_" + n
			}
			if _, ok := spec.CapNumber(n); !ok {
				return nil, false, fmt.Errorf("invalid %s: unknown capability: %q", flag, n)
			}
			out = append(out, n)
		}
		return out, all, nil
	}
	adds, addAll, err := norm("CapAdd", add)
	if err != nil {
		return nil, err
	}
	drops, dropAll, err := norm("CapDrop", drop)
	if err != nil {
		return nil, err
	}
	base := defaultCaps
	switch {
	case addAll: // wins over dropping all, as in Docker: drops are taken out of it one by one
		base = allCaps()
	case dropAll:
		base = nil
	}
	caps := slices.DeleteFunc(slices.Clone(base), func(c string) bool { return slices.Contains(drops, c) })
	for _, c := range adds {
		if !slices.Contains(caps, c) {
			caps = append(caps, c)
		}
	}
	return caps, nil
}

// allCaps are those in the bounding set of this process: others could not be given.
func allCaps() (out []string) {
	bounding := boundingSet()
	for n := 0; spec.CapName(n) != ""; n++ {
		if bounding&(1<<n) != 0 {
			out = append(out, spec.CapName(n))
		}
	}
	return out
}
