package cli

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vitro/internal/network"
)

func TestParseNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"lan":                                  "lan [] invalid IP invalid IP ",
		"container:web":                        "container:web [] invalid IP invalid IP ",
		"lan,alias=a,alias=b":                  "lan [a b] invalid IP invalid IP ",
		"name=lan,ip=10.0.0.2,ip6=fd00::2":     "lan [] 10.0.0.2 fd00::2 ",
		"name=lan,mac-address=02:00:00:00:0:1": "lan [] invalid IP invalid IP 02:00:00:00:0:1",
		"":                                     "!--network: no name specified",
		"alias=a":                              "!network name/id is not specified",
		"lan,a":                                "!invalid field a",
		"lan,link-local-ip=1":                  "!invalid field key link-local-ip",
		"lan,ip=fd00::1":                       "!invalid IPv4 address: fd00::1",
		"lan,ip6=10.0.0.1":                     "!invalid IPv6 address: 10.0.0.1",
	} {
		a, err := parseNetwork(in)
		got := fmt.Sprint(a.Network, " ", a.Aliases, " ", a.IP, " ", a.IP6, " ", a.MAC)
		if err != nil {
			got = "!" + err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestSubnetFlags(t *testing.T) {
	for _, c := range []struct {
		f    subnetFlags
		want string
	}{
		{subnetFlags{}, ""},
		{
			subnetFlags{subnet: []string{"10.0.0.0/24", "fd00::/64"}, gateway: []string{"fd00::5", "10.0.0.9"}, ipRange: []string{"10.0.0.128/25"}, aux: []string{"a=10.0.0.3"}},
			"10.0.0.0/24 10.0.0.9 10.0.0.128/25 map[a:10.0.0.3]; fd00::/64 fd00::5 invalid Prefix map[]",
		},
		{subnetFlags{subnet: []string{"10.0.0.0"}}, `!invalid subnet 10.0.0.0: netip.ParsePrefix("10.0.0.0"): no '/'`},
		{subnetFlags{ipRange: []string{"10.0.0.0/24"}}, "!every ip-range or gateway must have a corresponding subnet"},
		{subnetFlags{subnet: []string{"10.0.0.0/8", "10.1.0.0/16"}}, "!multiple overlapping subnet configuration is not supported"},
		{subnetFlags{subnet: []string{"10.0.0.0/24"}, gateway: []string{"10.0.1.1"}}, "!no matching subnet for gateway 10.0.1.1"},
		{subnetFlags{subnet: []string{"10.0.0.0/24"}, ipRange: []string{"10.0.1.0/25"}}, "!no matching subnet for range 10.0.1.0/25"},
		{subnetFlags{subnet: []string{"10.0.0.0/24"}, aux: []string{"a=10.0.1.1"}}, "!no matching subnet for aux-address 10.0.1.1"},
		{
			subnetFlags{subnet: []string{"10.0.0.0/24", "10.1.0.0/24"}, gateway: []string{"10.0.0.1", "10.0.0.2"}},
			"!cannot configure multiple gateways (10.0.0.2, 10.0.0.1) on the same subnet (10.0.0.0/24)",
		},
	} {
		subnets, err := c.f.subnets()
		var parts []string
		for _, s := range subnets {
			parts = append(parts, fmt.Sprint(s.Prefix, s.Gateway, s.Range, s.Aux))
		}
		got := strings.Join(parts, "; ")
		if err != nil {
			got = "!" + err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.f, got, c.want)
		}
	}
}

// The order and the ranges are those of docker ps.
func TestPortsText(t *testing.T) {
	ep := &network.Endpoint{IP4: netip.MustParsePrefix("10.0.0.2/24"), IP6: netip.MustParsePrefix("fd00::2/64")}
	for _, arg := range []string{"18071-18073:81-83", "127.0.0.1:80:80", "90-92:90-92", "18053:53/udp"} {
		ports, err := network.ParsePorts(arg)
		if err != nil {
			t.Fatal(err)
		}
		ep.Ports = append(ep.Ports, ports...)
	}
	got := portsText([]*network.Endpoint{ep}, map[string]struct{}{"999/tcp": {}, "1000/tcp": {}, "80/tcp": {}})
	want := "127.0.0.1:80->80/tcp, 0.0.0.0:90-92->90-92/tcp, [::]:90-92->90-92/tcp, 999-1000/tcp, 0.0.0.0:18053->53/udp, [::]:18053->53/udp, " +
		"0.0.0.0:18071->81/tcp, [::]:18071->81/tcp, 0.0.0.0:18072->82/tcp, [::]:18072->82/tcp, 0.0.0.0:18073->83/tcp, [::]:18073->83/tcp"
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestNetworkFilters(t *testing.T) {
	nets := []*network.Network{
		{Name: "bridge", ID: "aa", Driver: "bridge"},
		{Name: "lan", ID: "ab", Driver: "bridge", Labels: map[string]string{"k": "v", "e": ""}, Created: time.Now()},
		{Name: "vlan", ID: "bb", Driver: "macvlan", Labels: map[string]string{"k": "w"}, Created: time.Now()},
	}
	known := []string{"driver", "id", "name", "label", "label!", "scope", "type", "until"}
	for in, want := range map[string]string{
		"":                       "bridge lan vlan",
		"name=lan":               "lan vlan",
		"id=a":                   "bridge lan",
		"driver=bridge id=b":     "lan",
		"driver=macvlan":         "vlan",
		"driver=bridge driver=x": "bridge lan",
		"label=k":                "lan vlan",
		"label=k label=e":        "lan",
		"label=k=w":              "vlan",
		"label!=k":               "bridge",
		"type=builtin":           "bridge",
		"scope=swarm":            "",
		"until=1h":               "bridge",
		"type=x":                 "!invalid filter: 'type'='x'",
		"until=x":                "!invalid filter: 'until'='x'",
		"foo=x":                  "!invalid filter 'foo'",
		"x":                      `!invalid argument "x" for "-f, --filter" flag: invalid filter 'x'`,
	} {
		match, err := parseNetworkFilters(strings.Fields(in), known)
		got := ""
		if err != nil {
			got = "!" + err.Error()
		} else {
			var names []string
			for _, n := range nets {
				if match(n) {
					names = append(names, n.Name)
				}
			}
			slices.Sort(names)
			got = strings.Join(names, " ")
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
