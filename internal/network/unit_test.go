package network

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/nftables"
)

var update = flag.Bool("update", false, "rewrite golden files")

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestParsePorts(t *testing.T) {
	for _, c := range []struct {
		arg  string
		want []Port
	}{
		{"80", []Port{{Proto: "tcp", Port: 80}}},
		{"8080:80", []Port{{Proto: "tcp", HostPort: 8080, Port: 80}}},
		{"8080:80/UDP", []Port{{Proto: "udp", HostPort: 8080, Port: 80}}},
		{"127.0.0.1:8080:80/sctp", []Port{{Proto: "sctp", HostIP: ip("127.0.0.1"), HostPort: 8080, Port: 80}}},
		{"127.0.0.1::80", []Port{{Proto: "tcp", HostIP: ip("127.0.0.1"), Port: 80}}},
		{":80", []Port{{Proto: "tcp", Port: 80}}},
		{"0:80", []Port{{Proto: "tcp", Port: 80}}},
		{"[::1]:8080:80", []Port{{Proto: "tcp", HostIP: ip("::1"), HostPort: 8080, Port: 80}}},
		{"[::]::80", []Port{{Proto: "tcp", HostIP: ip("::"), Port: 80}}},
		{"8000-8001:80-81", []Port{{Proto: "tcp", HostPort: 8000, Port: 80}, {Proto: "tcp", HostPort: 8001, Port: 81}}},
		{"8000-8009:80", []Port{{Proto: "tcp", HostPort: 8000, HostEnd: 8009, Port: 80}}},
		{"80-81", []Port{{Proto: "tcp", Port: 80}, {Proto: "tcp", Port: 81}}},
		{"65535:65535", []Port{{Proto: "tcp", HostPort: 65535, Port: 65535}}},
	} {
		got, err := ParsePorts(c.arg)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %v", c.arg, got, err)
		}
	}
	for _, c := range [][2]string{
		{"", `--publish : invalid container port: ""`},
		{"0", `--publish 0: invalid container port: "0"`},
		{"8080:", `--publish 8080:: invalid container port: ""`},
		{"65536:80", `--publish 65536:80: invalid host port: "65536"`},
		{"80-79", `--publish 80-79: invalid container port: "80-79"`},
		{"8080:80/icmp", "--publish 8080:80/icmp: invalid proto: icmp"},
		{"1-3:80-81", "--publish 1-3:80-81: invalid ranges specified for container and host Ports: 80-81 and 1-3"},
		{"::1:8080:80", "--publish ::1:8080:80: invalid IP address: ::1"},
		{"[127.0.0.1]:8080:80", "--publish [127.0.0.1]:8080:80: invalid IP address: [127.0.0.1]"},
		{"host:8080:80", "--publish host:8080:80: invalid IP address: host"},
		{"1:2:3:4", "--publish 1:2:3:4: invalid IP address: 1:2"},
	} {
		if _, err := ParsePorts(c[0]); err == nil || err.Error() != c[1] {
			t.Errorf("%s: %v", c[0], err)
		}
	}
	got, err := ParseExpose("53-54/udp")
	if want := []Port{{Proto: "udp", Port: 53}, {Proto: "udp", Port: 54}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func FuzzParsePorts(f *testing.F) {
	for _, s := range []string{"80", "[::1]:1-2:3-4/udp", "127.0.0.1::80", ":", "/", "[]::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ports, err := ParsePorts(s)
		if err == nil && len(ports) == 0 {
			t.Errorf("%q: neither ports nor an error", s)
		}
		for _, p := range ports {
			if p.Port == 0 || protocols[p.Proto] == 0 {
				t.Errorf("%q: %+v", s, p)
			}
		}
	})
}

func TestCheckSubnet(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, c := range []struct {
		in   Subnet
		want string
	}{
		{Subnet{Prefix: prefix("10.1.0.0/16")}, "10.1.0.1"},
		{Subnet{Prefix: prefix("10.1.0.0/16"), Range: prefix("10.1.4.0/24")}, "10.1.4.0"},
		{Subnet{Prefix: prefix("fd00:1::/64")}, "fd00:1::1"},
		{Subnet{Prefix: prefix("10.1.0.0/30"), Gateway: ip("10.1.0.2")}, "10.1.0.2"},
		{Subnet{}, "--subnet: ADDRESS/BITS is needed"},
		{Subnet{Prefix: prefix("10.1.0.1/16")}, "--subnet 10.1.0.1/16: it has host bits set (10.1.0.0/16?)"},
		{Subnet{Prefix: prefix("127.0.0.0/8")}, "--subnet 127.0.0.0/8: not a range of unicast addresses"},
		{Subnet{Prefix: prefix("fe80::/64")}, "--subnet fe80::/64: link-local addresses of IPv6 are not routed"},
		{Subnet{Prefix: prefix("10.1.0.0/24"), Aux: map[string]netip.Addr{"a": ip("10.1.0.1")}}, "--aux-address a=10.1.0.1: it is the gateway"},
		{Subnet{Prefix: prefix("ff02::/64")}, "--subnet ff02::/64: not a range of unicast addresses"},
		{Subnet{Prefix: prefix("10.1.0.0/31")}, "--subnet 10.1.0.0/31: too small for a gateway and a container"},
		{Subnet{Prefix: prefix("10.1.0.0/16"), Range: prefix("10.2.0.0/24")}, "--ip-range 10.2.0.0/24: not in subnet 10.1.0.0/16"},
		{Subnet{Prefix: prefix("10.1.0.0/16"), Gateway: ip("10.2.0.1")}, "--gateway 10.2.0.1: not a host of subnet 10.1.0.0/16"},
		{Subnet{Prefix: prefix("10.1.0.0/16"), Gateway: ip("10.1.255.255")}, "--gateway 10.1.255.255: not a host of subnet 10.1.0.0/16"},
		{Subnet{Prefix: prefix("10.1.0.0/16"), Aux: map[string]netip.Addr{"nas": ip("10.2.0.9")}}, "--aux-address nas=10.2.0.9: not in subnet 10.1.0.0/16"},
	} {
		s, err := checkSubnet(c.in)
		got := s.Gateway.String()
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %s, want %s", c.in, got, c.want)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		n    Network
		want string
	}{
		{Network{Driver: DriverBridge, Options: map[string]string{OptICC: "false", OptMTU: "9000", OptBridgeName: "br0"}}, ""},
		{Network{Driver: "overlay"}, "driver overlay: unknown (bridge, macvlan, ipvlan)"},
		{Network{Driver: DriverHost, Name: "h"}, "driver host: only one instance of it is allowed"},
		{Network{Driver: DriverBridge, Options: map[string]string{"x": "y"}}, "--opt x: unknown to driver bridge"},
		{Network{Driver: DriverBridge, Options: map[string]string{OptMTU: "67"}}, "--opt com.docker.network.driver.mtu=67: not a number of bytes from 68 to 65535"},
		{Network{Driver: DriverBridge, Options: map[string]string{OptBridgeName: "a/b"}}, "--opt com.docker.network.bridge.name=a/b: '/' is not allowed in a link's name"},
		{Network{Driver: DriverBridge, Options: map[string]string{OptICC: "maybe"}}, "--opt com.docker.network.bridge.enable_icc=maybe: not true or false"},
		{Network{Driver: DriverBridge, Options: map[string]string{"icc": "maybe"}}, "--opt com.docker.network.bridge.enable_icc=maybe: not true or false"},
		{Network{Driver: DriverBridge, Options: map[string]string{"icc": "true", OptICC: "false"}}, "--opt icc: --opt com.docker.network.bridge.enable_icc is given too"},
		{Network{Driver: DriverMacvlan, Options: map[string]string{OptParent: "eth0", "icc": "false"}}, "--opt icc: unknown to driver macvlan"},
		{Network{Driver: DriverMacvlan}, "driver macvlan: --opt parent=LINK is needed"},
		{Network{Driver: DriverMacvlan, Options: map[string]string{OptParent: "eth0", OptMacvlanMode: "x"}}, "--opt macvlan_mode=x: not bridge, private, vepa or passthru"},
	} {
		got := ""
		if err := checkOptions(&c.n); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.n, got, c.want)
		}
	}
	n := Network{Driver: DriverBridge, Options: map[string]string{"icc": "false"}}
	if err := checkOptions(&n); err != nil || n.flag(OptICC) || len(n.Options) != 1 {
		t.Errorf("icc=false: %v, %v", n.Options, err)
	}
}

// TestTable compares the whole table of three networks and two containers with testdata/table.golden.
func TestTable(t *testing.T) {
	prefix := netip.MustParsePrefix
	nets := []*Network{
		{ID: "0123456789", Driver: DriverBridge, Link: "vitro0", Subnets: []Subnet{{Prefix: prefix("172.30.0.0/16")}, {Prefix: prefix("fd00:1::/64")}}},
		{ID: "1123456789", Driver: DriverBridge, Link: "br-inner", Internal: true, Subnets: []Subnet{{Prefix: prefix("172.31.0.0/16")}}},
		{ID: "2123456789", Driver: DriverBridge, Link: "br-strict", Options: map[string]string{OptICC: "false", OptMasquerade: "false"}, Subnets: []Subnet{{Prefix: prefix("10.9.0.0/24")}}},
		{Driver: DriverMacvlan, Link: "eth0", Subnets: []Subnet{{Prefix: prefix("192.168.1.0/24")}}},
	}
	eps := []*Endpoint{
		{Driver: DriverBridge, IP4: prefix("172.30.0.2/16"), IP6: prefix("fd00:1::2/64"), Ports: []Port{
			{Proto: "tcp", HostPort: 8080, Port: 80},
			{Proto: "udp", HostPort: 53, Port: 53, HostIP: ip("0.0.0.0")},
			{Proto: "tcp", HostPort: 8081, Port: 81, HostIP: ip("127.0.0.1")},
			{Proto: "sctp", HostPort: 99, Port: 99, HostIP: ip("2001:db8::1")},
		}},
		{Driver: DriverBridge, IP4: prefix("10.9.0.2/24"), Ports: []Port{{Proto: "tcp", HostPort: 443, Port: 443}}},
	}
	var els []element
	for _, n := range nets {
		els = append(els, networkElements(n)...)
	}
	for _, e := range eps {
		els = append(els, endpointElements(e)...)
	}
	sortElements(els)
	golden(t, "testdata/table.golden", render("vitro", els))
}

// render prints a table much as nft does.
func render(table string, els []element) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", table)
	for _, d := range sets() {
		kind, typ := "set", datatype(d.key).Name
		if d.data != nil {
			kind, typ = "map", typ+" : "+datatype(d.data).Name
		}
		fmt.Fprintf(&b, "\t%s %s {\n\t\ttype %s\n", kind, d.name, typ)
		for _, e := range els {
			if e.set == d.name {
				fmt.Fprintf(&b, "\t\t%s\n", e.render(d))
			}
		}
		b.WriteString("\t}\n")
	}
	for _, c := range chains() {
		fmt.Fprintf(&b, "\tchain %s {\n", c.name)
		if c.hook != nil {
			fmt.Fprintf(&b, "\t\ttype %s hook %d priority %d; policy accept;\n", c.kind, *c.hook, *c.prio)
		}
		for _, r := range c.rules {
			fmt.Fprintf(&b, "\t\t%s comment %q\n", r.text, r.comment())
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (e element) render(d setDef) string {
	s := fields(e.key, d.key)
	if e.keyEnd != "" {
		s += " to " + fields(e.keyEnd, d.key)
	}
	if d.data != nil {
		s += " : " + fields(e.val, d.data)
	}
	return s
}

func fields(key string, types []nftables.SetDatatype) string {
	var out []string
	for _, t := range types {
		f := key[:t.Bytes]
		key = key[min(uint32(len(key)), (t.Bytes+3)/4*4):]
		switch t {
		case nftables.TypeIFName:
			f = strings.TrimRight(f, "\x00")
		case nftables.TypeIPAddr, nftables.TypeIP6Addr:
			a, _ := netip.AddrFromSlice([]byte(f))
			f = a.String()
		case nftables.TypeInetProto:
			f = fmt.Sprint(f[0])
		case nftables.TypeEtherAddr:
			f = net.HardwareAddr(f).String()
		default:
			f = fmt.Sprint(int(f[0])<<8 | int(f[1]))
		}
		out = append(out, f)
	}
	return strings.Join(out, " . ")
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Errorf("%s (-update rewrites it): %v\n%s", path, err, got)
	}
}
