package explain

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vitro/internal/testenv"
)

// TestFacts compares what Gather says of four containers with the usual tools.
func TestFacts(t *testing.T) {
	for name, start := range map[string]func(*testing.T) int{
		"unshare": plainUnshare, "vitro": vitroContainer, "podman": podmanContainer, "docker": dockerContainer,
	} {
		t.Run(name, func(t *testing.T) {
			pid := start(t)
			testenv.Need(t, testenv.Tool("lsns"), testenv.Tool("findmnt"), testenv.Tool("getpcaps"), testenv.Tool("pscap"), testenv.Tool("ip"))
			f, err := Gather(Options{PID: pid})
			if err != nil {
				t.Fatal(err)
			}
			clean(t, "text", f.Text(Page{}))
			sameNamespaces(t, f)
			sameMounts(t, f)
			sameCapabilities(t, f)
			sameUsers(t, f)
			sameCgroups(t, f)
			sameNetwork(t, f)
			if want := map[string]string{"unshare": "host"}[name]; want != "" && f.Mounts.Root.Entry != want || want == "" && !pivoted(f) {
				t.Errorf("/ came by %s: %s", f.Mounts.Root.Entry, f.Mounts.Root.Why)
			}
			if name == "docker" && (!f.Mounts.Root.Proven || !strings.HasPrefix(f.Name, "docker ")) || name == "podman" && !strings.HasPrefix(f.Name, "podman ") {
				t.Errorf("root %+v, name %q", f.Mounts.Root, f.Name)
			}
		})
	}
}

// pivoted: before statmount(2) a moved mount looks the same.
func pivoted(f *Facts) bool {
	e := f.Mounts.Root.Entry
	return e == "pivot_root" || e == "pivot_root or move" && strings.HasSuffix(f.Mounts.Root.Why, "this kernel (before 6.8) does not tell more")
}

func sameNamespaces(t *testing.T, f *Facts) {
	t.Helper()
	var got, want []string
	for _, n := range f.Namespaces {
		count := ""
		if !n.Host { // processes of the host come and go
			count = fmt.Sprint(n.Processes)
		}
		got = append(got, fmt.Sprint(n.Inode, " ", n.Kind, " ", count))
	}
	for line := range strings.Lines(output(t, "lsns", "-n", "-o", "NS,TYPE,NPROCS", "-p", strconv.Itoa(f.PID))) {
		w := strings.Fields(line)
		i := slices.IndexFunc(f.Namespaces, func(n Namespace) bool { return n.Kind == w[1] })
		if i >= 0 && f.Namespaces[i].Host {
			w[2] = ""
		}
		want = append(want, strings.Join(w, " "))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("namespaces %q\nlsns       %q", got, want)
	}
}

func sameMounts(t *testing.T, f *Facts) {
	t.Helper()
	var list struct {
		Filesystems []struct{ Target, Fstype, Propagation, Fsroot, Options string }
	}
	out := output(t, "findmnt", "-J", "-l", "-N", strconv.Itoa(f.PID), "-o", "TARGET,FSTYPE,PROPAGATION,FSROOT,VFS-OPTIONS")
	out = strings.ReplaceAll(out, `"vfs-options"`, `"options"`)
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Filesystems) != len(f.Mounts.Table) {
		t.Fatalf("%d mounts, findmnt has %d", len(f.Mounts.Table), len(list.Filesystems))
	}
	for i, w := range list.Filesystems {
		m := f.Mounts.Table[i]
		propagation, _, _ := strings.Cut(m.Propagation(), " ")
		if m.Point != w.Target || m.Type != w.Fstype || m.Root != w.Fsroot || strings.Join(m.Options, ",") != w.Options || !strings.HasPrefix(w.Propagation, propagation) && !strings.HasSuffix(w.Propagation, "slave") {
			t.Errorf("mount %+v\nfindmnt %+v", m, w)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/root", f.PID), &st); err != nil || f.Mounts.Root.Inode != st.Ino {
		t.Errorf("/ is inode %d, stat says %d: %v", f.Mounts.Root.Inode, st.Ino, err)
	}
}

func sameCapabilities(t *testing.T, f *Facts) {
	t.Helper()
	lower := func(s CapSet, prefix string) (out []string) {
		for _, n := range s.Names() {
			out = append(out, prefix+strings.ToLower(n))
		}
		return out
	}
	s := f.Capabilities.Sets
	if out := output(t, "getpcaps", strconv.Itoa(f.PID)); strings.HasSuffix(out, "=ep") && s.Permitted == s.Effective {
		_, list, _ := strings.Cut(strings.TrimSuffix(out, "=ep"), ": ")
		if got := strings.Join(lower(s.Permitted, "cap_"), ","); list != "" && got != list {
			t.Errorf("capabilities %s\ngetpcaps     %s", got, list)
		}
	}
	for line := range strings.Lines(output(t, "pscap", "-a")) {
		w := strings.Fields(line)
		if len(w) > 4 && w[1] == strconv.Itoa(f.PID) && !strings.Contains(line, "full") {
			got := strings.Join(lower(s.Effective, ""), ", ")
			if !strings.Contains(line, got) {
				t.Errorf("capabilities %s\npscap        %s", got, line)
			}
		}
	}
	// Securebits: nobody sets them in these.
	if b := f.Capabilities.Securebits; b != nil && b.Value != 0 {
		t.Errorf("securebits %+v", b)
	}
}

func sameUsers(t *testing.T, f *Facts) {
	t.Helper()
	for file, m := range map[string]IDMap{"uid_map": f.Users.UIDs, "gid_map": f.Users.GIDs} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", f.PID, file))
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for line := range strings.Lines(string(b)) {
			want = append(want, strings.Join(strings.Fields(line), " "))
		}
		var got []string
		for _, r := range m {
			got = append(got, fmt.Sprint(r.Inside, r.Outside, r.Count))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}

func sameCgroups(t *testing.T, f *Facts) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", f.PID))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Cgroup.Paths {
		if !strings.Contains(string(b), ":"+p.Controllers+":"+p.Path+"\n") {
			t.Errorf("%+v is not in %s", p, b)
		}
		procs, err := os.ReadFile(p.Folder + "/cgroup.procs")
		if err != nil || !slices.Contains(strings.Fields(string(procs)), strconv.Itoa(f.PID)) {
			t.Errorf("%s: %q %v", p.Folder, procs, err)
		}
	}
	if strings.Count(string(b), "\n") != len(f.Cgroup.Paths) {
		t.Errorf("%+v\n%s", f.Cgroup.Paths, b)
	}
}

func sameNetwork(t *testing.T, f *Facts) {
	t.Helper()
	var links []struct {
		Ifindex  int
		Ifname   string
		AddrInfo []struct {
			Local     string
			Prefixlen int
		} `json:"addr_info"`
		LinkIndex int `json:"link_index"`
	}
	out := output(t, "nsenter", "-t", strconv.Itoa(f.PID), "-n", "ip", "-j", "addr")
	if err := json.Unmarshal([]byte(out), &links); err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, l := range links {
		one := fmt.Sprint(l.Ifindex, " ", l.Ifname, " ", l.LinkIndex)
		for _, a := range l.AddrInfo {
			one += fmt.Sprintf(" %s/%d", a.Local, a.Prefixlen)
		}
		want = append(want, one)
	}
	for _, l := range f.Network.Links {
		one := fmt.Sprint(l.Index, " ", l.Name, " ", 0)
		if l.Peer != nil {
			one = fmt.Sprint(l.Index, " ", l.Name, " ", l.Peer.Index)
		}
		got = append(got, strings.TrimSpace(one+" "+strings.Join(l.Addresses, " ")))
	}
	if !slices.Equal(got, want) {
		t.Errorf("links %q\nip    %q", got, want)
	}
}

// Limits: the effective one is the smallest up the tree.
func TestLimits(t *testing.T) {
	pid := vitroContainer(t)
	f, err := Gather(Options{PID: pid, Views: []string{"cgroup"}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"memory": 64 << 20, "pids": 50, "CPU time": 500}
	for _, l := range f.Cgroup.Limits {
		if v, ok := want[l.What]; ok {
			if l.Value != v || l.Unlimited || l.From != f.Cgroup.Paths[0].Path {
				t.Errorf("%+v, want %d", l, v)
			}
			delete(want, l.What)
		}
	}
	if len(want) > 0 && f.Cgroup.Mode != "hybrid" {
		t.Errorf("no limit of %v", want)
	}
}

// A chroot into a plain folder, without a mount namespace, and with a device to show.
func TestChroot(t *testing.T) {
	testenv.Need(t, testenv.Root)
	root := testenv.Rootfs(t)
	pid := spawn(t, 0, "chroot", root, "/bin/sleep", "996")
	eventually(t, "sleep", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return strings.HasPrefix(string(b), "/bin/sleep")
	})
	f, err := Gather(Options{PID: pid})
	if err != nil {
		t.Fatal(err)
	}
	if r := f.Mounts.Root; r.Entry != "chroot" || r.Outside != root || !r.Proven {
		t.Errorf("%+v, want a chroot to %s", r, root)
	}
	if !slices.ContainsFunc(f.Security, func(s Finding) bool { return strings.Contains(s.What, "second chroot") }) {
		t.Errorf("no word of the way out: %+v", f.Security)
	}
}

func TestSecurebits(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.Tool("capsh"))
	if readSecurebits(os.Getpid()) == nil {
		testenv.Skip(t, "needs BPF iterators, BTF and the first pid namespace")
	}
	pid := spawn(t, 0, "capsh", "--secbits=47", "--", "-c", "exec sleep 995")
	eventually(t, "sleep", func() bool { b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); return string(b) == "sleep\n" })
	if got := readSecurebits(pid); got == nil || got.Value != 0x2f {
		t.Errorf("%+v, want 0x2f", got)
	}
}

// Nothing on the machine is different after an explanation: mounts, cgroups, links, modules, namespaces, access times.
func TestChangesNothing(t *testing.T) {
	root := testenv.Rootfs(t)
	_, pid := newVitro(t).start(t, root, "bb", "sleep", "994")
	passwd := fmt.Sprintf("/proc/%d/root/etc/passwd", pid)
	state := func() []string {
		var st unix.Stat_t
		unix.Stat(passwd, &st)
		modules, _ := os.ReadFile("/proc/modules")
		names := []string{fmt.Sprint(st.Atim), string(modules)}
		for name := range testenv.Look() {
			if !strings.HasPrefix(name, "process ") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	var before, after []string
	for range 3 { // other tests on the machine change it, too
		before = state()
		if _, err := Gather(Options{PID: pid}); err != nil {
			t.Fatal(err)
		}
		if after = state(); slices.Equal(before, after) {
			return
		}
		time.Sleep(time.Second)
	}
	t.Errorf("before %q\nafter %q", before, after)
}

// TestHostile explains a container that does what it can to confuse.
func TestHostile(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.MountNS)
	root := testenv.Rootfs(t)
	if err := os.Remove(root + "/etc/passwd"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(root+"/etc/passwd", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(root + "/etc/group"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/self/mem", root+"/etc/group"); err != nil {
		t.Fatal(err)
	}
	evil := "\x1b]0;owned\a\n\x1b[31m\u202e\x9b"
	program := "e\x1b[7m\nvil"
	if err := os.WriteFile(root+"/bin/"+program, []byte("#!/bin/sh\nsleep 993; :\n"), 0o755); err != nil { // a script's name is its process's
		t.Fatal(err)
	}
	output(t, "touch", root+"/dev/null") // a shell's background jobs read it
	script := fmt.Sprintf(`sleep 0.3; mount --bind %[1]s %[1]s; cd %[1]s; mkdir -p old "$EVIL"; mount -t proc proc proc; mount -t tmpfs tmpfs "$EVIL"; mount -t tmpfs tmpfs proc; hostname "$HOST" 2>/dev/null
pivot_root . old; umount -l old; exec chroot . /bin/sh -c 'mkdir -p /x; "/bin/$PROG" & sh -c "sleep 992; :" "$EVIL" & sh -c "sleep 990; :" "$LONG" & wait'`, root)
	group := newCgroup(t, "vt\x1b[5m\u202e")
	cmd := spawnEnv(t, []string{"EVIL=" + evil, "PROG=" + program, "LONG=" + strings.Repeat("\x1b", 4096), "HOST=h"}, "sh", "-c", script)
	if err := os.WriteFile(group+"/cgroup.procs", []byte(strconv.Itoa(cmd)), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the sleepers", func() bool {
		f, err := Gather(Options{PID: cmd, Views: []string{"processes"}})
		return err == nil && len(f.Processes) == 7
	})
	quiet := plainUnshare(t)
	took := func(pid int) time.Duration {
		start := time.Now()
		f, err := Gather(Options{PID: pid})
		if err != nil {
			t.Fatal(err)
		}
		clean(t, "text", f.Text(Page{Rows: 40}))
		b, err := JSON(f)
		if err != nil {
			t.Fatal(err)
		}
		clean(t, "json", string(b))
		return time.Since(start)
	}
	took(cmd)
	t.Logf("hostile %v, quiet %v", took(cmd), took(quiet))
	f, err := Gather(Options{PID: cmd})
	if err != nil {
		t.Fatal(err)
	}
	if !pivoted(f) && f.Mounts.Root.Entry != "chroot" {
		t.Errorf("%+v", f.Mounts.Root)
	}
	if !slices.ContainsFunc(f.Mounts.Table, func(m Mount) bool { return m.Point == "/"+evil }) {
		t.Errorf("no mount on %q in %+v", evil, f.Mounts.Table)
	}
	if !slices.ContainsFunc(f.Cgroup.Paths, func(p CgroupPath) bool { return strings.HasSuffix(p.Path, filepath.Base(group)) }) {
		t.Errorf("no cgroup %q in %+v", group, f.Cgroup.Paths)
	}
	if !slices.ContainsFunc(f.Processes, func(p *Process) bool { return p.Name == program }) {
		t.Errorf("no process %q", program)
	}
	if f.Processes[0].UserInside != "" {
		t.Errorf("a name from a FIFO: %q", f.Processes[0].UserInside)
	}
	list, err := Groups(nil)
	if err != nil {
		t.Fatal(err)
	}
	clean(t, "cgroup", list.Text(Page{}))
	ns, err := Namespaces(NamespaceQuery{})
	if err != nil {
		t.Fatal(err)
	}
	clean(t, "ns", ns.Text(Page{}))
	caps, _, err := CapsOf(nil, true)
	if err != nil {
		t.Fatal(err)
	}
	clean(t, "caps", CapsText(caps, Page{}))
}

func spawnEnv(t *testing.T, env []string, name string, args ...string) int {
	t.Helper()
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		t.Setenv(k, v)
	}
	return spawn(t, unix.CLONE_NEWNS|unix.CLONE_NEWPID|unix.CLONE_NEWUTS|unix.CLONE_NEWNET, name, args...)
}

// newCgroup makes a cgroup on v2.
func newCgroup(t *testing.T, name string) string {
	t.Helper()
	dir := "/sys/fs/cgroup/"
	if _, err := os.Stat(dir + "unified"); err == nil {
		dir += "unified/"
	}
	dir += testenv.ID(t) + name
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("needs a cgroup2 tree: %v", err)
	}
	t.Cleanup(func() {
		eventually(t, "the cgroup to be empty", func() bool { err := os.Remove(dir); return err == nil || os.IsNotExist(err) })
	})
	return dir
}

// TestNetworkRules runs in a network namespace that plays the host: a bridge, a veth, NAT and filter rules.
func TestNetworkRules(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.NetNS, testenv.Tool("nft"), testenv.Tool("ip"))
	if os.Getenv("EXPLAIN_HOST") == "" {
		cmd := exec.Command("unshare", "-n", os.Args[0], "-test.run", "^TestNetworkRules$", "-test.v")
		cmd.Env = append(os.Environ(), "EXPLAIN_HOST=1")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	pid := spawn(t, unix.CLONE_NEWNET, "sleep", "991")
	output(t, "sh", "-ec", fmt.Sprintf(`ip link set lo up; ip link add br7 type bridge; ip addr add 10.77.0.1/24 dev br7; ip link set br7 up
ip link add veth7 type veth peer name eth0 netns %[1]d; ip link set veth7 master br7 up
nsenter -t %[1]d -n sh -ec 'ip link set lo up; ip addr add 10.77.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.77.0.1'
nsenter -t %[1]d -n nft 'add table inet own; add chain inet own c { type filter hook input priority 0; }; add rule inet own c tcp dport 1 drop; add rule inet own c tcp dport 2 drop'
echo 1 >/proc/sys/net/ipv4/ip_forward; nft -f - <<'E'
%[2]sE`, pid, ruleset))
	f, err := Gather(Options{PID: pid, Views: []string{"network"}})
	if err != nil {
		t.Fatal(err)
	}
	n := f.Network
	if p := n.Links[1].Peer; p == nil || p.Name != "veth7" || p.Where != "host" || p.Bridge != "br7" || !slices.Contains(p.Addresses, "10.77.0.1/24") {
		t.Errorf("peer %+v", p)
	}
	if len(n.HostRoutes) != 1 || n.HostRoutes[0].To != "10.77.0.0/24" || !n.Forwarding["ipv4"] {
		t.Errorf("routes %+v, forwarding %v", n.HostRoutes, n.Forwarding)
	}
	if n.Inside != 2 || !strings.Contains(f.Text(Page{}), "rules of its own") {
		t.Errorf("%d rules inside", n.Inside)
	}
	sameRules(t, n)
	var ports []string
	for _, p := range n.Ports {
		ports = append(ports, fmt.Sprintf("%s %d %s:%d %s", p.Protocol, p.Port, p.To, p.ToPort, p.Reach))
	}
	want := []string{
		"udp 53 10.77.0.2:5353 everyone who can reach this host", "tcp 8080 10.77.0.2:80 everyone who can reach this host",
		"tcp 8081 10.77.0.2:81 this host only", "tcp 8443 10.77.0.2:443 who can reach 192.0.2.9",
	}
	if !reflect.DeepEqual(ports, want) {
		t.Errorf("ports %q\nwant %q", ports, want)
	}
}

// ruleset is what nft is given; lines that end in "# no" are not about the container.
const ruleset = `table inet t {
	set bridges { type ifname; elements = { "br7", "br8" } }
	set nets { type ipv4_addr; flags interval; elements = { 10.77.0.0/24, 10.99.0.0/16 } }
	map ports { type inet_proto . inet_service : ipv4_addr . inet_service; elements = { tcp . 8080 : 10.77.0.2 . 80, tcp . 9000 : 10.99.0.2 . 80 } }
	map bound { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; elements = { 192.0.2.9 . tcp . 8443 : 10.77.0.2 . 443 } }
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		dnat ip to ip daddr . meta l4proto . th dport map @bound
		fib daddr type local dnat ip to meta l4proto . th dport map @ports
		ip daddr 127.0.0.1 tcp dport 8081 dnat ip to 10.77.0.2:81
		udp dport 53 dnat ip to 10.77.0.2:5353
		tcp dport 54 dnat ip to 10.99.0.2:5353 # no
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr @nets oifname != @bridges masquerade
		ip saddr 10.77.0.0/24 oifname != "br7" counter packets 0 bytes 0 masquerade
		ip saddr 10.88.0.0/24 masquerade # no
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		fib saddr . iif oif missing drop
		iifname @bridges jump out
		oifname "br9" drop # no
		iifname "br*" tcp dport { 25, 465 } drop
	}
	chain out {
		ip daddr 192.0.2.0/24 drop # no
		ip saddr 10.77.0.2 tcp dport 22 drop
	}
	chain lonely {
		ip saddr 10.77.0.2 drop # no
	}
}
`

// sameRules compares with what nft prints of the rules that are about the container.
func sameRules(t *testing.T, n *Network) {
	t.Helper()
	about := map[string]bool{}
	for line := range strings.Lines(ruleset) {
		line = strings.TrimSpace(line)
		about[strings.TrimSuffix(line, " # no")] = !strings.HasSuffix(line, "# no")
	}
	var want, got []string
	for line := range strings.Lines(output(t, "nft", "-n", "list", "ruleset")) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "ct state") {
			line = "ct state established,related accept" // -n prints bits
		}
		line = strings.NewReplacer("fib daddr type 2", "fib daddr type local", "iif oif 0 ", "iif oif missing ", "ip to ip daddr", "ip to ip daddr").Replace(line)
		if about[line] && line != "}" && !strings.Contains(line, " hook ") && !strings.HasPrefix(line, "chain") && !strings.HasPrefix(line, "table") {
			want = append(want, normal(line))
		}
	}
	for _, r := range n.Rules {
		got = append(got, normal(r.Text))
	}
	if !slices.Equal(got, want) {
		t.Errorf("rules\n%s\nnft\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// normal leaves out what nft prints and Rule has in fields of its own.
func normal(rule string) string {
	return strings.NewReplacer("meta l4proto tcp ", "", "meta l4proto udp ", "", "counter packets 0 bytes 0 ", "", "dnat ip to ", "dnat to ").Replace(rule)
}
