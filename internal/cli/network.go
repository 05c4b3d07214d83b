package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vitro/internal/engine"
	"vitro/internal/network"
)

func networkCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "network COMMAND", Short: "Manage networks", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(networkCreateCmd(a), networkListCmd(a), networkInspectCmd(a), networkRemoveCmd(a), networkPruneCmd(a),
		networkConnectCmd(a), networkDisconnectCmd(a), networkReconcileCmd(a), networkHookCmd(a))
	return cmd
}

// networks opens the engine and its networks.
func (a *app) networks() (*engine.Engine, *network.Manager, error) {
	e, err := a.open()
	if err != nil {
		return nil, nil, err
	}
	m, err := e.Networks()
	return e, m, err
}

func networkCreateCmd(a *app) *cobra.Command {
	var o network.CreateOptions
	var s subnetFlags
	var opts, labels []string
	cmd := &cobra.Command{
		Use: "create [OPTIONS] NETWORK", Short: "Create a network", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.Name = args[0]
			if o.Subnets, err = s.subnets(); err != nil {
				return err
			}
			o.Options, o.Labels = keyValues(opts), keyValues(labels)
			_, m, err := a.networks()
			if err != nil {
				return err
			}
			n, err := m.Create(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), n.ID)
			return nil
		},
	}
	p := cmd.Flags()
	p.StringVarP(&o.Driver, "driver", "d", network.DriverBridge, "Driver to manage the Network: bridge, macvlan, ipvlan")
	p.BoolVar(&o.Internal, "internal", false, "Restrict external access to the network")
	p.BoolVar(&o.IPv6, "ipv6", false, "Enable IPv6 address assignment")
	p.StringSliceVar(&s.subnet, "subnet", nil, "Subnet in CIDR format that represents a network segment")
	p.StringSliceVar(&s.gateway, "gateway", nil, "IPv4 or IPv6 Gateway for the subnet")
	p.StringSliceVar(&s.ipRange, "ip-range", nil, "Allocate container ip from a sub-range")
	p.StringArrayVar(&s.aux, "aux-address", nil, "Auxiliary IPv4 or IPv6 addresses used by others: NAME=ADDRESS")
	p.StringArrayVarP(&opts, "opt", "o", nil, "Set driver specific options")
	p.StringArrayVar(&labels, "label", nil, "Set metadata on a network")
	p.BoolVar(&o.Attachable, "attachable", false, "Enable manual container attachment (which networks of one host always have)")
	refuse(p, refusedOfNetwork...)
	return cmd
}

func keyValues(list []string) map[string]string {
	m := map[string]string{}
	for _, kv := range list {
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	return m
}

// subnetFlags are --subnet and what belongs to the subnet that it lies in.
type subnetFlags struct{ subnet, gateway, ipRange, aux []string }

func (f *subnetFlags) subnets() (out []network.Subnet, err error) {
	if len(f.subnet) < len(f.gateway) || len(f.subnet) < len(f.ipRange) {
		return nil, errors.New("every ip-range or gateway must have a corresponding subnet")
	}
	for _, s := range f.subnet {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("invalid subnet %s: %w", s, err)
		}
		if slices.ContainsFunc(out, func(o network.Subnet) bool { return o.Prefix.Overlaps(p) }) {
			return nil, errors.New("multiple overlapping subnet configuration is not supported")
		}
		out = append(out, network.Subnet{Prefix: p})
	}
	in := func(what, arg string, a netip.Addr) (*network.Subnet, error) {
		i := slices.IndexFunc(out, func(s network.Subnet) bool { return s.Prefix.Contains(a) })
		if i < 0 {
			return nil, fmt.Errorf("no matching subnet for %s %s", what, arg)
		}
		return &out[i], nil
	}
	for _, g := range f.gateway {
		addr, err := netip.ParseAddr(g)
		if err != nil {
			return nil, fmt.Errorf("invalid gateway %s: %w", g, err)
		}
		s, err := in("gateway", g, addr)
		if err != nil {
			return nil, err
		}
		if s.Gateway.IsValid() {
			return nil, fmt.Errorf("cannot configure multiple gateways (%s, %s) on the same subnet (%s)", g, s.Gateway, s.Prefix)
		}
		s.Gateway = addr
	}
	for _, r := range f.ipRange {
		p, err := netip.ParsePrefix(r)
		if err != nil {
			return nil, fmt.Errorf("invalid ip-range %s: %w", r, err)
		}
		s, err := in("range", r, p.Addr())
		if err != nil {
			return nil, err
		}
		if s.Range.IsValid() {
			return nil, fmt.Errorf("cannot configure multiple ranges (%s, %s) on the same subnet (%s)", r, s.Range, s.Prefix)
		}
		s.Range = p
	}
	for _, kv := range f.aux {
		name, value, _ := strings.Cut(kv, "=")
		addr, err := netip.ParseAddr(value)
		if err != nil {
			return nil, fmt.Errorf("invalid aux-address %s: %w", kv, err)
		}
		s, err := in("aux-address", value, addr)
		if err != nil {
			return nil, err
		}
		if s.Aux == nil {
			s.Aux = map[string]netip.Addr{}
		}
		s.Aux[name] = addr
	}
	return out, nil
}

func networkInspectCmd(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "inspect [OPTIONS] NETWORK [NETWORK...]", Short: "Display detailed information on one or more networks", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, m, err := a.networks()
			if err != nil {
				return err
			}
			found, failed := []any{}, error(nil)
			for _, ref := range args {
				v, err := inspectNetwork(cmd.Context(), m, ref)
				if err != nil {
					failed = errors.Join(failed, err)
					continue
				}
				found = append(found, v)
			}
			return errors.Join(printInspect(cmd, found, format), failed)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Format output using a Go template, or 'json'")
	return cmd
}

func inspectNetwork(ctx context.Context, m *network.Manager, ref string) (any, error) {
	n, err := engine.FindNetwork(ctx, m, ref)
	if err != nil {
		return nil, err
	}
	eps, err := m.Endpoints(network.Filter{Network: n.ID})
	return engine.InspectNetwork(n, eps), err
}

func networkRemoveCmd(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rm NETWORK [NETWORK...]", Aliases: []string{"remove"}, Short: "Remove one or more networks", Args: needArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, m, err := a.networks()
			if err != nil {
				return err
			}
			return each(cmd, args, func(ref string) error {
				err := removeNetwork(cmd.Context(), m, ref)
				if force && errors.Is(err, network.ErrNotFound) {
					return errTold
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not error if the network does not exist")
	return cmd
}

// removeNetwork is Manager.Remove with Docker's words.
func removeNetwork(ctx context.Context, m *network.Manager, ref string) error {
	n, err := engine.FindNetwork(ctx, m, ref)
	if err != nil {
		return err
	}
	err = m.Remove(ctx, n.Name)
	lastTable(ctx, m, err)
	switch {
	case errors.Is(err, network.ErrNotFound):
		return &engine.NetworkNotFoundError{Ref: ref}
	case errors.Is(err, network.ErrInUse):
		var users []string
		eps, _ := m.Endpoints(network.Filter{Network: n.ID})
		for _, ep := range eps {
			users = append(users, fmt.Sprintf("name:%q id:%q", ep.Name, ep.ID[:12]))
		}
		return fmt.Errorf("error while removing network: network %s id %s has active endpoints (%s)", n.Name, n.ID, strings.Join(users, ", "))
	}
	return err
}

// lastTable takes the rules away after a removal, if that was the last bridge. The removal stands, whatever becomes of that.
func lastTable(ctx context.Context, m *network.Manager, removed error) {
	if removed == nil {
		_, _ = m.Reconcile(ctx)
	}
}

func networkPruneCmd(a *app) *cobra.Command {
	var force bool
	var filters []string
	cmd := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove all unused networks", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			match, err := parseNetworkFilters(filters, []string{"until", "label", "label!"})
			if err != nil {
				return err
			}
			if !force && !confirm(cmd, "WARNING! This will remove all custom networks not used by at least one container.") {
				return nil
			}
			_, m, err := a.networks()
			if err != nil {
				return err
			}
			gone, err := m.Prune(cmd.Context(), func(n *network.Network) bool { return !match(n) })
			if len(gone) > 0 {
				lastTable(cmd.Context(), m, err)
				fmt.Fprintf(cmd.OutOrStdout(), "Deleted Networks:\n%s\n\n", strings.Join(gone, "\n"))
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "Provide filter values: until, label, label!")
	return cmd
}

// confirm asks on standard output and reads from standard input; no answer is no.
func confirm(cmd *cobra.Command, warning string) bool {
	fmt.Fprintf(cmd.OutOrStdout(), "%s\nAre you sure you want to continue? [y/N] ", warning)
	answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(answer), "y")
}

func networkConnectCmd(a *app) *cobra.Command {
	var at engine.Attachment
	var ip, ip6 string
	cmd := &cobra.Command{
		Use: "connect [OPTIONS] NETWORK CONTAINER", Short: "Connect a container to a network", Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := setIPs(&at, ip, ip6); err != nil {
				return err
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			return e.Connect(cmd.Context(), args[0], args[1], at)
		},
	}
	p := cmd.Flags()
	p.StringSliceVar(&at.Aliases, "alias", nil, "Add network-scoped alias for the container")
	p.StringVar(&ip, "ip", "", "IPv4 address (e.g., \"172.30.100.104\")")
	p.StringVar(&ip6, "ip6", "", "IPv6 address (e.g., \"2001:db8::33\")")
	p.StringVar(&at.MAC, "mac-address", "", "MAC address of the interface")
	refuse(p, refused{"driver-opt", "", "drivers have no options for one container"}, refused{"gw-priority", "0", "the first network that leads out has the default route"},
		refused{"link", "", "containers of one network have each other's names"}, refused{"link-local-ip", "", "give an address by --ip6"})
	return cmd
}

func networkDisconnectCmd(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "disconnect [OPTIONS] NETWORK CONTAINER", Short: "Disconnect a container from a network", Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			return e.Disconnect(cmd.Context(), args[0], args[1], force)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Force the container to disconnect from a network")
	return cmd
}

func networkReconcileCmd(a *app) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use: "reconcile", Short: "Make links, addresses and rules what the records say, and remove what has no owner", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			r, err := e.Reconcile(cmd.Context())
			for _, c := range r.Changes {
				fmt.Fprintln(cmd.OutOrStdout(), c)
			}
			for _, w := range r.Warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "vitro: warning: "+w)
			}
			if err == nil && len(r.Changes) == 0 && !quiet {
				as := "endpoints as they should be"
				if r.Kept == 1 {
					as = "endpoint as it should be"
				}
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to do:", r.Kept, as)
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Say nothing if there is nothing to do")
	return cmd
}

// networkRow has the fields of docker network ls --format.
type networkRow struct {
	ID, Name, Driver, Scope, IPv4, IPv6, Internal, Labels, CreatedAt string

	labels map[string]string
}

// Label is for templates: {{.Label "key"}}.
func (r networkRow) Label(key string) string { return r.labels[key] }

func newNetworkRow(n *network.Network, noTrunc bool) networkRow {
	r := networkRow{
		ID: n.ID[:12], Name: n.Name, Driver: n.Driver, Scope: "local", IPv6: strconv.FormatBool(n.IPv6), Internal: strconv.FormatBool(n.Internal),
		CreatedAt: n.Created.Local().Format("2006-01-02 15:04:05.999999999 -0700 MST"), labels: n.Labels,
	}
	if noTrunc {
		r.ID = n.ID
	}
	r.IPv4 = strconv.FormatBool(slices.ContainsFunc(n.Subnets, func(s network.Subnet) bool { return s.Prefix.Addr().Is4() }))
	var labels []string
	for k, v := range n.Labels {
		labels = append(labels, k+"="+v)
	}
	slices.Sort(labels)
	r.Labels = strings.Join(labels, ",")
	return r
}

func networkListCmd(a *app) *cobra.Command {
	var quiet, noTrunc, endpoints bool
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List networks", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, m, err := a.networks()
			if err != nil {
				return err
			}
			match, err := networkFilter(m, filters)
			if err != nil {
				return err
			}
			nets, err := m.List(cmd.Context())
			if err != nil {
				return err
			}
			nets = slices.DeleteFunc(nets, func(n *network.Network) bool { return !match(n) })
			if endpoints {
				return listEndpoints(cmd, m, nets, quiet, noTrunc, format)
			}
			var rows []networkRow
			for _, n := range nets {
				rows = append(rows, newNetworkRow(n, noTrunc))
			}
			return printRows(cmd.OutOrStdout(), rows, []column[networkRow]{
				{"NETWORK ID", func(r networkRow) string { return r.ID }},
				{"NAME", func(r networkRow) string { return r.Name }},
				{"DRIVER", func(r networkRow) string { return r.Driver }},
				{"SCOPE", func(r networkRow) string { return r.Scope }},
			}, quietFormat(quiet, format))
		},
	}
	p := cmd.Flags()
	p.BoolVarP(&quiet, "quiet", "q", false, "Only display network IDs")
	p.BoolVar(&noTrunc, "no-trunc", false, "Do not truncate the output")
	p.BoolVar(&endpoints, "endpoints", false, "List the containers on the networks, with their addresses, processes and links")
	p.StringVar(&format, "format", "table", "'table', 'json', or a Go template")
	p.StringArrayVarP(&filters, "filter", "f", nil, "Provide filter values: driver, id, name, label, scope, type, dangling")
	return cmd
}

func quietFormat(quiet bool, format string) string {
	if quiet && format == "table" {
		return "{{.ID}}"
	}
	return format
}

// endpointRow is a container on a network.
type endpointRow struct {
	ID, Network, Container, Name, PID, Interface, HostLink, MAC, IPv4, IPv6, Gateway, MTU, Aliases, Ports string
}

func listEndpoints(cmd *cobra.Command, m *network.Manager, nets []*network.Network, quiet, noTrunc bool, format string) error {
	var rows []endpointRow
	for _, n := range nets {
		eps, err := m.Endpoints(network.Filter{Network: n.ID})
		if err != nil {
			return err
		}
		for _, ep := range eps {
			rows = append(rows, newEndpointRow(ep, noTrunc))
		}
	}
	return printRows(cmd.OutOrStdout(), rows, []column[endpointRow]{
		{"NETWORK", func(r endpointRow) string { return r.Network }},
		{"CONTAINER", func(r endpointRow) string { return r.Name }},
		{"PID", func(r endpointRow) string { return r.PID }},
		{"INTERFACE", func(r endpointRow) string { return r.Interface }},
		{"HOST LINK", func(r endpointRow) string { return r.HostLink }},
		{"MAC", func(r endpointRow) string { return r.MAC }},
		{"IPV4", func(r endpointRow) string { return r.IPv4 }},
		{"IPV6", func(r endpointRow) string { return r.IPv6 }},
		{"PORTS", func(r endpointRow) string { return r.Ports }},
	}, quietFormat(quiet, format))
}

// newEndpointRow writes a link as `ip link` does: index:name.
func newEndpointRow(ep *network.Endpoint, noTrunc bool) endpointRow {
	r := endpointRow{
		ID: ep.ID, Network: ep.NetworkName, Container: ep.Container, Name: ep.Name, PID: strconv.Itoa(ep.PID),
		Interface: fmt.Sprintf("%d:%s", ep.Index, ep.IfName), MAC: ep.MAC, MTU: strconv.Itoa(ep.MTU),
		Aliases: strings.Join(ep.Aliases, ","), Ports: portsText([]*network.Endpoint{ep}, nil),
	}
	if ep.HostLink != "" {
		r.HostLink = fmt.Sprintf("%d:%s", ep.HostIndex, ep.HostLink)
	}
	if ep.IP4.IsValid() {
		r.IPv4 = ep.IP4.String()
	}
	if ep.IP6.IsValid() {
		r.IPv6 = ep.IP6.String()
	}
	if ep.Gateway4.IsValid() {
		r.Gateway = ep.Gateway4.String()
	}
	if !noTrunc {
		r.ID, r.Container = ep.ID[:12], ep.Container[:min(12, len(ep.Container))]
	}
	return r
}

// networkFilter adds dangling, which needs the endpoints, to the filters of ls.
func networkFilter(m *network.Manager, filters []string) (func(*network.Network) bool, error) {
	match, err := parseNetworkFilters(filters, []string{"driver", "id", "name", "label", "scope", "type", "dangling"})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(filters, func(f string) bool { return strings.HasPrefix(f, "dangling=") })
	if i < 0 {
		return match, nil
	}
	want, err := strconv.ParseBool(strings.TrimPrefix(filters[i], "dangling="))
	if err != nil {
		return nil, fmt.Errorf("invalid filter '%s'", filters[i])
	}
	eps, err := m.Endpoints(network.Filter{})
	used := map[string]bool{}
	for _, ep := range eps {
		used[ep.Network] = true
	}
	return func(n *network.Network) bool {
		return match(n) && (!used[n.ID] && !builtIn(n)) == want
	}, err
}

func builtIn(n *network.Network) bool {
	return slices.Contains([]string{network.DefaultNetwork, network.HostNetwork, network.NoneNetwork}, n.Name)
}

// parseNetworkFilters makes one test of all filters: those of one key are alternatives, labels must all be there.
func parseNetworkFilters(filters, known []string) (func(*network.Network) bool, error) {
	by := map[string][]string{}
	for _, f := range filters {
		k, v, ok := strings.Cut(f, "=")
		if strings.HasSuffix(k, "!") && k != "label!" {
			ok = false
		}
		if !ok {
			return nil, fmt.Errorf("invalid argument %q for \"-f, --filter\" flag: invalid filter '%s'", f, f)
		}
		if !slices.Contains(known, k) {
			return nil, fmt.Errorf("invalid filter '%s'", k)
		}
		by[k] = append(by[k], v)
	}
	for _, t := range by["type"] {
		if t != "builtin" && t != "custom" {
			return nil, fmt.Errorf("invalid filter: 'type'='%s'", t)
		}
	}
	var until []time.Time
	for _, v := range by["until"] {
		t, err := parseUntil(v)
		if err != nil {
			return nil, err
		}
		until = append(until, t)
	}
	return func(n *network.Network) bool {
		any := func(key string, f func(v string) bool) bool {
			return len(by[key]) == 0 || slices.ContainsFunc(by[key], f)
		}
		return any("driver", func(v string) bool { return v == n.Driver }) &&
			any("id", func(v string) bool { return strings.Contains(n.ID, v) }) &&
			any("name", func(v string) bool { return nameFits(v, n.Name) }) &&
			any("scope", func(v string) bool { return v == "local" }) &&
			any("type", func(v string) bool { return (v == "builtin") == builtIn(n) }) &&
			!slices.ContainsFunc(by["label"], func(v string) bool { return !hasLabel(n.Labels, v) }) &&
			!slices.ContainsFunc(by["label!"], func(v string) bool { return hasLabel(n.Labels, v) }) &&
			!slices.ContainsFunc(until, n.Created.After)
	}, nil
}

// hasLabel takes KEY or KEY=VALUE.
func hasLabel(labels map[string]string, want string) bool {
	k, v, withValue := strings.Cut(want, "=")
	got, ok := labels[k]
	return ok && (!withValue || got == v)
}

// parseUntil is parseTime for a filter.
func parseUntil(s string) (time.Time, error) {
	t, ok := parseTime(s)
	if !ok {
		return t, fmt.Errorf("invalid filter: 'until'='%s'", s)
	}
	return t, nil
}

// exactArgs is cobra.ExactArgs with Docker's words.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		s := "s"
		if n == 1 {
			s = ""
		}
		return fmt.Errorf("%q requires exactly %d argument%s.\nSee '%s --help'.\n\nUsage:  %s\n\n%s", cmd.CommandPath(), n, s, cmd.CommandPath(), cmd.UseLine(), cmd.Short)
	}
}
