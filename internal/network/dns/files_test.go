package dns

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"reflect"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/*.golden")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name + ".golden"
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s (%v):\n%s\nwant\n%s", path, err, got, want)
	}
}

const hostFile = `# made by systemd-resolved
; old
nameserver 127.0.0.53
nameserver 192.0.2.53
nameserver fe80::1%eth0
nameserver not-an-address
domain left.example
search example.org corp.example
options edns0 trust-ad
sortlist 192.0.2.0
`

func TestResolve(t *testing.T) {
	at := func(s string, in bool) Upstream { return Upstream{netip.MustParseAddrPort(s), in} }
	host := []Upstream{at("127.0.0.53:53", false), at("192.0.2.53:53", false), at("[fe80::1%eth0]:53", false)}
	for _, c := range []struct {
		name  string
		host  string
		mode  Mode
		o     Options
		up    []Upstream
		ndots int
	}{
		{"embedded", hostFile, Embedded, Options{}, host, 0},
		{"embedded-flags", hostFile, Embedded, Options{
			Servers: []string{"192.0.2.1", "2001:db8::1", "127.0.0.1"}, Search: []string{"a.example", "b.example"}, Opts: []string{"ndots:2", "timeout:1"},
		}, []Upstream{at("192.0.2.1:53", false), at("[2001:db8::1]:53", false), at("127.0.0.1:53", true)}, 2},
		{"embedded-no-search", hostFile, Embedded, Options{Search: []string{"."}}, host, 0},
		{"embedded-empty", "", Embedded, Options{}, nil, 0},
		{"embedded-own", hostFile, Embedded, Options{Servers: []string{Addr, "::ffff:" + Addr}}, nil, 0},
		{"host", hostFile, Host, Options{}, nil, 0},
		{"host-flags", hostFile, Host, Options{Servers: []string{"192.0.2.1"}}, nil, 0},
		{"none", hostFile, None, Options{}, nil, 0},
	} {
		got := Resolve([]byte(c.host), c.mode, c.o)
		golden(t, "resolv-"+c.name, got.File)
		if !reflect.DeepEqual(got.Upstreams, c.up) || got.NDots != c.ndots {
			t.Errorf("%s: %v %d", c.name, got.Upstreams, got.NDots)
		}
	}
}

func TestCheckOptions(t *testing.T) {
	if err := CheckOptions(Options{[]string{"::1", "192.0.2.1"}, []string{".", "a_b.example.", "x"}, []string{"ndots:0", "rotate"}}); err != nil {
		t.Error(err)
	}
	for want, o := range map[string]Options{
		"--dns: IP address is not correctly formatted: 1.2.3":                {Servers: []string{"1.2.3"}},
		"--dns-search: a..b is not a valid domain":                           {Search: []string{"a..b"}},
		"--dns-search: a\nnameserver is not a valid domain":                  {Search: []string{"a\nnameserver"}},
		"--dns-opt: invalid number for ndots option: -1":                     {Opts: []string{"ndots:-1"}},
		"--dns-opt: \"x\\nnameserver 1\" is not an option of resolv.conf(5)": {Opts: []string{"x\nnameserver 1"}},
	} {
		if err := CheckOptions(o); err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestHosts(t *testing.T) {
	a := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	var extra []HostEntry
	for _, arg := range []string{"db:192.0.2.7", "v6:2001:db8::7", "b=[2001:db8::8]", "gw:host-gateway"} {
		e, err := ParseAddHost(arg, []netip.Addr{a("172.17.0.1"), a("fd00::1")})
		if err != nil {
			t.Fatal(err)
		}
		extra = append(extra, e...)
	}
	golden(t, "hosts", Hosts(nil, extra, Self{[]netip.Addr{a("172.17.0.2"), a("fd00::2")}, "c1", ""}))
	golden(t, "hosts-domain", Hosts(nil, nil, Self{[]netip.Addr{a("172.17.0.2")}, "c1", "example.org"}))
	golden(t, "hosts-fqdn", Hosts(nil, nil, Self{[]netip.Addr{a("172.17.0.2")}, "c1.example.org", ""}))
	golden(t, "hosts-none", Hosts(nil, nil, Self{nil, "c1", ""}))
	golden(t, "hosts-host", Hosts([]byte("127.0.0.1 localhost\n192.0.2.9 myhost"), extra[:1], Self{}))
	if got := string(Hostname("c1")); got != "c1\n" {
		t.Errorf("hostname: %q", got)
	}
}

func TestParseAddHostErrors(t *testing.T) {
	for arg, want := range map[string]string{
		"db":              `--add-host: bad format for add-host: "db"`,
		":1.2.3.4":        `--add-host: bad format for add-host: ":1.2.3.4"`,
		"db:1.2.3":        `--add-host: invalid IP address in add-host: "1.2.3"`,
		"a b:1.2.3.4":     `--add-host: bad name in add-host: "a b"`,
		"gw:host-gateway": `--add-host gw:host-gateway: unable to derive the IP value for host-gateway: the container has no network with a gateway`,
	} {
		if _, err := ParseAddHost(arg, nil); err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}
