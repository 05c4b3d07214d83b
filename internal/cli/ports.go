package cli

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"vitro/internal/network"
)

func portCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "port CONTAINER [PRIVATE_PORT[/PROTO]]", Short: "List port mappings or a specific mapping for the container", Args: rangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			l, err := e.Find(args[0])
			if err != nil {
				return err
			}
			eps, err := e.Endpoints(l)
			if err != nil {
				return err
			}
			if len(args) == 2 {
				return printPort(cmd, eps, args[1], args[0])
			}
			for _, line := range sortedPorts(eps) {
				fmt.Fprintf(cmd.OutOrStdout(), "%s -> %s\n", line.key, line.at)
			}
			return nil
		},
	}
}

// printPort prints where one port is published.
func printPort(cmd *cobra.Command, eps []*network.Endpoint, port, ref string) error {
	number, proto, ok := strings.Cut(port, "/")
	if !ok {
		proto = "tcp"
	}
	if n, err := strconv.ParseUint(number, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("invalid port '%s'", number)
	}
	found := false
	for _, line := range sortedPorts(eps) {
		if line.key == number+"/"+proto {
			fmt.Fprintln(cmd.OutOrStdout(), line.at)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("no public port '%s/%s' published for %s", number, proto, ref)
	}
	return nil
}

// sortedPorts are in the order of the container's ports, then the host's.
func sortedPorts(eps []*network.Endpoint) []portLine {
	lines := portLines(eps)
	sortPorts(lines)
	return lines
}

func sortPorts(lines []portLine) {
	slices.SortFunc(lines, func(a, b portLine) int {
		an, ap := splitKey(a.key)
		bn, bp := splitKey(b.key)
		return cmp.Or(cmp.Compare(an, bn), cmp.Compare(ap, bp), a.at.Compare(b.at))
	})
}

// splitKey reads 80/tcp.
func splitKey(key string) (port int, proto string) {
	n, proto, _ := strings.Cut(key, "/")
	port, _ = strconv.Atoi(n)
	return port, proto
}

// portsText is the column PORTS of docker ps: what is only exposed, and what is published under its own number, as ranges; then
// what is published under another.
func portsText(eps []*network.Endpoint, exposed map[string]struct{}) string {
	lines, published := sortedPorts(eps), map[string]bool{}
	for _, l := range lines {
		published[l.key] = true
	}
	for key := range exposed {
		if !published[key] {
			lines = append(lines, portLine{key: key})
		}
	}
	sortPorts(lines)
	var groups, mapped []string
	last := map[string]*portGroup{} // by address and protocol
	var open []*portGroup
	for _, l := range lines {
		port, proto := splitKey(l.key)
		if l.at.IsValid() && int(l.at.Port()) != port {
			mapped = append(mapped, l.at.String()+"->"+l.key)
			continue
		}
		at := l.at.Addr().String() + proto
		if g := last[at]; g != nil && g.last == port-1 {
			g.last = port
			continue
		}
		last[at] = &portGroup{addr: l.at.Addr(), proto: proto, first: port, last: port}
		open = append(open, last[at])
	}
	for _, g := range open {
		groups = append(groups, g.String())
	}
	return strings.Join(append(groups, mapped...), ", ")
}

// portGroup is a range of ports on one address, or on none.
type portGroup struct {
	addr        netip.Addr
	proto       string
	first, last int
}

func (g *portGroup) String() string {
	text := rangeText(g.first, g.last)
	switch {
	case g.addr.Is6():
		text = "[" + g.addr.String() + "]:" + text + "->" + text
	case g.addr.Is4():
		text = g.addr.String() + ":" + text + "->" + text
	}
	return text + "/" + g.proto
}

func rangeText(first, last int) string {
	if first == last {
		return strconv.Itoa(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// rangeArgs is cobra.RangeArgs with Docker's words.
func rangeArgs(from, to int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if from <= len(args) && len(args) <= to {
			return nil
		}
		return fmt.Errorf("%q requires at least %d and at most %d arguments.\nSee '%s --help'.\n\nUsage:  %s\n\n%s", cmd.CommandPath(), from, to, cmd.CommandPath(), cmd.UseLine(), cmd.Short)
	}
}
