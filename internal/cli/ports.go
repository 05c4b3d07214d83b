package cli

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"vitro/internal/engine"
	"vitro/internal/network"
)

func portCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "port CONTAINER [PRIVATE_PORT[/PROTO]]", Short: "List port mappings or a specific mapping for the container", Args: rangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, m, err := a.networks()
			if err != nil {
				return err
			}
			l, err := e.Find(args[0])
			if err != nil {
				return err
			}
			var eps []*network.Endpoint
			if l.Status == engine.Running {
				if eps, err = m.Endpoints(network.Filter{Container: l.ID}); err != nil {
					return err
				}
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
	slices.SortFunc(lines, func(a, b portLine) int {
		an, ap := splitKey(a.key)
		bn, bp := splitKey(b.key)
		return cmp.Or(cmp.Compare(an, bn), cmp.Compare(ap, bp), a.at.Compare(b.at))
	})
	return lines
}

// splitKey reads 80/tcp.
func splitKey(key string) (port int, proto string) {
	n, proto, _ := strings.Cut(key, "/")
	port, _ = strconv.Atoi(n)
	return port, proto
}

// portsText is the column PORTS of docker ps: neighbours on one address are one range. exposed are shown where they are not
// published.
func portsText(eps []*network.Endpoint, exposed map[string]struct{}) string {
	type span struct {
		addr              netip.Addr // zero: exposed only
		host, first, last int
		proto             string
	}
	var spans []span
	published := map[string]bool{}
	for _, line := range sortedPorts(eps) {
		published[line.key] = true
		n, proto := splitKey(line.key)
		spans = append(spans, span{line.at.Addr(), int(line.at.Port()), n, n, proto})
	}
	for key := range exposed {
		if !published[key] {
			n, proto := splitKey(key)
			spans = append(spans, span{first: n, last: n, proto: proto})
		}
	}
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.proto, b.proto), cmp.Compare(a.first, b.first), cmp.Compare(a.host, b.host))
	})
	var merged []span
	for _, s := range spans {
		if k := len(merged) - 1; k >= 0 {
			p := &merged[k]
			offset := s.first - p.first
			if p.addr == s.addr && p.proto == s.proto && s.first == p.last+1 && (!s.addr.IsValid() || s.host == p.host+offset) {
				p.last = s.last
				continue
			}
		}
		merged = append(merged, s)
	}
	slices.SortStableFunc(merged, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var out []string
	for _, s := range merged {
		text := rangeText(s.first, s.last) + "/" + s.proto
		if s.addr.IsValid() {
			host := s.addr.String()
			if s.addr.Is6() {
				host = "[" + host + "]"
			}
			text = host + ":" + rangeText(s.host, s.host+s.last-s.first) + "->" + text
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
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
