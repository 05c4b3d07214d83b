package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

func (r *report) process() {
	r.pid, r.ppid = os.Getpid(), os.Getppid()
	r.argv, r.env = os.Args, len(os.Environ())
	r.uid, r.gid = os.Getuid(), os.Getgid()
	r.groups, _ = os.Getgroups()
	r.uidMap, r.gidMap = parseIDMap(read("/proc/self/uid_map")), parseIDMap(read("/proc/self/gid_map"))
	var u syscall.Utsname
	if syscall.Uname(&u) == nil {
		r.hostname, r.domainname = utsString(u.Nodename[:]), utsString(u.Domainname[:])
	}
}

// utsString takes both element types that Utsname has over the architectures.
func utsString[T int8 | uint8](f []T) string {
	var b []byte
	for _, c := range f {
		if c == 0 {
			break
		}
		b = append(b, byte(c))
	}
	return string(b)
}

func identity() string {
	b := []byte("uid=" + strconv.Itoa(os.Getuid()) + " gid=" + strconv.Itoa(os.Getgid()) + " groups=")
	groups, _ := os.Getgroups()
	for i, g := range groups {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(g), 10)
	}
	return string(b)
}

func parseIDMap(s string) []idMap {
	var maps []idMap
	for line := range strings.Lines(s) {
		if f := strings.Fields(line); len(f) == 3 {
			maps = append(maps, idMap{number(f[0]), number(f[1]), number(f[2])})
		}
	}
	return maps
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}

func readNamespaces() []namespace {
	names := [...]string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}
	ns := make([]namespace, len(names))
	for i, name := range names {
		ns[i].name = name
		// The link reads "pid:[4026531836]".
		if l, err := os.Readlink("/proc/self/ns/" + name); err == nil && len(l) > len(name)+3 {
			ns[i].inode = number(l[len(name)+2 : len(l)-1])
		}
	}
	return ns
}

// status takes capabilities, no_new_privs and seccomp from /proc/self/status.
func (r *report) status() {
	r.caps = [5]capSet{{name: "effective"}, {name: "permitted"}, {name: "inheritable"}, {name: "bounding"}, {name: "ambient"}}
	keys := [5]string{"CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"}
	for line := range strings.Lines(read("/proc/self/status")) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		for i, k := range keys {
			if k == key {
				r.caps[i].bits, _ = strconv.ParseUint(value, 16, 64)
			}
		}
		switch key {
		case "NoNewPrivs":
			r.noNewPrivs = value == "1"
		case "Seccomp":
			if n := number(value); n < 3 {
				r.seccomp = [...]string{"disabled", "strict", "filter"}[n]
			}
		case "Seccomp_filters":
			r.filters = int(number(value))
		}
	}
}

// capabilityNames is linux/capability.h in the order of its numbers, without the prefix CAP_.
const capabilityNames = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable " +
	"net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace " +
	"sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control " +
	"setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"

func capNames(bits uint64) []string {
	names := []string{}
	known := strings.Fields(capabilityNames)
	for i := range 64 {
		switch {
		case bits&(1<<i) == 0:
		case i < len(known):
			names = append(names, "CAP_"+strings.ToUpper(known[i]))
		default:
			names = append(names, "CAP_"+strconv.Itoa(i))
		}
	}
	return names
}
