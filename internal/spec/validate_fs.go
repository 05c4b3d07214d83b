package spec

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

func mounts(v *sections, _ ValidateOptions) error {
	for i := range v.Mounts {
		m := &v.Mounts[i]
		field := at("mounts", i)
		o, err := ParseMountOptions(m.Options)
		if err != nil {
			var bad *invalid
			errors.As(err, &bad)
			return &invalid{field + "." + bad.field, bad.msg}
		}
		bind := o.Bind || m.Type == "bind"
		switch {
		case m.Destination == "":
			return &invalid{field + ".destination", "must not be empty"}
		case hasNUL(m.Destination):
			return nul(field + ".destination")
		case hasNUL(m.Source):
			return nul(field + ".source")
		case hasNUL(m.Type):
			return nul(field + ".type")
		case bind && m.Source == "" && !o.Remount:
			return &invalid{field + ".source", "a bind mount needs a source"}
		case bind && o.TmpCopyUp:
			return &invalid{field + ".options", "tmpcopyup needs a tmpfs, got a bind mount"}
		case !bind && o.TmpCopyUp && m.Type != "tmpfs":
			return &invalid{field + ".options", "tmpcopyup needs a tmpfs, got " + strconv.Quote(m.Type)}
		case !bind && m.Type == "" && !o.Remount && len(o.Propagation) == 0:
			return &invalid{field + ".type", "must not be empty"}
		}
	}
	return nil
}

func paths(v *sections, _ ValidateOptions) error {
	if err := absolutes("linux.maskedPaths", v.linux.MaskedPaths); err != nil {
		return err
	}
	if err := absolutes("linux.readonlyPaths", v.linux.ReadonlyPaths); err != nil {
		return err
	}
	field := ""
	switch ns, _ := v.namespace(specs.MountNamespace); {
	case ns != nil:
	case len(v.linux.MaskedPaths) > 0:
		field = "linux.maskedPaths"
	case len(v.linux.ReadonlyPaths) > 0:
		field = "linux.readonlyPaths"
	}
	if field != "" {
		return &invalid{field, "unable to restrict sys entries without a private MNT namespace"} // runc's words
	}
	if hasNUL(v.linux.CgroupsPath) {
		return nul("linux.cgroupsPath")
	}
	return nil
}

// sysctls lets only those through that belong to a namespace of the container.
func sysctls(v *sections, _ ValidateOptions) error {
	for _, k := range sortedKeys(v.linux.Sysctl) {
		field := key("linux.sysctl", k)
		if _, ok := SysctlPath(k); !ok {
			return &invalid{field, "not the name of a sysctl"}
		}
		if hasNUL(v.linux.Sysctl[k]) {
			return nul(field)
		}
		name := SysctlKey(k)
		if _, twice := v.linux.Sysctl[name]; twice && name != k {
			return &invalid{field, "is set as " + name + " as well"}
		}
		has := func(t specs.LinuxNamespaceType) bool {
			ns, _ := v.namespace(t)
			return ns != nil
		}
		switch {
		case ipcSysctl(name):
			if !has(specs.IPCNamespace) {
				return &invalid{field, "not allowed in the host's ipc namespace"}
			}
		case strings.HasPrefix(name, "net."):
			if !has(specs.NetworkNamespace) {
				return &invalid{field, "not allowed in the host's network namespace"}
			}
		case name == "kernel.hostname":
			return &invalid{field, "conflicts with the field hostname"}
		case name == "kernel.domainname" && has(specs.UTSNamespace):
		default:
			return &invalid{field, "not in a separate kernel namespace"}
		}
	}
	return nil
}

func ipcSysctl(name string) bool {
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return true
	}
	return strings.HasPrefix(name, "fs.mqueue.")
}

// A device number has 12 bits for major and 20 for minor (linux/kdev_t.h).
const maxMajor, maxMinor = 1<<12 - 1, 1<<20 - 1

func devices(v *sections, _ ValidateOptions) error {
	for i := range v.linux.Devices {
		d := &v.linux.Devices[i]
		field := at("linux.devices", i)
		if err := absolute(field+".path", d.Path); err != nil {
			return err
		}
		switch {
		case d.Type != "c" && d.Type != "u" && d.Type != "b" && d.Type != "p":
			return &invalid{field + ".type", "want c, u, b or p, got " + strconv.Quote(d.Type)}
		case d.Type != "p" && (d.Major < 0 || d.Major > maxMajor):
			return outOfRange(field+".major", d.Major, 0, maxMajor)
		case d.Type != "p" && (d.Minor < 0 || d.Minor > maxMinor):
			return outOfRange(field+".minor", d.Minor, 0, maxMinor)
		case d.FileMode != nil && *d.FileMode&^0o177777 != 0:
			return &invalid{field + ".fileMode", "has bits beyond those of a file's mode"}
		case d.UID != nil && *d.UID == noID:
			return &invalid{field + ".uid", "4294967295 is not an id"}
		case d.GID != nil && *d.GID == noID:
			return &invalid{field + ".gid", "4294967295 is not an id"}
		}
	}
	return nil
}

func outOfRange(field string, n, lo, hi int64) error {
	return &invalid{field, strconv.FormatInt(n, 10) + " is out of range (" + strconv.FormatInt(lo, 10) + " to " + strconv.FormatInt(hi, 10) + ")"}
}

func resources(v *sections, _ ValidateOptions) error {
	const field = "linux.resources"
	if err := deviceRules(v.resources.Devices); err != nil {
		return err
	}
	for _, n := range [...]struct {
		field string
		value *int64
	}{
		{".memory.limit", v.memory.Limit},
		{".memory.reservation", v.memory.Reservation},
		{".memory.swap", v.memory.Swap},
	} {
		if n.value != nil && *n.value < -1 {
			return &invalid{field + n.field, strconv.FormatInt(*n.value, 10) + " is below -1 (no limit)"}
		}
	}
	m := v.memory
	switch {
	case m.Swap != nil && *m.Swap > 0 && m.Limit != nil && *m.Limit > *m.Swap:
		return &invalid{field + ".memory.swap", "memory and swap together (" + strconv.FormatInt(*m.Swap, 10) +
			") must not be below memory.limit (" + strconv.FormatInt(*m.Limit, 10) + ")"}
	case m.Swappiness != nil && *m.Swappiness > 200:
		return &invalid{field + ".memory.swappiness", strconv.FormatUint(*m.Swappiness, 10) + " is out of range (0 to 200)"}
	}
	if c := v.resources.CPU; c != nil {
		if bad := badList(c.Cpus); bad {
			return &invalid{field + ".cpu.cpus", "not a list of numbers and ranges: " + strconv.Quote(c.Cpus)}
		}
		if bad := badList(c.Mems); bad {
			return &invalid{field + ".cpu.mems", "not a list of numbers and ranges: " + strconv.Quote(c.Mems)}
		}
		if c.Idle != nil && *c.Idle != 0 && *c.Idle != 1 {
			return outOfRange(field+".cpu.idle", *c.Idle, 0, 1)
		}
	}
	for _, k := range sortedKeys(v.resources.Unified) {
		if dot := strings.IndexByte(k, '.'); dot <= 0 || strings.ContainsAny(k, "/\x00") {
			return &invalid{key(field+".unified", k), "want the name of a cgroup v2 file, such as memory.high"}
		}
	}
	return nil
}

func deviceRules(rules []specs.LinuxDeviceCgroup) error {
	for i := range rules {
		r := &rules[i]
		field := at("linux.resources.devices", i)
		switch {
		case r.Type != "" && r.Type != "a" && r.Type != "b" && r.Type != "c":
			return &invalid{field + ".type", "want a, b or c, got " + strconv.Quote(r.Type)}
		case r.Access == "" || strings.Trim(r.Access, "rwm") != "":
			return &invalid{field + ".access", "want some of r, w and m, got " + strconv.Quote(r.Access)}
		case r.Major != nil && (*r.Major < -1 || *r.Major > maxMajor):
			return outOfRange(field+".major", *r.Major, -1, maxMajor)
		case r.Minor != nil && (*r.Minor < -1 || *r.Minor > maxMinor):
			return outOfRange(field+".minor", *r.Minor, -1, maxMinor)
		}
	}
	return nil
}

// badList is true for what is not a list as cpuset(7) has it: "0-3,8,10-12".
func badList(list string) bool {
	if list == "" {
		return false
	}
	for item := range strings.SplitSeq(list, ",") {
		lo, hi, ranged := strings.Cut(strings.TrimSpace(item), "-")
		a, err := strconv.ParseUint(lo, 10, 31)
		if err != nil {
			return true
		}
		if b, err := strconv.ParseUint(hi, 10, 31); ranged && (err != nil || b < a) {
			return true
		}
	}
	return false
}
