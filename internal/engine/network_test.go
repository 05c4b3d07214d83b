package engine

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"

	"vitro/internal/network"
)

func TestSetNetworks(t *testing.T) {
	on := func(names ...string) (out []Attachment) {
		for _, n := range names {
			out = append(out, Attachment{Network: n})
		}
		return out
	}
	ip := []Attachment{{Network: "none", IP: netip.MustParseAddr("10.0.0.1")}}
	mac := []Attachment{{Network: "host", MAC: "02:00:00:00:00:01"}}
	for _, c := range []struct {
		o    CreateOptions
		want string // mode and networks, or an error
	}{
		{CreateOptions{}, "none []"},
		{CreateOptions{Networks: on("default")}, "bridge [bridge]"},
		{CreateOptions{Networks: on("a", "cni:b")}, "a [a cni:b]"},
		{CreateOptions{Networks: on("host"), Publish: []string{"80"}}, "host []"},
		{CreateOptions{Networks: on("container:x")}, "container:x []"},
		{CreateOptions{Networks: on("a", "a")}, `network "a" is specified multiple times`},
		{CreateOptions{Networks: on("a", "none")}, "conflicting options: cannot attach both user-defined and non-user-defined network-modes"},
		{CreateOptions{Networks: on("none"), Publish: []string{"80"}}, "conflicting options: port publishing and the none type network mode"},
		{CreateOptions{Networks: on("container:x"), Publish: []string{"80"}}, "conflicting options: port publishing and the container type network mode"},
		{CreateOptions{Networks: on("container:x"), Expose: []string{"80"}}, "conflicting options: port exposing and the container type network mode"},
		{CreateOptions{Networks: on("container:x"), Hostname: "h"}, "conflicting options: hostname and the network mode"},
		{CreateOptions{Networks: on("container:x"), HostConfig: HostConfig{DNS: []string{"1.1.1.1"}}}, "conflicting options: dns and the network mode"},
		{CreateOptions{Networks: on("container:x"), HostConfig: HostConfig{ExtraHosts: []string{"a:1.1.1.1"}}}, "conflicting options: custom host-to-IP mapping and the network mode"},
		{CreateOptions{Networks: mac}, "conflicting options: mac-address and the network mode"},
		{CreateOptions{Networks: ip}, "conflicting options: --ip, --ip6, --network-alias and the network mode"},
		{CreateOptions{Networks: []Attachment{{Network: "a", MAC: "x"}}}, "x is not a valid mac address"},
		{CreateOptions{Networks: on("a"), HostConfig: HostConfig{DNS: []string{"x"}}}, "--dns: IP address is not correctly formatted: x"},
		{CreateOptions{Publish: []string{"x"}}, `--publish x: invalid container port: "x"`},
	} {
		img := testImage()
		got := ""
		if n, err := newContainer(img, c.o); err != nil {
			got = err.Error()
		} else {
			var names []string
			for _, a := range n.Networks {
				names = append(names, a.Network)
			}
			got = n.HostConfig.NetworkMode + " [" + strings.Join(names, " ") + "]"
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.o, got, c.want)
		}
	}
}

// Ports are kept in Docker's shape, and read back as they were.
func TestPorts(t *testing.T) {
	img := testImage()
	img.Config.Config.ExposedPorts = map[string]struct{}{"443/tcp": {}}
	c, err := newContainer(img, CreateOptions{
		Publish: []string{"127.0.0.1:8080:80", "[::1]:8080:80", "7000-7001:70-71/udp", "9000-9010:90", "91"}, Expose: []string{"100-101"}, Networks: []Attachment{{Network: "lan"}},
		HostConfig: HostConfig{PublishAllPorts: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(c.HostConfig.PortBindings)
	want := `{"70/udp":[{"HostIp":"","HostPort":"7000"}],"71/udp":[{"HostIp":"","HostPort":"7001"}],"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"},` +
		`{"HostIp":"::1","HostPort":"8080"}],"90/tcp":[{"HostIp":"","HostPort":"9000-9010"}],"91/tcp":[{"HostIp":"","HostPort":""}]}`
	if string(b) != want {
		t.Errorf("bindings:\n%s, want\n%s", b, want)
	}
	ports, err := c.ports()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range ports {
		b := newBinding(p)
		got = append(got, b.HostIP+"|"+b.HostPort+"|"+PortKey(p))
	}
	const all = "|7000|70/udp |7001|71/udp 127.0.0.1|8080|80/tcp ::1|8080|80/tcp |9000-9010|90/tcp ||91/tcp ||100/tcp ||101/tcp ||443/tcp"
	if s := strings.Join(got, " "); s != all {
		t.Errorf("ports: %s, want %s", s, all)
	}
}

// A container's own lines of /etc/hosts follow its networks; what it wrote itself stays.
func TestEditHosts(t *testing.T) {
	e := &Engine{Root: t.TempDir()}
	c := &Container{ID: "x", Config: Config{Hostname: "a.b"}, HostConfig: HostConfig{NetworkMode: "lan", ExtraHosts: []string{"gw:host-gateway"}}}
	if err := os.MkdirAll(e.dir("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	first, second, gw := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.0.0.1")
	if err := e.writeHosts(c, []netip.Addr{first}, []netip.Addr{gw}); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		b, err := os.ReadFile(e.dir("x", "hosts"))
		if err != nil {
			t.Fatal(err)
		}
		_, tail, _ := strings.Cut(string(b), "ip6-allrouters\n")
		return tail
	}
	if got, want := read(), "10.0.0.1\tgw\n10.0.0.2\ta.b a\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	f, err := os.OpenFile(e.dir("x", "hosts"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("1.2.3.4 own"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := e.editHosts(c, []netip.Addr{first}, []netip.Addr{second}); err != nil {
		t.Fatal(err)
	}
	if got, want := read(), "10.0.0.1\tgw\n1.2.3.4 own\n10.1.0.2\ta.b a\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := e.editHosts(c, []netip.Addr{second}, nil); err != nil { // shorter
		t.Fatal(err)
	}
	if got, want := read(), "10.0.0.1\tgw\n1.2.3.4 own\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if err := os.Truncate(e.dir("x", "hosts"), maxHosts+1); err != nil { // the container may do so
		t.Fatal(err)
	}
	if err := e.editHosts(c, nil, []netip.Addr{second}); err != nil {
		t.Fatal(err)
	}
	if got := read(); strings.Contains(got, "10.1.0.2") || !strings.HasSuffix(got, "\x00") {
		t.Errorf("a file that is too long was edited: %.80q", got)
	}
}

// The exit status of a container whose network fails is 125, whatever the errno's text.
func TestFailureCodeOfNetworks(t *testing.T) {
	if c := FailureCode(netFailed(os.ErrNotExist)); c != 125 {
		t.Errorf("%d", c)
	}
}

func TestInspectNetwork(t *testing.T) {
	n := &network.Network{
		Name: "lan", ID: "id", Driver: "bridge", IPv6: true,
		Subnets: []network.Subnet{
			{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1"), Range: netip.MustParsePrefix("10.0.0.128/25"), Aux: map[string]netip.Addr{"r": netip.MustParseAddr("10.0.0.5")}},
			{Prefix: netip.MustParsePrefix("fd00::/64"), Gateway: netip.MustParseAddr("fd00::1")},
		},
	}
	ep := &network.Endpoint{ID: "ep", Container: "c", Name: "web", MAC: "02:42:00:00:00:00", IP4: netip.MustParsePrefix("10.0.0.2/24")}
	b, err := json.Marshal(InspectNetwork(n, []*network.Endpoint{ep}))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"Name":"lan","Id":"id","Created":"0001-01-01T00:00:00Z","Scope":"local","Driver":"bridge","EnableIPv4":true,"EnableIPv6":true,` +
		`"IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"10.0.0.0/24","IPRange":"10.0.0.128/25","Gateway":"10.0.0.1","AuxiliaryAddresses":{"r":"10.0.0.5"}},` +
		`{"Subnet":"fd00::/64","Gateway":"fd00::1"}]},"Internal":false,"Attachable":false,"Ingress":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,` +
		`"Containers":{"c":{"Name":"web","EndpointID":"ep","MacAddress":"02:42:00:00:00:00","IPv4Address":"10.0.0.2/24","IPv6Address":""}},"Options":{},"Labels":{}}`
	if string(b) != want {
		t.Errorf("%s\nwant %s", b, want)
	}
}
