package engine

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// specInput is what a spec depends on beside the record.
type specInput struct {
	Rootfs string // path of the mounted root
	Dir    string // folder with hosts, hostname, resolv.conf
	NetNS  string // of another container; empty: a new one
	PidNS  string // of another container; empty: as PidMode says
	User   specs.User
	Home   string
}

// buildSpec makes the OCI config of a container.
func buildSpec(c *Container, in specInput) (*specs.Spec, error) {
	h := &c.HostConfig
	add := h.CapAdd
	if h.Privileged {
		add = append([]string{"ALL"}, add...)
	}
	caps, err := capabilities(add, h.CapDrop)
	if err != nil {
		return nil, err
	}
	guard, err := h.isolation()
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:  specs.Version,
		Hostname: c.Config.Hostname, Domainname: c.Config.Domainname,
		Root: &specs.Root{Path: in.Rootfs, Readonly: c.HostConfig.ReadonlyRootfs},
		Process: &specs.Process{
			Terminal:     c.Config.Tty,
			User:         in.User,
			Args:         append([]string{c.Path}, c.Args...),
			Env:          processEnv(&c.Config, in.Home),
			Cwd:          pick(c.Config.WorkingDir, "/"),
			Capabilities: processCaps(in.User, caps),
		},
		Mounts: mounts(c, in.Dir),
		Linux: &specs.Linux{
			CgroupsPath:   c.cgroupPath(),
			Namespaces:    namespaces(h, in),
			Resources:     resources(&c.HostConfig),
			MaskedPaths:   maskedPaths,
			ReadonlyPaths: readonlyPaths,
		},
	}
	if size := c.HostConfig.ConsoleSize; c.Config.Tty && size[0] != 0 {
		s.Process.ConsoleSize = &specs.Box{Height: size[0], Width: size[1]}
	}
	if h.UTSMode == hostMode {
		s.Hostname = ""
	}
	if h.NetworkMode != hostMode && in.NetNS == "" {
		s.Linux.Sysctl = map[string]string{
			"net.ipv4.ip_unprivileged_port_start": "0",
			"net.ipv4.ping_group_range":           "0 2147483647",
		}
	}
	h.apply(s)
	if err := addDevices(s, h); err != nil {
		return nil, err
	}
	return s, guard.isolate(s)
}

// processEnv has Docker's order: PATH, HOSTNAME, TERM, then the image's and the user's, which may replace them.
func processEnv(c *Config, home string) []string {
	env := []string{defaultPath, "HOSTNAME=" + c.Hostname}
	if c.Tty {
		env = append(env, "TERM=xterm")
	}
	env = mergeEnv(env, c.Env)
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") }) {
		env = append(env, "HOME="+home)
	}
	return env
}

// processCaps: a user other than root gets none at the start, but may gain them by a file's.
func processCaps(u specs.User, caps []string) *specs.LinuxCapabilities {
	out := &specs.LinuxCapabilities{Bounding: caps}
	if u.UID == 0 {
		out.Effective, out.Permitted = caps, caps
	}
	return out
}

// mounts are Docker's, the container's three files, and the user's, each in place of an earlier one with the same
// destination; parents come before what is in them.
func mounts(c *Container, dir string) []specs.Mount {
	out := defaultMounts()
	for _, f := range []string{"resolv.conf", "hostname", "hosts"} {
		out = append(out, specs.Mount{Destination: "/etc/" + f, Type: "bind", Source: path.Join(dir, f), Options: []string{"rbind", "rprivate"}})
	}
	for _, cm := range c.Mounts {
		m := cm.spec()
		out = slices.DeleteFunc(out, func(o specs.Mount) bool { return o.Destination == m.Destination })
		out = append(out, m)
	}
	depth := func(m specs.Mount) int { return strings.Count(m.Destination, "/") }
	slices.SortStableFunc(out, func(a, b specs.Mount) int { return depth(a) - depth(b) })
	return out
}

// namespaces are new ones, but for those that are shared with the host or another container.
func namespaces(h *HostConfig, in specInput) []specs.LinuxNamespace {
	out := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	for _, ns := range []struct {
		kind specs.LinuxNamespaceType
		mode string
		path string
	}{
		{specs.UTSNamespace, h.UTSMode, ""},
		{specs.PIDNamespace, h.PidMode, in.PidNS},
		{specs.IPCNamespace, h.IpcMode, ""},
		{specs.CgroupNamespace, h.CgroupnsMode, ""},
		{specs.NetworkNamespace, h.NetworkMode, in.NetNS},
	} {
		if ns.mode != hostMode {
			out = append(out, specs.LinuxNamespace{Type: ns.kind, Path: ns.path})
		}
	}
	return out
}
