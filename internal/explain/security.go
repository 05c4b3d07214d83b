package explain

import (
	"fmt"
	"slices"
	"strings"
)

// Severity of a finding.
type Severity int

// From a way out that needs nothing more, to what is merely wider than needed.
const (
	Low Severity = iota + 1
	Medium
	High
	Critical
)

func (s Severity) String() string { return [...]string{"", "low", "medium", "high", "critical"}[s] }

// MarshalText is for JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is something that a container could do to the host, and the flag that closes it.
type Finding struct {
	Severity Severity
	What     string
	Flag     string
}

// findings judges the facts; it reads nothing.
func findings(f *Facts) []Finding {
	j := judge{f: f, host: map[string]bool{}}
	hosts := 0
	for _, n := range f.Namespaces {
		j.host[n.Kind] = n.Host
		if n.Host {
			hosts++
		}
	}
	j.root = f.Users != nil && !f.Users.Own && len(f.Users.IDs) > 1 && f.Users.IDs[1].Outside == 0
	j.members()
	if hosts == len(f.Namespaces) && f.Mounts != nil && f.Mounts.Root.Entry == "host" {
		j.add(Critical, "It is a plain process of the host: nothing but its user id and capabilities holds it.", "run it in a container")
	} else {
		j.namespaces()
	}
	j.capabilities()
	j.mounts()
	j.filters()
	j.limits()
	j.ports()
	slices.SortStableFunc(j.out, func(a, b Finding) int { return int(b.Severity - a.Severity) })
	return j.out
}

type judge struct {
	f    *Facts
	host map[string]bool // namespaces by kind
	root bool            // uid 0 of the host
	all  []*Process      // processes of the container that are not the explained one
	out  []Finding
}

func (j *judge) add(s Severity, what, flag string) { j.out = append(j.out, Finding{s, what, flag}) }

// worse is the first for root of the host, else the second.
func (j *judge) worse(root, other Severity) Severity {
	if j.root {
		return root
	}
	return other
}

func (j *judge) namespaces() {
	h := j.host
	if h["pid"] {
		j.add(j.worse(High, Medium), "It sees every process of the host, may end those of its user, and reads what /proc tells about them.", "leave out --pid host")
	}
	if h["net"] {
		j.add(j.worse(High, Medium), "It has the host's network: it takes any port, and reaches services that listen on 127.0.0.1 or abstract sockets only.", "leave out --network host")
	}
	if h["ipc"] {
		j.add(Medium, "It reads and writes the host's shared memory and message queues.", "leave out --ipc host")
	}
	if h["uts"] && j.has("SYS_ADMIN") {
		j.add(Medium, "It can change the host's name.", "leave out --uts host")
	}
	if h["cgroup"] {
		j.add(Low, "It sees the host's tree of cgroups, and so which containers there are.", "--cgroupns private")
	}
	if j.root {
		j.add(Medium, "Its root is the host's root: whatever gets out by a bug of the kernel or over a shared file is root out there.", "--user with another id, or a user namespace (config.json: linux.uidMappings)")
	}
	if m := j.f.Mounts; m != nil {
		switch {
		case m.Root.Entry == "host":
			j.add(j.worse(Critical, High), "It has the host's file tree as its own.", "give it a root file system")
		case m.Root.Entry == "chroot" && j.has("SYS_CHROOT"):
			j.add(j.worse(Critical, Medium), "It was put into its root by chroot alone, and leaves it with a second chroot: the old root is still there.",
				"--cap-drop SYS_CHROOT, or a mount namespace (config.json: linux.namespaces)")
		case m.Root.Entry == "move" && j.holds("SYS_ADMIN"):
			j.add(j.worse(Critical, Medium), "The host's root is still mounted below its own: it can unmount that and be there.", "leave out vitrun's --no-pivot")
		}
	}
}

// dangers of capabilities that are not in Docker's default.
var dangers = []struct {
	cap      string
	severity Severity
	what     string
}{
	{"SYS_MODULE", Critical, "It can load a module into the host's kernel."},
	{"SYS_ADMIN", Critical, "It can mount the host's disks and change the kernel's settings: CAP_SYS_ADMIN is nearly root of the host."},
	{"SYS_RAWIO", Critical, "It can write to the host's memory and I/O ports."},
	{"DAC_READ_SEARCH", High, "It can open every file of the file system that its root is on by handle (open_by_handle_at), outside of its root, too."},
	{"BPF", High, "It can load BPF programs into the host's kernel."},
	{"SYS_BOOT", High, "It can reboot the host or load another kernel."},
	{"PERFMON", Medium, "It can trace the whole host."},
	{"SYS_TIME", Medium, "It can set the host's clock."},
	{"SYSLOG", Medium, "It reads the kernel's log and addresses, which helps to attack it."},
	{"AUDIT_CONTROL", Medium, "It can switch off the host's auditing."},
	{"MAC_ADMIN", Medium, "It can change the host's access rules."},
	{"MAC_OVERRIDE", Medium, "It goes past the host's access rules."},
	{"SYS_RESOURCE", Medium, "It goes over limits and quotas that it shares with the host."},
	{"SYS_NICE", Low, "It can take the CPUs before others by real-time priority."},
	{"LINUX_IMMUTABLE", Low, "It can make files of shared folders unchangeable."},
	{"IPC_LOCK", Low, "It can lock memory, so that the host cannot swap it out."},
}

func (j *judge) capabilities() {
	if n, which := j.most(); n >= len(capabilities)-3 {
		j.add(Critical, "It has nearly every capability, in the host's user namespace: it may do what root of the host may."+which, "leave out --privileged or --cap-add ALL")
		return
	}
	for _, d := range dangers {
		if ok, which := j.who(d.cap); ok {
			j.add(d.severity, d.what+which, "--cap-drop "+d.cap)
		}
	}
	if ok, which := j.who("SYS_PTRACE"); ok && j.host["pid"] {
		j.add(Critical, "It can trace any process of the host and make it do what it likes."+which, "--cap-drop SYS_PTRACE, or leave out --pid host")
	}
	if ok, which := j.who("NET_ADMIN"); ok {
		s, what := Low, "It can reconfigure its own network, and load the kernel's network modules."
		if j.host["net"] {
			s, what = High, "It can reconfigure the host's network and firewall."
		}
		j.add(s, what+which, "--cap-drop NET_ADMIN")
	}
	if ok, which := j.who("NET_RAW"); ok {
		s, what := Low, "It can forge packets (ARP, DNS answers) to other containers of its network."
		if j.host["net"] {
			s, what = High, "It can sniff and forge packets on the host's network."
		}
		j.add(s, what+which, "--cap-drop NET_RAW")
	}
}

// trusted folders, with all that is below them: programs, settings and keys of the host.
var trusted = []string{"/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/boot", "/var/spool/cron"}

// hostFolders whose change changes the host; what is below them may be anybody's.
var hostFolders = []string{"/var", "/var/lib", "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/vitro", "/var/spool", "/run", "/opt", "/home", "/root"}

func trustedByHost(p string) bool {
	return slices.Contains(hostFolders, p) || strings.HasPrefix(p, "/root/.") || slices.ContainsFunc(trusted, func(dir string) bool { _, ok := below(dir, p); return ok })
}

// rawDevices are devices that reach past every file system and process.
var rawDevices = []string{"/sd", "/vd", "/xvd", "/hd", "/nvme", "/mmcblk", "/dm-", "/mapper", "/md", "/loop", "/mem", "/kmem", "/port"}

func (j *judge) mounts() {
	m := j.f.Mounts
	if m == nil || m.Root.Entry == "host" {
		return
	}
	for i := range m.Table {
		mt := &m.Table[i]
		switch {
		case mt.Class == "bind":
			j.bind(mt)
		case mt.Class == "device":
			for _, d := range rawDevices {
				if strings.HasPrefix(mt.Root, d) {
					j.add(Critical, fmt.Sprintf("It reads and writes the device /dev%s below all file systems.", mt.Root), "leave out --device /dev"+mt.Root)
					break
				}
			}
		case mt.Type == "devtmpfs" && mt.Root == "/":
			j.add(High, "It has the host's whole /dev.", "leave out -v /dev:"+mt.Point)
		case mt.Type == "proc":
			j.proc(mt)
		case mt.Type == "sysfs" && !mt.has("ro"):
			j.add(j.worse(High, Low), fmt.Sprintf("It can write to %s: devices, drivers and the kernel's settings.", mt.Point), "leave out --privileged")
		case (mt.Type == "cgroup" || mt.Type == "cgroup2") && !mt.has("ro") && (j.host["cgroup"] || mt.Root == "/"):
			j.add(j.worse(High, Low), fmt.Sprintf("It can write to the host's cgroups at %s (with release_agent that runs programs as root).", mt.Point), "mount it ro, or --cgroupns private")
		case slices.Contains([]string{"debugfs", "tracefs", "securityfs", "bpf"}, mt.Type):
			j.add(j.worse(High, Low), fmt.Sprintf("It has the kernel's %s at %s.", mt.Type, mt.Point), "leave out the mount")
		case mt.Point == "/" && !mt.has("ro"):
			j.add(Low, "Its root file system can be written: whoever gets in can leave programs there.", "--read-only")
		}
	}
}

// proc judges a mount of procfs or of a part of it: engines mount /proc/sys read-only over what they made.
func (j *judge) proc(mt *Mount) {
	over := func(m Mount) bool {
		return m.Type == "proc" && m.Root == "/sys" && m.Point == mt.Point+"/sys" && m.has("ro")
	}
	_, part := below("/sys", mt.Root)
	hosts := mt.HostPath != "" && !j.host["pid"] && mt.Root == "/"
	settings := !mt.has("ro") && (part || mt.Root == "/sysrq-trigger" || mt.Root == "/" && !slices.ContainsFunc(j.f.Mounts.Table, over))
	switch {
	case hosts && settings:
		j.add(j.worse(Critical, Medium), fmt.Sprintf("It has the host's /proc at %s: it sees the host's processes, and writes settings of its kernel, as which program takes a core dump.", mt.Point),
			"leave out -v /proc:"+mt.Point)
	case hosts:
		j.add(Medium, fmt.Sprintf("It has the host's /proc at %s: it sees the host's processes.", mt.Point), "leave out -v /proc:"+mt.Point)
	case settings && mt.Root == "/":
		j.add(j.worse(High, Low), "It can write to /proc/sys and /proc/sysrq-trigger: settings of the host's kernel, a reboot.", "leave out --security-opt systempaths=unconfined or --privileged")
	case settings:
		j.add(j.worse(High, Low), fmt.Sprintf("It can write to /proc%s: settings of the host's kernel, or a reboot.", mt.Root), fmt.Sprintf("leave out -v /proc%s:%s", mt.Root, mt.Point))
	}
}

func (j *judge) bind(mt *Mount) {
	p := mt.HostPath
	base := p[strings.LastIndexByte(p, '/')+1:]
	flag := fmt.Sprintf("leave out -v %s:%s", p, mt.Point)
	switch {
	case slices.Contains([]string{"docker.sock", "containerd.sock", "podman.sock", "crio.sock"}, base):
		j.add(Critical, fmt.Sprintf("It commands a container engine over %s, and so starts containers with all rights.", p), flag)
	case p == "/" && !mt.has("ro"):
		j.add(Critical, fmt.Sprintf("It writes to the host's whole file tree at %s.", mt.Point), flag)
	case p == "/":
		j.add(High, fmt.Sprintf("It reads the host's whole file tree at %s.", mt.Point), flag)
	case trustedByHost(p) && !mt.has("ro"):
		j.add(j.worse(Critical, Medium), fmt.Sprintf("It writes to %s of the host: programs or settings that the host trusts.", p), flag+", or add :ro")
	case (p == "/run" || p == "/var/run") && mt.has("ro"):
		j.add(High, "It reaches the sockets of the host's services in "+p+".", flag)
	case p != "" && !mt.has("ro"):
		j.add(Low, fmt.Sprintf("It writes to %s of the host.", p), fmt.Sprintf("-v %s:%s:ro", p, mt.Point))
	}
	if pr := mt.Propagation(); strings.HasPrefix(pr, "shared") {
		j.add(Medium, fmt.Sprintf("What it mounts below %s appears on the host, too.", mt.Point), fmt.Sprintf("-v %s:%s:rprivate", p, mt.Point))
	}
}

// filters are seccomp, no_new_privs, devices, LSM.
func (j *judge) filters() {
	c := j.f.Capabilities
	if c == nil {
		return
	}
	if c.Seccomp == "disabled" {
		j.add(Medium, "Every system call of the kernel is open to it: a bug in a rare one is a way out.", "leave out --security-opt seccomp=unconfined")
	} else if p := j.find(func(p *Process) bool { return p.Seccomp == 0 }); p != nil {
		j.add(Medium, "Every system call of the kernel is open to it: a bug in a rare one is a way out."+by(p), "leave out --security-opt seccomp=unconfined")
	}
	if !c.NoNewPrivs {
		j.add(Low, "Set-user-ID programs and file capabilities can give its processes more rights than they have.", "--security-opt no-new-privileges")
	} else if p := j.find(func(p *Process) bool { return !p.NoNewPrivs }); p != nil {
		j.add(Low, "Set-user-ID programs and file capabilities can give its processes more rights than they have."+by(p), "--security-opt no-new-privileges")
	}
	if strings.HasPrefix(c.LSM, "unconfined") && !j.host["mnt"] {
		j.add(Low, "AppArmor does not confine it.", "--security-opt apparmor=PROFILE")
	}
	g := j.f.Cgroup
	if g == nil {
		return
	}
	open := slices.Contains(g.Devices, "a *:* rwm") || g.Mode == "v2" && g.DevicesV2 == 0
	if open && j.has("MKNOD") {
		j.add(j.worse(Critical, Medium), "It can make and open any device file, the host's disks, too.", "leave out --privileged, or --cap-drop MKNOD")
	}
	for _, rule := range g.Devices {
		if name, ok := rawRule(rule); ok {
			j.add(j.worse(Critical, Medium), fmt.Sprintf("It may open %s, below all file systems.", name), "leave out --device or --device-cgroup-rule "+rule)
		}
	}
}

// rawRule is a line of devices.list that lets a process read or write disks or memory; mknod alone (m) does not.
func rawRule(rule string) (name string, ok bool) {
	f := strings.Fields(rule)
	if len(f) != 3 || !strings.ContainsAny(f[2], "rw") {
		return "", false
	}
	switch {
	case f[0] == "b" && f[1] == "*:*":
		return "every block device", true
	case f[0] == "b":
		return "the block device " + f[1], true
	case f[0] == "c" && slices.Contains([]string{"1:*", "1:1", "1:2", "1:4", "*:*"}, f[1]):
		return "the memory or ports of the machine (character device " + f[1] + ")", true
	}
	return "", false
}

func (j *judge) limits() {
	free := func(what string) bool {
		if j.f.Cgroup == nil {
			return true
		}
		i := slices.IndexFunc(j.f.Cgroup.Limits, func(l Limit) bool { return l.What == what })
		return i < 0 || j.f.Cgroup.Limits[i].Unlimited
	}
	if free("memory") {
		j.add(Medium, "It can use up the host's memory; the kernel then kills other processes.", "--memory")
	}
	if free("pids") {
		j.add(Medium, "It can start processes until the host can start no more.", "--pids-limit")
	}
	if free("CPU time") {
		j.add(Low, "It can keep all CPUs busy; others get their share by weight only.", "--cpus")
	}
}

func (j *judge) ports() {
	if j.f.Network == nil {
		return
	}
	seen := map[string]bool{}
	for _, p := range j.f.Network.Ports {
		name := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.Link == "" && (!p.Host.IsValid() || p.Host.IsUnspecified()) && !seen[name] {
			seen[name] = true
			j.add(Low, fmt.Sprintf("Port %s of the host leads to it from every network that the host is on.", name), fmt.Sprintf("-p 127.0.0.1:%d:%d", p.Port, cmpPort(p)))
		}
	}
}

func cmpPort(p Port) int {
	if p.ToPort == 0 {
		return p.Port
	}
	return p.ToPort
}
