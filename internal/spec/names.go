package spec

import (
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// capabilities(7), by number.
var capabilities = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// CapNumber is the number of a capability, such as CAP_KILL.
func CapNumber(name string) (int, bool) { return indexOf(capabilities[:], name) }

// CapName is the name of capability n, "" when there is none.
func CapName(n int) string {
	if n < 0 || n >= len(capabilities) {
		return ""
	}
	return capabilities[n]
}

// getrlimit(2), by number (amd64 and arm64).
var rlimits = [...]string{
	"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC", "RLIMIT_NOFILE",
	"RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
}

// RlimitNumber is the number of a resource limit, such as RLIMIT_NOFILE.
func RlimitNumber(name string) (int, bool) { return indexOf(rlimits[:], name) }

// RlimitName is the name of resource limit n, "" when there is none.
func RlimitName(n int) string {
	if n < 0 || n >= len(rlimits) {
		return ""
	}
	return rlimits[n]
}

// signal(7), by number (amd64 and arm64).
var signals = [...]string{
	1: "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
	"STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
}

// The real-time signals as glibc counts them: the kernel's first two are its own.
const rtmin, rtmax = 34, 64

// SignalNumber is the number of a signal: "9", "KILL", "sigkill", "SIGRTMIN+3".
// 0 is a number (it probes), but no name.
func SignalNumber(name string) (int, bool) {
	if n, err := strconv.ParseUint(name, 10, 8); err == nil {
		return int(n), n <= rtmax
	}
	name = strings.TrimPrefix(strings.ToUpper(name), "SIG")
	switch name {
	case "":
		return 0, false
	case "IOT":
		return 6, true
	case "CLD":
		return 17, true
	case "POLL":
		return 29, true
	}
	if rest, ok := strings.CutPrefix(name, "RTMIN"); ok {
		return realTime(rest, '+', rtmin, 1)
	}
	if rest, ok := strings.CutPrefix(name, "RTMAX"); ok {
		return realTime(rest, '-', rtmax, -1)
	}
	return indexOf(signals[:], name)
}

func realTime(rest string, sign byte, base, step int) (int, bool) {
	if rest == "" {
		return base, true
	}
	n, err := strconv.ParseUint(rest[1:], 10, 8)
	return base + step*int(n), err == nil && rest[0] == sign && n <= rtmax-rtmin
}

// SignalName is the name of signal n, such as SIGKILL or SIGRTMIN+3, "" when there is none.
func SignalName(n int) string {
	switch {
	case n > 0 && n < len(signals):
		return "SIG" + signals[n]
	case n == rtmin:
		return "SIGRTMIN"
	case n > rtmin && n <= rtmax:
		return "SIGRTMIN+" + strconv.Itoa(n-rtmin)
	}
	return ""
}

func indexOf(names []string, name string) (int, bool) {
	for i, n := range names {
		if n == name && n != "" {
			return i, true
		}
	}
	return 0, false
}

// CloneFlag is the CLONE_NEW… flag of a namespace type, see namespaces(7).
func CloneFlag(t specs.LinuxNamespaceType) (uint64, bool) {
	switch t {
	case specs.TimeNamespace:
		return 0x80, true
	case specs.MountNamespace:
		return 0x20000, true
	case specs.CgroupNamespace:
		return 0x2000000, true
	case specs.UTSNamespace:
		return 0x4000000, true
	case specs.IPCNamespace:
		return 0x8000000, true
	case specs.UserNamespace:
		return 0x10000000, true
	case specs.PIDNamespace:
		return 0x20000000, true
	case specs.NetworkNamespace:
		return 0x40000000, true
	}
	return 0, false
}

// NamespaceFile is the name of a namespace type's file in /proc/PID/ns.
func NamespaceFile(t specs.LinuxNamespaceType) string {
	switch t {
	case specs.MountNamespace:
		return "mnt"
	case specs.NetworkNamespace:
		return "net"
	}
	return string(t)
}

// SysctlKey is a sysctl's name with dots. As in sysctl(8), the first separator
// of key tells which of '.' and '/' parts: net/ipv4/conf/eth0.1/forwarding is
// net.ipv4.conf.eth0/1.forwarding.
func SysctlKey(key string) string {
	if i := strings.IndexAny(key, "./"); i < 0 || key[i] == '.' {
		return key
	}
	return swapSeparators(key)
}

// SysctlPath is the path of a sysctl below /proc/sys; false for a key that
// would leave it or that has an empty part.
func SysctlPath(key string) (string, bool) {
	p := swapSeparators(SysctlKey(key))
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." || strings.IndexByte(part, 0) >= 0 {
			return "", false
		}
	}
	return p, true
}

func swapSeparators(s string) string {
	b := []byte(s)
	for i, c := range b {
		switch c {
		case '.':
			b[i] = '/'
		case '/':
			b[i] = '.'
		}
	}
	return string(b)
}
