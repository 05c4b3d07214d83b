package explain

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"vitro/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var update = flag.Bool("update", false, "rewrite golden files")

func TestSafe(t *testing.T) {
	for _, tt := range []struct {
		in   string
		max  int
		want string
	}{
		{"plain text", 0, "plain text"},
		{"\x1b[31mred\x1b]0;title\a", 0, `\x1b[31mred\x1b]0;title\a`},
		{"a\nb\rc\td", 0, `a\nb\rc\td`},
		{"\u009b31m", 0, `\u009b31m`},           // C1: CSI
		{"\u0085\u2028", 0, `\u0085\u2028`},     // line ends
		{"a\u202egpj.exe", 0, `a\u202egpj.exe`}, // right to left override
		{"\u2066x\u2069\u200b\ufeff", 0, `\u2066x\u2069\u200b\ufeff`},
		{"\xff\xc3(", 0, `\xff\xc3(`},
		{"\x9b31m", 0, `\x9b31m`},
		{`back\slash`, 0, `back\\slash`},
		{"żółw 世界", 0, "żółw 世界"},
		{"Z\u0301\u0301\u0301\u0301", 0, "Z\u0301\u0301\\u0301\\u0301"},
		{"\U000e0041", 0, `\U000e0041`}, // tag characters
		{"\u3164", 0, `\u3164`},
		{"\x7f", 0, `\x7f`},
		{"abcdef", 4, "abc…"},
		{"世界世界", 5, "世界…"},
		{strings.Repeat("\x1b", 4096), 10, `\x1b\x1b\…`},
	} {
		got := Safe(tt.in, tt.max)
		if got != tt.want {
			t.Errorf("Safe(%q, %d) = %q, want %q", tt.in, tt.max, got, tt.want)
		}
	}
}

func FuzzSafe(f *testing.F) {
	for _, s := range []string{"\x1b[0m", "\u202e", "a\xffb", "世", `\`} {
		f.Add(s, 10)
	}
	f.Fuzz(func(t *testing.T, s string, max int) {
		max %= 300
		got := Safe(s, max)
		if !utf8.ValidString(got) {
			t.Errorf("%q: not UTF-8: %q", s, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) || blank(r) {
				t.Errorf("%q: %q comes through", s, r)
			}
		}
		if max > 1 && width(got) > max {
			t.Errorf("%q: %d columns, asked for %d", s, width(got), max)
		}
	})
}

func TestJSONEscapes(t *testing.T) {
	in := "a\x1b\u202e\u009b\U000e0041\x7f世\n"
	b, err := JSON(in)
	if err != nil {
		t.Fatal(err)
	}
	if want := `"a\u001b\u202e\u009b\udb40\udc41\u007f世\n"` + "\n"; string(b) != want {
		t.Errorf("%s, want %s", b, want)
	}
	var back string
	if err := json.Unmarshal(b, &back); err != nil || back != in {
		t.Errorf("comes back as %q: %v", back, err)
	}
}

func TestParseStatus(t *testing.T) {
	text := []byte("Name:\ta\\nb \\\\\nState:\tS (sleeping)\nTgid:\t7\nPid:\t7\nPPid:\t1\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n" +
		"Groups:\t10 20 \nNSpid:\t7\t3\t1\nThreads:\t2\nCapPrm:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n")
	want := &Process{
		Name: "a\nb \\", State: "S (sleeping)", PID: 7, PPID: 1, UID: [4]uint32{1, 2, 3, 4}, GID: [4]uint32{5, 6, 7, 8},
		Groups: []uint32{10, 20}, PIDs: []int{7, 3, 1}, Threads: 2, Caps: CapSets{Permitted: dockerDefault}, NoNewPrivs: true, Seccomp: 2, Filters: 3,
	}
	if p := parseStatus(text, 2); !reflect.DeepEqual(p, want) {
		t.Errorf("%+v\nwant %+v", p, want)
	}
	want.Groups, want.MoreGroups = want.Groups[:1], 1
	if p := parseStatus(text, 1); !reflect.DeepEqual(p, want) {
		t.Errorf("%+v\nwant %+v", p, want)
	}
}

func TestContainerOfCgroups(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for path, want := range map[string]string{
		"/docker/" + id:                                        "docker 0123456789ab",
		"/system.slice/docker-" + id + ".scope":                "docker 0123456789ab",
		"/libpod_parent/libpod-" + id:                          "podman 0123456789ab",
		"/libpod_parent/libpod-conmon-" + id:                   "",
		"/kubepods.slice/cri-containerd-" + id + ".scope/init": "containerd 0123456789ab",
		"/kubepods/besteffort/pod1/crio-" + id:                 "cri-o 0123456789ab",
		"/vitro-" + id:                                         "vitro 0123456789ab",
		"/user.slice/session-1.scope":                          "",
		"/docker/" + id[:63] + "g":                             "",
	} {
		if got := containerOfCgroups([]CgroupLine{{"", path}}); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestParseMounts(t *testing.T) {
	got := parseMounts("36 35 98:0 /mnt1 /a\\040b\\012c rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue\nnonsense\n" +
		"37 36 0:5 / /o ro - overlay overlay rw,lowerdir=/l1:/l\\134:2,upperdir=/u,workdir=/w\n")
	if len(got) != 2 || got[0].Point != "/a b\nc" || got[0].Propagation() != "shared 1, slave of 2" || got[1].Propagation() != "private" {
		t.Fatalf("%+v", got)
	}
	r := Root{}
	r.overlay(got[1].Super, nil)
	want := Root{Layers: []Layer{{Path: "/l1"}, {Path: "/l:2"}}, Upper: "/u", Work: "/w"}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("%+v, want %+v", r, want)
	}
}

// What a mount shows may have been removed since: no other file that has the kernel's words for it in its name is meant.
func TestDeletedSource(t *testing.T) {
	got := parseMounts("36 35 98:0 /a\\040b//deleted /x rw - ext4 /dev/root rw\n37 35 98:0 /c/deleted /y rw - ext4 /dev/root rw\n")
	for i, want := range []struct {
		deleted bool
		source  string
	}{{true, "/dev/root[/a b] (deleted)"}, {false, "/dev/root[/c/deleted]"}} {
		if m := got[i]; m.Deleted != want.deleted || m.source() != want.source {
			t.Errorf("%+v: source %q, want %q", m, m.source(), want.source)
		}
	}
	if p := hostPath(got, "98:0", "/a b/x"); p != "" {
		t.Errorf("a removed folder holds %q", p)
	}
}

func TestHostPath(t *testing.T) {
	host := parseMounts("1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /srv rw - ext4 /dev/b rw\n3 1 8:2 /x /y rw - ext4 /dev/b rw\n4 1 0:9 / /dev rw - devtmpfs d rw\n")
	for _, tt := range [][3]string{
		{"8:1", "/home/a", "/home/a"},
		{"8:2", "/d", "/srv/d"},
		{"8:2", "/x/z", "/y/z"},
		{"8:2", "/xz", "/srv/xz"},
		{"0:9", "/null", "/dev/null"},
		{"9:9", "/", ""},
	} {
		if got := hostPath(host, tt[0], tt[1]); got != tt[2] {
			t.Errorf("%s %s: %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}

func TestIDMap(t *testing.T) {
	m := parseIDMap("         0     100000      65536\n     65536 4294967294          1\nx\n")
	for id, want := range map[uint32]uint32{100000: 0, 101000: 1000, 165535: 65535, 165536: overflowID, 0: overflowID, 4294967294: 65536} {
		if got := m.inside(id); got != want {
			t.Errorf("%d: %d, want %d", id, got, want)
		}
	}
}

func TestParseSockets(t *testing.T) {
	got := parseSockets("tcp6", []byte("  sl  local_address remote_address st\n"+
		"   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n"+
		"   1: 0100007F:0016 0100007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n"))
	want := []Socket{{Protocol: "tcp6", Address: netip.MustParseAddrPort("[::1]:8080"), inode: 4711}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestSince(t *testing.T) {
	old := &Snapshot{[]Group{{Controllers: "cpu", Path: "/"}, {Controllers: "cpu", Path: "/a"}}}
	now := &Snapshot{[]Group{{Controllers: "cpu", Path: "/"}, {Controllers: "", Path: `/b\x1b`}}}
	b, err := JSON(old)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseSnapshot(b)
	if err != nil || !reflect.DeepEqual(back, old) {
		t.Fatalf("%+v: %v", back, err)
	}
	if got, want := ChangesText(now.Since(back), Page{}), "- cpu:/a\n+ v2:/b\\x1b\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err = ParseSnapshot([]byte(`{}`)); err == nil {
		t.Error("{} is no snapshot")
	}
	_, err = ParseSnapshot([]byte(`{"Groups":[{"Path":"/\u001b"}]}`))
	if want := "no snapshot of cgroups: groups[0] has characters that are not escaped"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// A rule of iptables-nft: a prefix that ends on a byte is a short load.
func TestDecodeRule(t *testing.T) {
	n := &nft{sets: map[string]*set{}, rules: map[string][]*decoded{}}
	table := &nftables.Table{Name: "nat", Family: nftables.TableFamilyIPv4}
	d := n.decode(table, []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{172, 17}},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte("docker0\x00\x00\x00\x00\x00\x00\x00\x00\x00")},
		&expr.Counter{Packets: 5, Bytes: 300},
		&expr.Masq{},
	})
	if got, want := strings.Join(d.words, " "), `ip saddr 172.17.0.0/16 oifname != "docker0" masquerade`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for addr, want := range map[string]bool{"172.17.0.2": true, "172.18.0.2": false, "fd00::1": false} {
		if named, _ := d.about(&who{addrs: []netip.Addr{netip.MustParseAddr(addr)}}); named != want {
			t.Errorf("about %s: %v, want %v", addr, named, want)
		}
	}
}

func TestFindBTFStrings(t *testing.T) {
	text := append(bytes.Repeat([]byte("\x00filler"), 20000), []byte("\x00pid\x00cred\x00last\x00")...)
	got, err := findStrings(text, "pid", "cred")
	if err != nil || text[got[0]] != 'p' || string(text[got[1]:got[1]+4]) != "cred" {
		t.Errorf("%v %v", got, err)
	}
	if _, err := findStrings(text, "nothere"); err != errBTF {
		t.Errorf("%v, want %v", err, errBTF)
	}
	head := make([]byte, 24)
	head[0], head[1], head[19] = 0x9f, 0xeb, 0xff // its strings begin behind the end
	if _, err := parseBTF(head); err != errBTF {
		t.Errorf("%v, want %v", err, errBTF)
	}
}

// fixed are facts of no real machine: a container with hostile texts, and most of what can be wrong with one.
func fixed() *Facts {
	kills, throttled, packets := int64(2), int64(0), uint64(17)
	uid := uint32(1000)
	caps := dockerDefault&^setOf("NET_RAW") | setOf("SYS_ADMIN")
	addr := netip.MustParseAddr("10.1.0.2")
	return &Facts{
		PID: 4711, Name: "web\x1b[2J", Command: "nginx", Hostname: "h\u202eost", Basis: "pid namespace",
		Processes: []*Process{
			{PID: 4711, PPID: 1, PIDs: []int{4711, 1}, State: "S (sleeping)", InsideUID: 0, UID: [4]uint32{0, 100000}, UserInside: "root", Command: "nginx: master\x1b]0;owned\a"},
			{PID: 4712, PPID: 4711, PIDs: []int{4712, 7, 1}, State: "R (running)", InsideUID: 33, UID: [4]uint32{0, 100033}, UserInside: "www\ndata", Command: strings.Repeat("A", 4096), Depth: 1},
		},
		Namespaces: []Namespace{
			{Kind: "net", Inode: 4026532001, Owner: 4026532000, Processes: 2, Containers: []string{"side\x9bcar"}},
			{Kind: "pid", Inode: 4026532002, Owner: 4026532000, Parent: 4026531836, Processes: 2, Children: 4026532009},
			{Kind: "user", Inode: 4026532000, Parent: 4026531837, OwnerUID: &uid, Processes: 3, Others: 1},
			{Kind: "uts", Inode: 4026531838, Owner: 4026531837, Host: true, Processes: 100},
		},
		Cgroup: &Cgroup{
			Mode: "v2", Paths: []CgroupPath{{Path: "/a/b\x1b[0m", Folder: "/sys/fs/cgroup/a/b"}},
			Limits: []Limit{
				{What: "memory", File: "memory.max", Own: "max", Value: 512 << 20, Text: "512 MiB", From: "/a", Use: "20 MiB"},
				{What: "pids", File: "pids.max", Own: "max", Unlimited: true, Text: "unlimited", Use: "2"},
				{What: "CPU time", File: "cpu.max", Own: "50000 100000", Value: 500, Text: "0.5 CPUs", From: "/a/b\x1b[0m", Use: "1.50 s"},
			},
			OOMKills: &kills, Throttled: &throttled, Freezer: "frozen", DevicesV2: 1,
			Pressure: []Pressure{{"memory", "some", "1.00", "2.00", "3.00"}},
		},
		Capabilities: &Capabilities{
			Sets:    CapSets{Permitted: caps, Effective: caps, Bounding: caps},
			Extra:   []CapNote{{"SYS_ADMIN", capAllows(21), true}},
			Missing: setOf("NET_RAW"), Securebits: newSecurebits(0x3), Seccomp: "disabled", LSM: "unconfined",
		},
		Mounts: &Mounts{
			Root: Root{
				Entry: "pivot_root", Why: "its root is the root of its mount namespace; nothing is below it", Type: "overlay", Device: "0:50", Inode: 42,
				Layers: []Layer{{Digest: "sha256:0123", Size: 3 << 20, Path: "/l/2"}, {Path: "/l/1"}}, Upper: "/c/upper",
			},
			Table: []Mount{
				{Point: "/", Root: "/", Type: "overlay", Source: "overlay", Options: []string{"rw"}, Class: "root"},
				{Point: "/proc", Root: "/", Type: "proc", Source: "proc", Options: []string{"rw"}, Class: "kernel"},
				{Point: "/var/run/docker.sock", Root: "/run/docker.sock", Type: "tmpfs", Source: "tmpfs", Options: []string{"rw"}, HostPath: "/run/docker.sock", Class: "bind"},
				{Point: "/etc\x1b]52;c;x\a\nb", Root: "/etc", Type: "ext4", Source: "/dev/a", Options: []string{"rw"}, HostPath: "/etc", Tags: []string{"shared:5"}, Class: "bind"},
			},
		},
		Users: &Users{
			UIDs: IDMap{{0, 0, 1}, {1, 100001, 65535}}, GIDs: IDMap{{0, 100000, 65536}}, Setgroups: "allow",
			IDs: []IDPair{{What: "uid, real"}, {What: "uid, effective"}, {What: "uid, saved"}, {What: "uid, file system"}, {What: "group", Inside: 5, Outside: 100005, NameIn: "t\x1bty"}},
		},
		Network: &Network{
			Links: []Link{
				{Index: 1, Name: "lo", Type: "device", Up: true, Addresses: []string{"127.0.0.1/8"}},
				{Index: 2, Name: "eth0", Type: "veth", Addresses: []string{"10.1.0.2/24"}, Peer: &Peer{Index: 9, Name: "veth9", Where: "host", Bridge: "br0", Addresses: []string{"10.1.0.1/24"}}},
			},
			Routes: []Route{{To: "default", Via: "10.1.0.1", Link: "eth0"}}, HostRoutes: []Route{{To: "10.1.0.0/24", Link: "br0", From: "10.1.0.1"}},
			Forwarding: map[string]bool{"ipv4": true},
			Rules:      []Rule{{"inet", "vitro", "postrouting", "postrouting nat, policy accept", "ip saddr 10.1.0.0/24 masquerade", &packets, &packets}},
			Ports: []Port{
				{Protocol: "tcp", Port: 8080, To: addr, ToPort: 80, How: "inet vitro prerouting", Reach: "everyone who can reach this host"},
				{Protocol: "tcp", Host: netip.MustParseAddr("127.0.0.1"), Port: 8081, To: addr, ToPort: 81, How: "inet vitro output", Reach: "this host only"},
			},
			Sockets: []Socket{{Protocol: "tcp", Address: netip.MustParseAddrPort("0.0.0.0:80"), PID: 4711, Process: "ng\x1binx"}},
			Notes:   []string{"a note"},
		},
	}
}

// How a process came to its root decides which capability leads out of it.
func TestRootFindings(t *testing.T) {
	for _, c := range []struct{ entry, capability, closed string }{
		{"chroot", "SYS_CHROOT", "--cap-drop SYS_CHROOT, or a mount namespace (config.json: linux.namespaces)"},
		{"chroot", "SYS_ADMIN", ""},
		{"move", "SYS_ADMIN", "leave out vitrun's --no-pivot"},
		{"move", "SYS_CHROOT", ""},
		{"pivot_root", "SYS_CHROOT", ""},
		{"host", "KILL", "give it a root file system"},
	} {
		f := &Facts{Namespaces: []Namespace{{Kind: "mnt"}}, Mounts: &Mounts{Root: Root{Entry: c.entry}}, Capabilities: &Capabilities{Sets: CapSets{Permitted: setOf(c.capability)}}}
		closed := ""
		for _, one := range findings(f) {
			if strings.Contains(one.What, "root is still") || strings.Contains(one.What, "old root") || strings.Contains(one.What, "file tree") {
				closed = one.Flag
			}
		}
		if closed != c.closed {
			t.Errorf("%s with %s: %q, want %q", c.entry, c.capability, closed, c.closed)
		}
	}
}

// A process of a container that calls itself docker-proxy publishes no port.
func TestMayPublish(t *testing.T) {
	m := &machine{self: &Process{NS: [Kinds]uint64{1, 1, 1, 1, 1, 1, 1, 1}}}
	for _, c := range []struct {
		name   string
		change func(*Process)
		want   bool
	}{
		{"docker's", func(*Process) {}, true},
		{"in a mount namespace of dockerd's", func(p *Process) { p.NS[KindMnt] = 2 }, true},
		{"another network", func(p *Process) { p.NS[KindNet] = 2 }, false},
		{"--network host", func(p *Process) { p.NS[KindPID] = 2 }, false},
		{"--network host --pid host", func(p *Process) { p.Container = "liar" }, false},
		{"another user namespace", func(p *Process) { p.NS[KindUser] = 2 }, false},
		{"another user", func(p *Process) { p.UID[1] = 1000 }, false},
	} {
		p := &Process{NS: m.self.NS}
		c.change(p)
		if got := m.mayPublish(p); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestGolden(t *testing.T) {
	f := fixed()
	f.Security = findings(f)
	js, err := JSON(f)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{
		"text": f.Text(Page{}), "narrow": f.Text(Page{Width: 100, Rows: 8}), "color": f.Text(Page{Color: true}), "json": string(js),
	} {
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: differs (-update rewrites it):\n%s", file, got)
		}
		if name == "color" {
			got = strings.NewReplacer("\x1b[0m", "", "\x1b[1m", "", "\x1b[2m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "").Replace(got)
		}
		clean(t, name, got)
		for line := range strings.Lines(got) {
			if name == "narrow" && width(line) > 101 {
				t.Errorf("%d columns: %s", width(line), line)
			}
		}
	}
}

// clean: a terminal cannot be told anything by text.
func clean(t *testing.T, what, text string) {
	t.Helper()
	for i, r := range text {
		if r != '\n' && (!unicode.IsPrint(r) || r == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd")) {
			t.Errorf("%s: %q comes through: %q", what, r, text[max(0, i-40):min(len(text), i+40)])
			return
		}
	}
}

// Every text field of every process of the machine goes through Safe; the one list of capabilities has all of the kernel's.
func TestCapabilityTable(t *testing.T) {
	b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		t.Fatal(err)
	}
	if last := atoi(strings.TrimSpace(string(b))); last > len(capabilities)-1 {
		t.Errorf("the kernel has %d capabilities, the table %d", last+1, len(capabilities))
	}
	if dockerDefault != 0xa80425fb {
		t.Errorf("Docker's default: %x", uint64(dockerDefault))
	}
}

// Docker's groups are /docker/ID on v1, and an event has the last part only.
func TestNamer(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	n := Namer{Containers: func() []Container { return nil }, byID: map[string]string{id: "docker 0123456789ab"}}
	for group, want := range map[string]string{
		id:                                    "docker 0123456789ab",
		"libpod-" + id:                        "podman 0123456789ab",
		strings.Repeat("fedcba9876543210", 4): "container fedcba987654",
		"session-1.scope":                     "",
	} {
		if got := n.Name(os.Getpid(), 0, group); got != want {
			t.Errorf("%s: %q, want %q", group, got, want)
		}
	}
}
