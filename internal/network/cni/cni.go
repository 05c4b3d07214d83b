package cni

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	types "github.com/containernetworking/cni/pkg/types/100"

	"vitro/internal/network"
)

const defaultConfDir = "/etc/cni/net.d"

var defaultBinDirs = []string{"/opt/cni/bin", "/usr/lib/cni"}

// Plugins is network.Plugins.
type Plugins struct {
	ConfDir  string   // "" is /etc/cni/net.d
	BinDirs  []string // none: /opt/cni/bin and /usr/lib/cni
	CacheDir string   // what plugins answered, for DEL
}

var _ network.Plugins = (*Plugins)(nil)

func (p *Plugins) lib() *libcni.CNIConfig {
	dirs := p.BinDirs
	if len(dirs) == 0 {
		dirs = defaultBinDirs
	}
	return libcni.NewCNIConfigWithCacheDir(dirs, p.CacheDir, nil)
}

// Names are the configurations that can be used.
func (p *Plugins) Names() ([]string, error) {
	dir := cmp.Or(p.ConfDir, defaultConfDir)
	files, err := libcni.ConfFiles(dir, []string{".conflist", ".conf", ".json"})
	if err != nil {
		return nil, fmt.Errorf("cni: %w", err)
	}
	var names []string
	for _, f := range files {
		list, err := load(f)
		if err != nil {
			return nil, fmt.Errorf("cni: %s: %w", f, err)
		}
		names = append(names, list.Name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func load(file string) (*libcni.NetworkConfigList, error) {
	if strings.HasSuffix(file, ".conflist") {
		return libcni.NetworkConfFromFile(file)
	}
	conf, err := libcni.ConfFromFile(file) //nolint:staticcheck // single plugin files are still in use
	if err != nil {
		return nil, err
	}
	return libcni.ConfListFromConf(conf)
}

// Add runs the plugins of a list and notes in the endpoint what they made.
func (p *Plugins) Add(ctx context.Context, name string, r network.Request, e *network.Endpoint) error {
	list, err := libcni.LoadNetworkConf(cmp.Or(p.ConfDir, defaultConfDir), name)
	if err != nil {
		return fmt.Errorf("cni %s: %w", name, err)
	}
	rt, err := runtimeConf(list, r, e)
	if err != nil {
		return fmt.Errorf("cni %s: %w", name, err)
	}
	answer, err := p.lib().AddNetworkList(ctx, list, rt)
	if err != nil {
		return errors.Join(fmt.Errorf("cni %s: %w", name, err), p.lib().DelNetworkList(context.WithoutCancel(ctx), list, rt))
	}
	result, err := types.NewResultFromResult(answer)
	if err != nil {
		return fmt.Errorf("cni %s: %w", name, err)
	}
	note(result, e)
	return nil
}

// runtimeConf passes what was asked for as capabilities, and refuses what no plugin of the list would look at.
func runtimeConf(list *libcni.NetworkConfigList, r network.Request, e *network.Endpoint) (*libcni.RuntimeConf, error) {
	caps := map[string]any{}
	if len(e.Ports) > 0 {
		var maps []map[string]any
		for _, port := range e.Ports {
			m := map[string]any{"hostPort": port.HostPort, "containerPort": port.Port, "protocol": port.Proto}
			if port.HostIP.IsValid() {
				m["hostIP"] = port.HostIP.String()
			}
			maps = append(maps, m)
		}
		caps["portMappings"] = maps
	}
	var ips []string
	for _, a := range []netip.Addr{r.IP4, r.IP6} {
		if a.IsValid() {
			ips = append(ips, a.String())
		}
	}
	if ips != nil {
		caps["ips"] = ips
	}
	if r.MAC != "" {
		caps["mac"] = r.MAC
	}
	for c, flag := range map[string]string{"portMappings": "--publish", "ips": "--ip", "mac": "--mac-address"} {
		has := func(p *libcni.PluginConfig) bool { return p.Network.Capabilities[c] }
		if caps[c] != nil && !slices.ContainsFunc(list.Plugins, has) {
			return nil, fmt.Errorf("%s: no plugin of the list has the capability %s", flag, c)
		}
	}
	return &libcni.RuntimeConf{
		ContainerID: e.Container, NetNS: e.NetNS.Path, IfName: e.IfName, CapabilityArgs: caps,
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAME", e.Name}},
	}, nil
}

// note takes the container's interface, addresses and gateways from the answer. A gateway without a default route is none.
func note(result *types.Result, e *network.Endpoint) {
	for _, i := range result.Interfaces {
		if i.Sandbox != "" && i.Name == e.IfName {
			e.MAC, e.MTU = i.Mac, i.Mtu
		}
	}
	defaults := map[bool]bool{}
	for _, r := range result.Routes {
		if ones, bits := r.Dst.Mask.Size(); ones == 0 {
			defaults[bits == 32] = true
		}
	}
	for _, ip := range result.IPs {
		prefix, gw := addr(ip.Address.IP), addr(ip.Gateway)
		ones, _ := ip.Address.Mask.Size()
		if !defaults[prefix.Is4()] {
			gw = netip.Addr{}
		}
		if prefix.Is4() {
			e.IP4, e.Gateway4 = netip.PrefixFrom(prefix, ones), gw
		} else {
			e.IP6, e.Gateway6 = netip.PrefixFrom(prefix, ones), gw
		}
	}
}

func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// Del undoes Add, with the configuration of that time. A namespace that is gone is told by an empty path.
func (p *Plugins) Del(ctx context.Context, name string, e *network.Endpoint) error {
	rt := &libcni.RuntimeConf{ContainerID: e.Container, NetNS: e.NetNS.Path, IfName: e.IfName}
	if !e.Alive() {
		rt.NetNS = ""
	}
	conf, cached, err := p.lib().GetNetworkListCachedConfig(&libcni.NetworkConfigList{Name: name}, rt)
	if err != nil {
		return fmt.Errorf("cni %s: %w", name, err)
	}
	var list *libcni.NetworkConfigList
	if conf != nil {
		cached.NetNS, rt = rt.NetNS, cached
		list, err = libcni.NetworkConfFromBytes(conf)
	} else if list, err = libcni.LoadNetworkConf(cmp.Or(p.ConfDir, defaultConfDir), name); errors.Is(err, os.ErrNotExist) {
		return nil // neither an answer nor a configuration: Add did not come far
	}
	if err == nil {
		err = p.lib().DelNetworkList(ctx, list, rt)
	}
	if err != nil {
		return fmt.Errorf("cni %s: %w", name, err)
	}
	return nil
}
