package compile

import (
	"bytes"
	"strings"
	"testing"

	"vitro/internal/plan"
)

// orders are the constraints of a start (CASES.md section 1, and the man pages): in every plan that has both, each line with one text comes before each line with
// the next. Texts are pieces of printed lines.
var orders = []struct {
	why   string
	chain []string
}{
	{"folders and limits are there, and device rules set, before anything runs in the group", []string{"mkdirat        cgroup", "linux.resources.memory", "linux.resources.devices", "join the cgroup"}},
	{"v1: joined, then stored, then acknowledged", []string{"clone3", "join the cgroup", "sync    state"}},
	{"v2: the container's root owns its folder once it is limited", []string{"linux.resources.devices", "give it to the container's root", "clone3"}},
	{"v2: limits before the clone into the group", []string{"parent  mkdirat        cgroup", "clone3"}},
	{"every namespace is opened before one is joined", []string{"parent  openat         /proc/100/ns", "stub    setns"}},
	{"born in a joined pid namespace without the host's root (CAP_SYS_PTRACE inside would open /proc/PID/root)", []string{"clone3", "stub    setns", "stub    clone "}},
	{"umask 0 before anything is made", []string{"umask          00", "stub    mkdirat"}},
	{"oom_score_adj before the user namespace and dumpable off", []string{"process.oomScoreAdj", "unshare        NEWUSER", "attach the rootfs"}},
	{"no look inside the stub from a joined namespace", []string{"prctl          4 0", "stub    setns"}},
	{"joining other namespaces needs capabilities that a new user namespace takes away", []string{"setns          s4 NEWNET", "unshare        NEWUSER"}},
	{"exec: user is joined last", []string{"join the namespaces", "join the user namespace", "stub    setresgid      0 0 0  EINVAL:ok"}},
	{"ipc is made by the user namespace's root, or mqueue is nobody's", []string{"unshare        NEWUSER", "NEWIPC"}},
	{"offsets are written between unshare and execve", []string{"unshare        NEWTIME", "timens_offsets", "execve"}},
	{"nothing propagates to the host", []string{"cut propagation of the old root", "attach the rootfs", "stub    fsopen"}},
	{"v1: the cgroup namespace is rooted where the process is", []string{"sync: wait for vitrun", "unshare        NEWCGROUP", "mount cgroup"}},
	{"/dev is filled once it is mounted", []string{"(/dev): mount tmpfs", "# linux.devices"}},
	{"the null device that replaces the host's as stdio is the container's", []string{"make the device node", "# stdio (/dev/null)", "execve"}},
	{"hooks of the runtime see mounts and devices (crun #2167)", []string{"# linux.devices", "sync    hooks          0", "sync    hooks          1", "sync    hooks          2", "hooks: wait for vitrun", "pivot_root"}},
	{"lo is up and devices are moved before a hook looks", []string{"bring lo up", "hooks: tell vitrun", "sync    netdevices", "sync    hooks          1", "hooks: wait for vitrun"}},
	{"createContainer hooks may still write (crun #1924)", []string{"hooks: wait for vitrun", "linux.readonlyPaths", "linux.maskedPaths", "root.readonly"}},
	{"new file systems while the old root is there (a user namespace's proc)", []string{"fsmount", "pivot_root", "umount2"}},
	{"masks before the pivot: the null device is the host's", []string{"linux.maskedPaths", "pivot_root"}},
	{"console in the new root, and before it is read-only", []string{"umount2", "# process.terminal", "root.readonly"}},
	{"the working directory is made before the root is read-only", []string{"make the folder  ", "root.readonly"}},
	{"sysctl by one that still has capabilities", []string{"linux.sysctl", "capset"}},
	{"stdio is given away before the ids change", []string{"stub    fchown", "# process.user.uid (1000)"}},
	{"bounding set, groups, gid, uid, in this order", []string{"process.capabilities.bounding", "prctl          8 1", "setgroups", "# process.user.gid", "# process.user.uid (0)", "getcwd"}},
	{"the check of the working directory is the last word on it (CVE-2024-21626)", []string{"chdir", "getcwd"}},
	{"capabilities stay permitted over setresuid", []string{"# process.user.uid (1000)", "prctl          8 0", "capset"}},
	{"ambient needs permitted and inheritable", []string{"set effective, permitted and inheritable", "raise CAP_NET_BIND_SERVICE"}},
	{"what is not found is an error of create", []string{"look for", "wait for start"}},
	{"limits after our own opens", []string{"mounts[", "prlimit64"}},
	{"state is stored before the wait for start", []string{"sync: wait for vitrun", "wait for start"}},
	{"the filter need not allow what the wait needs", []string{"wait for start", "close_range", "[filter]", "execve"}},
	{"no_new_privs lets an unprivileged one load the filter", []string{"prctl          0x26 1", "[filter]"}},
	{"the executable is looked for as the user", []string{"setresuid", "look for", "close_range", "execve"}},
}

func TestOrder(t *testing.T) {
	plans := map[string][]string{}
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			plans[g.name] = printed(t, func() (*plan.Program, error) { return Container(g.make(t)) })
		})
	}
	for _, g := range execGoldens {
		in := execInput()
		g.change(in)
		plans[g.name] = printed(t, func() (*plan.Program, error) { return Exec(in) })
	}
	for _, o := range orders {
		for k := range o.chain[1:] {
			before, after, seen := o.chain[k], o.chain[k+1], false
			for name, lines := range plans {
				last, first := lastWith(lines, before), firstWith(lines, after)
				if last < 0 || first < 0 {
					continue
				}
				seen = true
				if last > first {
					t.Errorf("%s: %s:\n%s\ncomes after\n%s", name, o.why, lines[last], lines[first])
				}
			}
			if !seen {
				t.Errorf("no plan has both %q and %q: the rule holds nothing", before, after)
			}
		}
	}
	for name, n := range map[string]int{"seccomp": 2, "seccomp-nnp": 1, "exec-tty": 1} { // capset and execve, or execve alone
		if lines := plans[name]; len(lines)-1-firstWith(lines, "[filter]") != n {
			t.Errorf("%s: what runs filtered:\n%s", name, strings.Join(lines[firstWith(lines, "[filter]"):], "\n"))
		}
	}
}

func printed(t *testing.T, compile func() (*plan.Program, error)) []string {
	t.Helper()
	p, err := compile()
	must(t, err)
	var b bytes.Buffer
	must(t, p.Render(&b))
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

func firstWith(lines []string, s string) int {
	for k, l := range lines {
		if strings.Contains(l+"  ", s) {
			return k
		}
	}
	return -1
}

func lastWith(lines []string, s string) int {
	for k := len(lines) - 1; k >= 0; k-- {
		if strings.Contains(lines[k]+"  ", s) {
			return k
		}
	}
	return -1
}
