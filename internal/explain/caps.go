package explain

import (
	"fmt"
	"math/bits"
	"strings"
)

// CapSet is a set of capabilities as the kernel has it: bit n is capability n.
type CapSet uint64

// CapSets are the five sets of a process (capabilities(7)).
type CapSets struct{ Inheritable, Permitted, Effective, Bounding, Ambient CapSet }

func (c *CapSets) set(name string, s CapSet) {
	switch name {
	case "Inh":
		c.Inheritable = s
	case "Prm":
		c.Permitted = s
	case "Eff":
		c.Effective = s
	case "Bnd":
		c.Bounding = s
	case "Amb":
		c.Ambient = s
	}
}

// capability is a name, and what it lets a process do; risk is what a container could do to the host with it.
type capability struct{ name, allows string }

// capabilities by number.
var capabilities = [...]capability{
	{"CHOWN", "change owner and group of any file"},
	{"DAC_OVERRIDE", "read, write and enter files whatever their mode says"},
	{"DAC_READ_SEARCH", "read any file, and open files by handle: every file of the file system that it is on"},
	{"FOWNER", "act as the owner of any file: modes, times, attributes"},
	{"FSETID", "keep set-user-ID and set-group-ID bits on files that change"},
	{"KILL", "send signals to processes of other users"},
	{"SETGID", "take any group id"},
	{"SETUID", "take any user id"},
	{"SETPCAP", "drop capabilities of the bounding set, set securebits"},
	{"LINUX_IMMUTABLE", "set and clear the immutable and append-only flags of files"},
	{"NET_BIND_SERVICE", "listen on ports below 1024"},
	{"NET_BROADCAST", "(nothing: not used by the kernel)"},
	{"NET_ADMIN", "configure links, addresses, routes and firewall of its network namespace"},
	{"NET_RAW", "raw and packet sockets: ping, but also forged and sniffed packets on its network"},
	{"IPC_LOCK", "lock memory without limit"},
	{"IPC_OWNER", "use System V IPC objects whatever their mode says"},
	{"SYS_MODULE", "load kernel modules: run any code as the kernel"},
	{"SYS_RAWIO", "talk to I/O ports, /dev/mem and disks below the kernel"},
	{"SYS_CHROOT", "chroot(2), and setns(2) into mount namespaces"},
	{"SYS_PTRACE", "trace and read the memory of any process it can see"},
	{"SYS_PACCT", "switch process accounting"},
	{"SYS_ADMIN", "mount, setns, quotas, BPF and some hundred other operations: nearly root"},
	{"SYS_BOOT", "reboot, and load another kernel with kexec"},
	{"SYS_NICE", "raise priorities, use real-time scheduling, move processes between CPUs"},
	{"SYS_RESOURCE", "go over limits: rlimits, quotas, reserved disk space"},
	{"SYS_TIME", "set the clock of the machine"},
	{"SYS_TTY_CONFIG", "hang up and configure terminals"},
	{"MKNOD", "make device files"},
	{"LEASE", "take leases on any file"},
	{"AUDIT_WRITE", "write records to the audit log"},
	{"AUDIT_CONTROL", "switch and configure the kernel's auditing"},
	{"SETFCAP", "put capabilities on files"},
	{"MAC_OVERRIDE", "go past the rules of Smack"},
	{"MAC_ADMIN", "change the rules of Smack and AppArmor"},
	{"SYSLOG", "read the kernel's log and its addresses"},
	{"WAKE_ALARM", "set timers that wake the machine up"},
	{"BLOCK_SUSPEND", "keep the machine from sleeping"},
	{"AUDIT_READ", "read the audit log"},
	{"PERFMON", "watch the whole machine with perf events"},
	{"BPF", "load BPF programs and read their maps"},
	{"CHECKPOINT_RESTORE", "choose pids, and read memory maps of other processes"},
}

// dockerDefault are the capabilities that docker run gives when not asked for others.
var dockerDefault = setOf("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP",
	"SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE")

func setOf(names ...string) (s CapSet) {
	for _, n := range names {
		for i, c := range capabilities {
			if c.name == n {
				s |= 1 << i
			}
		}
	}
	return s
}

func (s CapSet) has(name string) bool { return s&setOf(name) != 0 }

func (s CapSet) count() int { return bits.OnesCount64(uint64(s)) }

// numbers are the capabilities of s, lowest first.
func (s CapSet) numbers() (out []int) {
	for rest := uint64(s); rest != 0; rest &= rest - 1 {
		out = append(out, bits.TrailingZeros64(rest))
	}
	return out
}

func capName(n int) string {
	if n < len(capabilities) {
		return capabilities[n].name
	}
	return fmt.Sprint("CAP_", n) // of a newer kernel
}

func capAllows(n int) string {
	if n < len(capabilities) {
		return capabilities[n].allows
	}
	return "(newer than this program)"
}

// Names are the names without CAP_, lowest number first.
func (s CapSet) Names() (out []string) {
	for _, n := range s.numbers() {
		out = append(out, capName(n))
	}
	return out
}

// MarshalJSON gives the names, with CAP_, as OCI's config.json has them.
func (s CapSet) MarshalJSON() ([]byte, error) {
	names := s.Names()
	for i, n := range names {
		names[i] = `"CAP_` + strings.TrimPrefix(n, "CAP_") + `"`
	}
	return []byte("[" + strings.Join(names, ",") + "]"), nil
}

// Capabilities is what a process may do.
type Capabilities struct {
	Sets       CapSets
	Extra      []CapNote // in the bounding or permitted set, and not of Docker's default
	Missing    CapSet    // of Docker's default, and not there
	UserNS     bool      // they count in a user namespace that is not the host's only
	NoNewPrivs bool
	Securebits *Securebits `json:",omitempty"` // nil: the kernel did not tell
	Seccomp    string      // "disabled", "strict", "filter"
	Filters    int         // -1: the kernel does not say
	LSM        string      `json:",omitempty"` // profile of AppArmor or context of SELinux
}

// CapNote is a capability and what it allows.
type CapNote struct {
	Name, Allows string
	Permitted    bool // it has it now; else it could get it by exec of a program with file capabilities or set-user-ID
}

// Securebits are flags of a thread (capabilities(7)).
type Securebits struct {
	Value uint32
	Names []string
}

var securebitNames = []string{
	"noroot", "noroot-locked", "no-setuid-fixup", "no-setuid-fixup-locked", "keep-caps", "keep-caps-locked",
	"no-cap-ambient-raise", "no-cap-ambient-raise-locked", "exec-restrict-file", "exec-restrict-file-locked",
	"exec-deny-interactive", "exec-deny-interactive-locked",
}

func newSecurebits(v uint32) *Securebits {
	s := &Securebits{Value: v}
	for i, n := range securebitNames {
		if v&(1<<i) != 0 {
			s.Names = append(s.Names, n)
		}
	}
	return s
}

func (m *machine) capabilities(t *target) Capabilities {
	p := t.p
	c := Capabilities{
		Sets: p.Caps, NoNewPrivs: p.NoNewPrivs, Filters: p.Filters, UserNS: t.userNS(m),
		Seccomp: fmt.Sprint("mode ", p.Seccomp), LSM: Safe(t.dir.text("attr/current"), 200),
	}
	if p.Seccomp >= 0 && p.Seccomp <= 2 {
		c.Seccomp = [...]string{"disabled", "strict", "filter"}[p.Seccomp]
	}
	have := p.Caps.Permitted | p.Caps.Bounding
	for _, n := range (have &^ dockerDefault).numbers() {
		c.Extra = append(c.Extra, CapNote{capName(n), capAllows(n), p.Caps.Permitted&(1<<n) != 0})
	}
	c.Missing = dockerDefault &^ have
	return c
}
