package cni

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/version"
)

// ErrNotFound is wrapped where no configuration has the name.
var ErrNotFound = errors.New("no such CNI network")

// Options say where things are.
type Options struct {
	ConfDir  string    // "": $NETCONFPATH, as cnitool has it, or /etc/cni/net.d
	BinDirs  []string  // nil: $CNI_PATH, or /opt/cni/bin and /usr/lib/cni
	CacheDir string    // what Add was given and gave; "" is /run/vitro/network/cni
	Stderr   io.Writer // what plugins say; nil: nowhere
}

// Client runs plugins.
type Client struct {
	o   Options
	lib *libcni.CNIConfig
}

// Network is a configured network.
type Network struct {
	Name    string
	File    string
	Plugins []string // their types, in the order of ADD
}

// Attachment is one interface of a container.
type Attachment struct {
	Network   string
	Container string // id
	NetNS     string // path of the namespace's file; "" for Del after its end
	IfName    string
	Args      [][2]string // CNI_ARGS

	// What plugins that announce the capability get as runtimeConfig.
	Ports   []Port         // portMappings
	IPs     []netip.Prefix // ips: wanted addresses
	MAC     string         // mac
	Aliases []string       // aliases: names of the container on the network
}

// Port is an entry of portMappings.
type Port struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"` // tcp, udp, sctp
	HostIP        string `json:"hostIP,omitempty"`
}

// New makes a client; nothing is looked at yet.
func New(o Options) *Client {
	if o.ConfDir == "" {
		o.ConfDir = cmp.Or(os.Getenv("NETCONFPATH"), "/etc/cni/net.d")
	}
	if o.CacheDir == "" {
		o.CacheDir = "/run/vitro/network/cni"
	}
	if o.BinDirs == nil {
		o.BinDirs = filepath.SplitList(os.Getenv("CNI_PATH"))
	}
	if len(o.BinDirs) == 0 {
		o.BinDirs = []string{"/opt/cni/bin", "/usr/lib/cni"}
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	exec := &namedExec{invoke.RawExec{Stderr: o.Stderr}, version.PluginDecoder{}}
	return &Client{o: o, lib: libcni.NewCNIConfigWithCacheDir(o.BinDirs, o.CacheDir, exec)}
}

// namedExec puts the plugin's path before what it says.
type namedExec struct {
	invoke.RawExec
	version.PluginDecoder
}

// ExecPlugin implements invoke.Exec.
func (e *namedExec) ExecPlugin(ctx context.Context, path string, stdin []byte, env []string) ([]byte, error) {
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) { // the caller has none; portmap looks for iptables
		env = append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	out, err := e.RawExec.ExecPlugin(ctx, path, stdin, env)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// config is a network's configuration and its file.
type config struct {
	list *libcni.NetworkConfigList
	file string
}

// configs reads all files; bad says which could not be used.
func (c *Client) configs() (all []config, bad error) {
	for _, ext := range [][]string{{".conflist"}, {".conf", ".json"}} {
		files, err := libcni.ConfFiles(c.o.ConfDir, ext)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", c.o.ConfDir, err)
		}
		slices.Sort(files)
		for _, f := range files {
			list, err := load(f)
			if err != nil {
				bad = errors.Join(bad, fmt.Errorf("%s: %w", f, err))
				continue
			}
			if !slices.ContainsFunc(all, func(x config) bool { return x.list.Name == list.Name }) {
				all = append(all, config{list, f})
			}
		}
	}
	return all, bad
}

func load(file string) (*libcni.NetworkConfigList, error) {
	if filepath.Ext(file) == ".conflist" {
		return libcni.NetworkConfFromFile(file)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	one, err := libcni.NetworkPluginConfFromBytes(b)
	if err != nil {
		return nil, err
	}
	if one.Network.Name == "" {
		return nil, errors.New("no name")
	}
	//lint:ignore SA1019 single files are deprecated, and in use
	return libcni.ConfListFromConf(one)
}

// find gives the configuration of a network.
func (c *Client) find(name string) (config, error) {
	all, bad := c.configs()
	for _, x := range all {
		if x.list.Name == name {
			return x, nil
		}
	}
	err := fmt.Errorf("cni:%s: %w in %s", name, ErrNotFound, c.o.ConfDir)
	if bad != nil {
		err = fmt.Errorf("%w (not usable: %s)", err, strings.ReplaceAll(bad.Error(), "\n", "; "))
	}
	return config{}, err
}

// List gives the networks in the order in which their files count. Files that cannot be used are the error, beside the others.
func (c *Client) List() ([]Network, error) {
	all, bad := c.configs()
	var out []Network
	for _, x := range all {
		n := Network{Name: x.list.Name, File: x.file}
		for _, p := range x.list.Plugins {
			n.Plugins = append(n.Plugins, p.Network.Type)
		}
		out = append(out, n)
	}
	return out, bad
}

// runtimeConf is a for libcni.
func (a *Attachment) runtimeConf() *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{ContainerID: a.Container, NetNS: a.NetNS, IfName: a.IfName, Args: a.Args, CapabilityArgs: map[string]any{}}
	if len(a.Ports) > 0 {
		rt.CapabilityArgs["portMappings"] = a.Ports
	}
	if len(a.IPs) > 0 {
		rt.CapabilityArgs["ips"] = a.IPs
	}
	if a.MAC != "" {
		rt.CapabilityArgs["mac"] = a.MAC
	}
	if len(a.Aliases) > 0 {
		rt.CapabilityArgs["aliases"] = map[string][]string{a.Network: a.Aliases}
	}
	return rt
}

// unheard is what was asked for and no plugin of the network would get.
func (a *Attachment) unheard(list *libcni.NetworkConfigList) error {
	for _, w := range []struct {
		asked bool
		key   string
	}{{len(a.Ports) > 0, "portMappings"}, {len(a.IPs) > 0, "ips"}, {a.MAC != "", "mac"}} {
		if w.asked && !slices.ContainsFunc(list.Plugins, func(p *libcni.PluginConfig) bool { return p.Network.Capabilities[w.key] }) {
			return fmt.Errorf("no plugin of the network has the capability %s", w.key)
		}
	}
	return nil
}

// Add attaches. After an error nothing is left, as far as the plugins' DEL goes.
func (c *Client) Add(ctx context.Context, a Attachment) (*Result, error) {
	x, err := c.find(a.Network)
	if err != nil {
		return nil, err
	}
	fail := func(err error) error { return fmt.Errorf("cni:%s (%s): %w", a.Network, x.file, err) }
	if err := a.unheard(x.list); err != nil {
		return nil, fail(err)
	}
	rt := a.runtimeConf()
	raw, err := c.lib.AddNetworkList(ctx, x.list, rt)
	var r *Result
	if err == nil {
		r, err = newResult(raw, a.IfName)
	}
	if err == nil {
		return r, nil
	}
	if e := c.undo(ctx, x.list, rt); e != nil && !missingPlugin(err) {
		err = fmt.Errorf("%w; then, to undo it: %w", err, e)
	}
	return nil, fail(err)
}

// undo is DEL for every plugin, whatever the others say: libcni stops at the first error, which likely is the plugin that failed.
func (c *Client) undo(ctx context.Context, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for _, p := range slices.Backward(list.Plugins) {
		one := &libcni.NetworkConfigList{Name: list.Name, CNIVersion: list.CNIVersion, Plugins: []*libcni.PluginConfig{p}}
		err = errors.Join(err, c.lib.DelNetworkList(ctx, one, rt))
	}
	return err
}

// missingPlugin: DEL says the same as ADD then.
func missingPlugin(err error) bool { return strings.Contains(err.Error(), "failed to find plugin") }

// Del detaches, and is no error for what is not attached.
func (c *Client) Del(ctx context.Context, a Attachment) error {
	x, rt, err := c.added(a)
	if err != nil {
		return err
	}
	if err := c.lib.DelNetworkList(ctx, x.list, rt); err != nil {
		return fmt.Errorf("cni:%s (%s): %w", a.Network, x.file, err)
	}
	return nil
}

// Check asks the plugins whether all is as Add made it.
func (c *Client) Check(ctx context.Context, a Attachment) error {
	x, rt, err := c.added(a)
	if err != nil {
		return err
	}
	if err := c.lib.CheckNetworkList(ctx, x.list, rt); err != nil {
		return fmt.Errorf("cni:%s (%s): check: %w", a.Network, x.file, err)
	}
	return nil
}

// added is the configuration that Add used, from the cache, or where that has none (Add was killed) today's.
func (c *Client) added(a Attachment) (config, *libcni.RuntimeConf, error) {
	rt := a.runtimeConf()
	cached, old, err := c.lib.GetNetworkListCachedConfig(&libcni.NetworkConfigList{Name: a.Network}, rt)
	if err == nil && cached != nil {
		if list, err := libcni.NetworkConfFromBytes(cached); err == nil {
			if !list.LoadOnlyInlinedPlugins { // the cache has those of the list's own file only
				more, _ := libcni.NetworkPluginConfsFromFiles(c.o.ConfDir, list.Name)
				list.Plugins = append(list.Plugins, more...)
			}
			return config{list, c.o.CacheDir}, old, nil
		}
	}
	x, err := c.find(a.Network)
	return x, rt, err
}

// Attachments lists what the cache has of a container, or with "" of all.
func (c *Client) Attachments(container string) ([]Attachment, error) {
	all, err := c.lib.GetCachedAttachments(container)
	if err != nil {
		return nil, fmt.Errorf("cni: read %s: %w", c.o.CacheDir, err)
	}
	var out []Attachment
	for _, a := range all {
		out = append(out, Attachment{Network: a.Network, Container: a.ContainerID, NetNS: a.NetNS, IfName: a.IfName, Args: a.CniArgs})
	}
	return out, nil
}
