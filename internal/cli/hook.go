package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"vitro/internal/network"
)

// hookFlags are those of network hook.
type hookFlags struct {
	bridge, ip, ip6, iface, mac, stateDir string
	mtu                                   int
	subnets, publish                      []string
}

// hookLabel marks a network that a hook made, and the last one takes away.
const hookLabel = "vitro.hook"

func networkHookCmd(a *app) *cobra.Command {
	f := &hookFlags{}
	cmd := &cobra.Command{
		Use: "hook [OPTIONS]", Short: "Be a hook of an OCI runtime: give its container an interface, or take it away", Args: cobra.NoArgs,
		Long: "A hook for any OCI runtime. As prestart or createRuntime hook it attaches the container whose state it reads\n" +
			"from standard input; as poststop hook, with the same options, it detaches it.\n" +
			"In config.json:\n\n" +
			"  \"hooks\": {\n" +
			"    \"createRuntime\": [{\"path\": \"/usr/local/bin/vitro\", \"args\": [\"vitro\", \"network\", \"hook\", \"--bridge\", \"br-oci\"]}],\n" +
			"    \"poststop\":      [{\"path\": \"/usr/local/bin/vitro\", \"args\": [\"vitro\", \"network\", \"hook\", \"--bridge\", \"br-oci\"]}]\n  }",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.hook(cmd.Context(), f, cmd.InOrStdin()); err != nil {
				return fmt.Errorf("network hook: %w", err)
			}
			return nil
		},
	}
	p := cmd.Flags()
	p.StringVar(&f.bridge, "bridge", "", "Link name of the bridge, made when first used and removed with its last container (default: the network bridge)")
	p.StringArrayVar(&f.subnets, "subnet", nil, "Subnet of the bridge in CIDR format, one of each family (default: one for IPv4 that is free)")
	p.StringVar(&f.ip, "ip", "", "IPv4 address of the container")
	p.StringVar(&f.ip6, "ip6", "", "IPv6 address of the container")
	p.StringVar(&f.iface, "iface", "", "Name of the interface in the container (default eth0)")
	p.StringVar(&f.mac, "mac-address", "", "MAC address of the interface")
	p.IntVar(&f.mtu, "mtu", 0, "MTU of the bridge in bytes (default: the uplink's)")
	p.StringArrayVarP(&f.publish, "publish", "p", nil, "Publish a container's port(s) to the host")
	p.StringVar(&f.stateDir, "state-dir", "", "Folder of networks and endpoints (default: those of vitro)")
	return cmd
}

func (a *app) hook(ctx context.Context, f *hookFlags, stdin io.Reader) error {
	var state specs.State
	if err := json.NewDecoder(stdin).Decode(&state); err != nil {
		return fmt.Errorf("the container's state on standard input: %w", err)
	}
	if state.ID == "" {
		return errors.New("the container's state on standard input has no id")
	}
	if f.bridge == "" && (len(f.subnets) > 0 || f.mtu != 0) {
		return errors.New("--subnet and --mtu need --bridge")
	}
	o := network.Options{Root: a.root, RunRoot: a.runRoot}
	if f.stateDir != "" {
		o = network.Options{Root: f.stateDir, RunRoot: filepath.Join(f.stateDir, "run")}
	}
	m, err := network.Open(o)
	if err != nil {
		return err
	}
	if state.Status == specs.StateStopped {
		return f.detach(ctx, m, state.ID)
	}
	if state.Pid <= 0 {
		return fmt.Errorf("container %s is %s and has no pid", state.ID, state.Status)
	}
	return f.attach(ctx, m, &state)
}

func (f *hookFlags) attach(ctx context.Context, m *network.Manager, state *specs.State) (err error) {
	r := network.Request{Container: state.ID, Name: state.ID, PID: state.Pid, IfName: f.iface, MAC: f.mac}
	for _, ip := range []struct {
		flag, value string
		to          *netip.Addr
	}{{"--ip", f.ip, &r.IP4}, {"--ip6", f.ip6, &r.IP6}} {
		if ip.value == "" {
			continue
		}
		if *ip.to, err = netip.ParseAddr(ip.value); err != nil {
			return fmt.Errorf("%s: %w", ip.flag, err)
		}
	}
	for _, arg := range f.publish {
		ports, err := network.ParsePorts(arg)
		if err != nil {
			return err
		}
		r.Ports = append(r.Ports, ports...)
	}
	for range 5 { // the network may go with its last container while this one comes
		if r.Network, err = f.network(ctx, m); err == nil {
			if _, err = m.Attach(ctx, r); err == nil {
				return nil
			}
			err = errors.Join(err, f.leave(ctx, m))
		}
		if !errors.Is(err, network.ErrNotFound) && !errors.Is(err, network.ErrExists) {
			break
		}
	}
	return err
}

// network finds or makes the network.
func (f *hookFlags) network(ctx context.Context, m *network.Manager) (string, error) {
	if f.bridge == "" {
		return network.DefaultNetwork, nil
	}
	var subnets []network.Subnet
	v6 := false
	for _, arg := range f.subnets {
		p, err := netip.ParsePrefix(arg)
		if err != nil {
			return "", fmt.Errorf("--subnet: %w", err)
		}
		subnets = append(subnets, network.Subnet{Prefix: p})
		v6 = v6 || p.Addr().Is6()
	}
	n, err := m.Get(ctx, f.bridge)
	if errors.Is(err, network.ErrNotFound) {
		o := network.CreateOptions{
			Name: f.bridge, Subnets: subnets, IPv6: v6, Labels: map[string]string{hookLabel: "true"},
			Options: map[string]string{network.OptBridgeName: f.bridge},
		}
		if f.mtu != 0 {
			o.Options[network.OptMTU] = strconv.Itoa(f.mtu)
		}
		n, err = m.Create(ctx, o)
	}
	if err != nil {
		return "", err
	}
	if n.Link != f.bridge {
		return "", fmt.Errorf("--bridge %s: network %s has link %s", f.bridge, n.Name, n.Link)
	}
	for _, want := range subnets {
		if !slices.ContainsFunc(n.Subnets, func(s network.Subnet) bool { return s.Prefix == want.Prefix }) {
			return "", fmt.Errorf("--subnet %s: bridge %s has %s", want.Prefix, f.bridge, n.Subnets[0].Prefix)
		}
	}
	if mtu := strconv.Itoa(f.mtu); f.mtu != 0 && n.Options[network.OptMTU] != mtu {
		return "", fmt.Errorf("--mtu %s: bridge %s was made with %s", mtu, f.bridge, cmp.Or(n.Options[network.OptMTU], "the uplink's"))
	}
	return n.ID, nil
}

func (f *hookFlags) detach(ctx context.Context, m *network.Manager, id string) error {
	if err := m.DetachAll(ctx, id); err != nil {
		return err
	}
	return f.leave(ctx, m)
}

// leave removes the network if a hook made it and nobody is on it.
func (f *hookFlags) leave(ctx context.Context, m *network.Manager) error {
	if f.bridge == "" {
		return nil
	}
	n, err := m.Get(ctx, f.bridge)
	if errors.Is(err, network.ErrNotFound) {
		return nil
	}
	if err == nil && n.Labels[hookLabel] != "" {
		err = m.Remove(ctx, n.Name)
		lastTable(ctx, m, err)
	}
	if errors.Is(err, network.ErrInUse) || errors.Is(err, network.ErrNotFound) {
		return nil
	}
	return err
}
