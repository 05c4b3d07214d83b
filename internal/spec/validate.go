package spec

//lint:file-ignore SA1019 a deprecated field is a field still

import (
	"math"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ValidateOptions is what of the command line decides whether a spec is right.
type ValidateOptions struct {
	Rootless bool // the caller has no privileges
	NoPivot  bool // --no-pivot
}

// invalid is a refused field.
type invalid struct{ field, msg string }

func (e *invalid) Error() string { return e.field + ": " + e.msg }

// Validate returns the first thing in s that is wrong whatever the host is, or
// that vitrun does not support. Run it before Normalise. Left to others, as the host
// decides: whether a joined network namespace is the host's (net.* sysctls),
// AppArmor, capabilities newer than the kernel, cgroup v1 or v2, and seccomp.
func Validate(s *specs.Spec, o ValidateOptions) error {
	v := sections{Spec: s, process: s.Process, linux: s.Linux}
	v.fill()
	if err := version(s.Version); err != nil {
		return err
	}
	if err := v.supported(); err != nil {
		return err
	}
	switch {
	case s.Process == nil:
		return &invalid{"process", "must not be empty"}
	case s.Root == nil:
		return &invalid{"root", "must not be empty"}
	case s.Root.Path == "":
		return &invalid{"root.path", "must not be empty"}
	case hasNUL(s.Root.Path):
		return nul("root.path")
	}
	if err := process(s.Process); err != nil {
		return err
	}
	for _, check := range [...]func(*sections, ValidateOptions) error{
		namespaces, idMappings, identity, names, offsets, netDevices, mounts, paths, sysctls, devices, resources, hooks,
	} {
		if err := check(&v, o); err != nil {
			return err
		}
	}
	return nil
}

// ValidateProcess is Validate for the process of an exec.
func ValidateProcess(p *specs.Process) error {
	v := sections{process: p}
	v.fill()
	if err := v.supported(); err != nil {
		return err
	}
	if len(p.Args) == 0 {
		return errExecArgs
	}
	return process(p)
}

type constError string

func (e constError) Error() string { return string(e) }

const errExecArgs constError = "exec args cannot be empty" // runc's words

func hasNUL(s string) bool { return strings.IndexByte(s, 0) >= 0 }

func nul(field string) error { return &invalid{field, "must not hold a NUL byte"} }

func at(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }

func key(field, k string) string { return field + "[" + strconv.Quote(k) + "]" }

// absolute checks a path that must not be empty or relative.
func absolute(field, path string) error {
	switch {
	case path == "":
		return &invalid{field, "must not be empty"}
	case path[0] != '/':
		return &invalid{field, "must be an absolute path, got " + strconv.Quote(path)}
	case hasNUL(path):
		return nul(field)
	}
	return nil
}

func absolutes(field string, paths []string) error {
	for i, p := range paths {
		if err := absolute(at(field, i), p); err != nil {
			return err
		}
	}
	return nil
}

// version wants a semantic version 1.x: MAJOR.MINOR.PATCH, perhaps with -pre or +build.
func version(v string) error {
	const field = "ociVersion"
	if v == "" {
		return &invalid{field, "must not be empty"}
	}
	core := v
	if i := strings.IndexAny(v, "-+"); i >= 0 {
		core = v[:i]
	}
	parts := strings.Split(core, ".")
	ok := len(parts) == 3 && len(core)+1 != len(v)
	for _, p := range parts {
		_, err := strconv.ParseUint(p, 10, 32)
		ok = ok && err == nil && (len(p) == 1 || p[0] != '0')
	}
	switch {
	case !ok:
		return &invalid{field, "must be a semantic version, got " + strconv.Quote(v)}
	case parts[0] != "1":
		return &invalid{field, "version " + v + " is not supported, want 1.x"}
	}
	return nil
}

func process(p *specs.Process) error {
	if err := absolute("process.cwd", p.Cwd); err != nil {
		return err
	}
	switch {
	case len(p.Args) == 0:
		return &invalid{"process.args", "must not be empty"}
	case p.Args[0] == "":
		return &invalid{"process.args[0]", "executable path is empty"}
	case p.ConsoleSize != nil && (p.ConsoleSize.Height > math.MaxUint16 || p.ConsoleSize.Width > math.MaxUint16):
		return &invalid{"process.consoleSize", "height and width must be at most 65535"}
	case p.OOMScoreAdj != nil && (*p.OOMScoreAdj < -1000 || *p.OOMScoreAdj > 1000):
		return &invalid{"process.oomScoreAdj", strconv.Itoa(*p.OOMScoreAdj) + " is out of range (-1000 to 1000)"}
	}
	for i, a := range p.Args {
		if hasNUL(a) {
			return nul(at("process.args", i))
		}
	}
	if err := environment("process.env", p.Env); err != nil {
		return err
	}
	if err := user(&p.User); err != nil {
		return err
	}
	if err := limits(p.Rlimits); err != nil {
		return err
	}
	return capabilitySets(p.Capabilities)
}

func environment(field string, env []string) error {
	for i, e := range env {
		switch strings.IndexByte(e, '=') {
		case -1:
			return &invalid{at(field, i), "missing '=' in " + strconv.Quote(e)}
		case 0:
			return &invalid{at(field, i), "name must not be empty in " + strconv.Quote(e)}
		}
		if hasNUL(e) {
			return nul(at(field, i))
		}
	}
	return nil
}

// noID is (uid_t)-1, which means "leave as it is" to the kernel.
const noID = math.MaxUint32

func user(u *specs.User) error {
	const msg = "4294967295 is not an id"
	switch {
	case u.UID == noID:
		return &invalid{"process.user.uid", msg}
	case u.GID == noID:
		return &invalid{"process.user.gid", msg}
	case u.Umask != nil && *u.Umask > 0o777:
		return &invalid{"process.user.umask", strconv.FormatUint(uint64(*u.Umask), 10) + " is out of range (0 to 511, octal 777)"}
	}
	for i, g := range u.AdditionalGids {
		if g == noID {
			return &invalid{at("process.user.additionalGids", i), msg}
		}
	}
	return nil
}

func limits(rs []specs.POSIXRlimit) error {
	var seen uint32
	for i, r := range rs {
		n, ok := RlimitNumber(r.Type)
		switch {
		case !ok:
			return &invalid{at("process.rlimits", i) + ".type", "unknown resource limit " + strconv.Quote(r.Type)}
		case seen&(1<<n) != 0:
			return &invalid{at("process.rlimits", i) + ".type", r.Type + " is set twice"}
		case r.Soft > r.Hard:
			return &invalid{at("process.rlimits", i) + ".soft", strconv.FormatUint(r.Soft, 10) + " is above the hard limit " + strconv.FormatUint(r.Hard, 10)}
		}
		seen |= 1 << n
	}
	return nil
}

func capabilitySets(c *specs.LinuxCapabilities) error {
	if c == nil {
		return nil
	}
	for _, set := range [...]struct {
		field string
		names []string
	}{
		{"bounding", c.Bounding},
		{"effective", c.Effective},
		{"inheritable", c.Inheritable},
		{"permitted", c.Permitted},
		{"ambient", c.Ambient},
	} {
		for i, name := range set.names {
			if _, ok := CapNumber(name); !ok {
				return &invalid{at("process.capabilities."+set.field, i), "unknown capability " + strconv.Quote(name)}
			}
		}
	}
	return nil
}

// namespace finds a namespace of the config.
func (v *sections) namespace(t specs.LinuxNamespaceType) (ns *specs.LinuxNamespace, joined bool) {
	for i := range v.linux.Namespaces {
		if ns := &v.linux.Namespaces[i]; ns.Type == t {
			return ns, ns.Path != ""
		}
	}
	return nil, false
}

func namespaces(v *sections, o ValidateOptions) error {
	var seen uint64
	for i, ns := range v.linux.Namespaces {
		field := at("linux.namespaces", i)
		flag, ok := CloneFlag(ns.Type)
		switch {
		case !ok:
			return &invalid{field + ".type", "unknown namespace " + strconv.Quote(string(ns.Type))}
		case seen&flag != 0:
			return &invalid{field + ".type", "second namespace of type " + strconv.Quote(string(ns.Type))}
		}
		seen |= flag
		if ns.Path != "" {
			if err := absolute(field+".path", ns.Path); err != nil {
				return err
			}
		}
	}
	mode := v.linux.RootfsPropagation
	flags, ok := PropagationFlags(mode)
	switch {
	case mode != "" && !ok:
		return &invalid{"linux.rootfsPropagation", "unknown propagation " + strconv.Quote(mode)}
	case o.NoPivot && flags&MsPrivate != 0:
		return &invalid{"linux.rootfsPropagation", mode + " is not safe without pivot_root"}
	}
	if p := v.linux.Personality; p != nil && p.Domain != specs.PerLinux && p.Domain != specs.PerLinux32 {
		return &invalid{"linux.personality.domain", "unknown domain " + strconv.Quote(string(p.Domain))}
	}
	return nil
}

func idMappings(v *sections, _ ValidateOptions) error {
	ns, joined := v.namespace(specs.UserNamespace)
	for _, m := range [...]struct {
		field string
		maps  []specs.LinuxIDMapping
	}{
		{"linux.uidMappings", v.linux.UIDMappings},
		{"linux.gidMappings", v.linux.GIDMappings},
	} {
		switch {
		case ns == nil && len(m.maps) > 0:
			return &invalid{m.field, "no user namespace in linux.namespaces"}
		case ns != nil && !joined && len(m.maps) == 0:
			return &invalid{m.field, "a new user namespace needs a mapping"}
		case len(m.maps) > 340: // user_namespaces(7)
			return &invalid{m.field, "more than 340 mappings"}
		}
		for i, a := range m.maps {
			if msg := idRange(a, m.maps[:i]); msg != "" {
				return &invalid{at(m.field, i), msg}
			}
		}
	}
	return nil
}

func idRange(a specs.LinuxIDMapping, before []specs.LinuxIDMapping) string {
	overlap := func(x, y, xn, yn uint32) bool {
		return uint64(x) < uint64(y)+uint64(yn) && uint64(y) < uint64(x)+uint64(xn)
	}
	switch {
	case a.Size == 0:
		return "size must not be 0"
	case uint64(a.ContainerID)+uint64(a.Size) > noID || uint64(a.HostID)+uint64(a.Size) > noID:
		return "ends past the largest id 4294967294"
	}
	for _, b := range before {
		if overlap(a.ContainerID, b.ContainerID, a.Size, b.Size) || overlap(a.HostID, b.HostID, a.Size, b.Size) {
			return "overlaps an earlier mapping"
		}
	}
	return ""
}

// identity checks that the process's ids exist in a new user namespace.
func identity(v *sections, o ValidateOptions) error {
	u := &v.process.User
	if o.Rootless && len(u.AdditionalGids) > 0 {
		return &invalid{"process.user.additionalGids", "cannot set any additional groups in a rootless container"}
	}
	ns, joined := v.namespace(specs.UserNamespace)
	switch {
	case ns == nil && o.Rootless:
		return &invalid{"linux.namespaces", "rootless container requires user namespaces"} // runc's words
	case ns == nil || joined:
		return nil
	}
	mapped := func(maps []specs.LinuxIDMapping, id uint32) bool {
		for _, m := range maps {
			if id >= m.ContainerID && id-m.ContainerID < m.Size {
				return true
			}
		}
		return false
	}
	unmapped := func(field string, id uint32, maps string) error {
		return &invalid{field, strconv.FormatUint(uint64(id), 10) + " is not mapped by " + maps}
	}
	if !mapped(v.linux.UIDMappings, u.UID) {
		return unmapped("process.user.uid", u.UID, "linux.uidMappings")
	}
	if !mapped(v.linux.GIDMappings, u.GID) {
		return unmapped("process.user.gid", u.GID, "linux.gidMappings")
	}
	for i, g := range u.AdditionalGids {
		if !mapped(v.linux.GIDMappings, g) {
			return unmapped(at("process.user.additionalGids", i), g, "linux.gidMappings")
		}
	}
	return nil
}

// names checks the host's and the domain's name: at most 64 bytes (__NEW_UTS_LEN).
func names(v *sections, _ ValidateOptions) error {
	ns, _ := v.namespace(specs.UTSNamespace)
	for _, n := range [...]struct{ field, value string }{{"hostname", v.Hostname}, {"domainname", v.Domainname}} {
		switch {
		case n.value == "":
		case ns == nil:
			return &invalid{n.field, "unable to set " + n.field + " without a private UTS namespace"} // runc's words
		case len(n.value) > 64:
			return &invalid{n.field, "longer than 64 bytes"}
		case hasNUL(n.value):
			return nul(n.field)
		}
	}
	return nil
}

func offsets(v *sections, _ ValidateOptions) error {
	if len(v.linux.TimeOffsets) == 0 {
		return nil
	}
	switch ns, joined := v.namespace(specs.TimeNamespace); {
	case ns == nil:
		return &invalid{"linux.timeOffsets", "no time namespace in linux.namespaces"}
	case joined:
		return &invalid{"linux.timeOffsets", "the offsets of a joined time namespace cannot change"}
	}
	for _, clock := range sortedKeys(v.linux.TimeOffsets) {
		switch {
		case clock != "monotonic" && clock != "boottime":
			return &invalid{key("linux.timeOffsets", clock), "unknown clock"}
		case v.linux.TimeOffsets[clock].Nanosecs > 999_999_999:
			return &invalid{"linux.timeOffsets." + clock + ".nanosecs", "must be below 1000000000"}
		}
	}
	return nil
}

func netDevices(v *sections, o ValidateOptions) error {
	const field = "linux.netDevices"
	if len(v.linux.NetDevices) == 0 {
		return nil
	}
	if ns, _ := v.namespace(specs.NetworkNamespace); ns == nil {
		return &invalid{field, "unable to move network devices without a private NET namespace"}
	}
	if o.Rootless {
		return &invalid{field, "network devices are not supported for rootless containers"} // runc's words
	}
	seen := map[string]string{}
	for _, host := range sortedKeys(v.linux.NetDevices) {
		inside := v.linux.NetDevices[host].Name
		if !deviceName(host) || strings.Contains(host, "%") {
			return &invalid{field, "invalid network device name " + strconv.Quote(host)}
		}
		if inside == "" {
			inside = host
		}
		rest := strings.Replace(inside, "%d", "", 1) // the kernel puts a number there
		if !deviceName(inside) || strings.Contains(rest, "%") {
			return &invalid{key(field, host) + ".name", "invalid network device name " + strconv.Quote(inside)}
		}
		if other, ok := seen[inside]; ok && rest == inside {
			return &invalid{key(field, host) + ".name", strconv.Quote(inside) + " is the name of " + other + " too"}
		}
		seen[inside] = host
	}
	return nil
}

// deviceName is the kernel's dev_valid_name: IFNAMSIZ counts the NUL.
func deviceName(s string) bool {
	return s != "" && len(s) < 16 && s != "." && s != ".." && !strings.ContainsAny(s, "/: \t\n\v\f\r\x00") && strings.IndexByte(s, 0xa0) < 0
}

func hooks(v *sections, _ ValidateOptions) error {
	if v.Hooks == nil {
		return nil
	}
	for _, h := range [...]struct {
		field string
		hooks []specs.Hook
	}{
		{"hooks.prestart", v.Hooks.Prestart},
		{"hooks.createRuntime", v.Hooks.CreateRuntime},
		{"hooks.createContainer", v.Hooks.CreateContainer},
		{"hooks.startContainer", v.Hooks.StartContainer},
		{"hooks.poststart", v.Hooks.Poststart},
		{"hooks.poststop", v.Hooks.Poststop},
	} {
		for i, hook := range h.hooks {
			field := at(h.field, i)
			if err := absolute(field+".path", hook.Path); err != nil {
				return err
			}
			if hook.Timeout != nil && *hook.Timeout <= 0 {
				return &invalid{field + ".timeout", strconv.Itoa(*hook.Timeout) + " is not above 0 (seconds)"}
			}
			for j, a := range hook.Args {
				if hasNUL(a) {
					return nul(at(field+".args", j))
				}
			}
			if err := environment(field+".env", hook.Env); err != nil {
				return err
			}
		}
	}
	return nil
}
