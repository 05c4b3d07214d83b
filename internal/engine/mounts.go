package engine

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Mount is a bind, a volume or a tmpfs of a container, as its record has it.
type Mount struct {
	MountPoint
	Anonymous    bool     `json:",omitempty"` // a volume made for this container
	NoCopy       bool     `json:",omitempty"` // the image's content is not copied into the volume
	Make         bool     `json:",omitempty"` // a bind's source is made if it is missing
	NonRecursive bool     `json:",omitempty"` // a bind without the mounts below its source
	Tmpfs        []string `json:",omitempty"` // mount options
}

// MountPoint is what docker inspect says of a mount.
type MountPoint struct {
	Type        string
	Name        string `json:",omitempty"` // of a volume
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

// MountSpec is a --mount, in the shape of Docker's API.
type MountSpec struct {
	Type          string
	Source        string         `json:",omitempty"`
	Target        string         `json:",omitempty"`
	ReadOnly      bool           `json:",omitempty"`
	BindOptions   *BindOptions   `json:",omitempty"`
	VolumeOptions *VolumeOptions `json:",omitempty"`
	TmpfsOptions  *TmpfsOptions  `json:",omitempty"`
}

// BindOptions are those of --mount type=bind.
type BindOptions struct {
	Propagation  string `json:",omitempty"`
	NonRecursive bool   `json:",omitempty"`
}

// VolumeOptions are those of --mount type=volume.
type VolumeOptions struct {
	NoCopy bool `json:",omitempty"`
}

// TmpfsOptions are those of --mount type=tmpfs.
type TmpfsOptions struct {
	SizeBytes int64  `json:",omitempty"`
	Mode      uint32 `json:",omitempty"` // permission bits
}

var propagations = []string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}

// explicitMounts are those of -v, --mount and --tmpfs. It makes relative sources of binds absolute, and takes what has no
// source (-v /path) out of Binds.
func explicitMounts(h *HostConfig) (out []Mount, anonymous []string, err error) {
	add := func(m Mount) error {
		m.Destination = path.Clean(m.Destination)
		if slices.ContainsFunc(out, func(o Mount) bool { return o.Destination == m.Destination }) {
			return refused("Duplicate mount point: " + m.Destination)
		}
		out = append(out, m)
		return nil
	}
	var binds []string
	for _, b := range h.Binds {
		m, err := parseBind(b)
		if err != nil {
			return nil, nil, err
		}
		if m.Source == "" {
			anonymous = append(anonymous, path.Clean(m.Destination))
			continue
		}
		spec := pick(m.Name, m.Source) + ":" + m.Destination
		if m.Mode != "" {
			spec += ":" + m.Mode
		}
		binds = append(binds, spec)
		if err := add(m); err != nil {
			return nil, nil, err
		}
	}
	h.Binds = binds
	for _, s := range h.Mounts {
		m, err := s.mount()
		if err != nil {
			return nil, nil, err
		}
		if err := add(m); err != nil {
			return nil, nil, err
		}
	}
	for _, dst := range slices.Sorted(maps.Keys(h.Tmpfs)) {
		m := Mount{MountPoint: MountPoint{Type: "tmpfs", Destination: dst, RW: true}}
		if !path.IsAbs(dst) {
			return nil, nil, fmt.Errorf("invalid mount path: '%s' mount path must be absolute", dst)
		}
		if m.Tmpfs, err = tmpfsOptions(h.Tmpfs[dst]); err != nil {
			return nil, nil, err
		}
		m.RW = !slices.Contains(m.Tmpfs, "ro")
		if err := add(m); err != nil {
			return nil, nil, err
		}
	}
	return out, anonymous, nil
}

// setVolumes notes the image's volumes and those of -v without a source.
func (c *Config) setVolumes(image map[string]struct{}, more []string) {
	c.Volumes = maps.Clone(image)
	for _, dst := range more {
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[dst] = struct{}{}
	}
}

// parseBind reads -v [SRC:]DST[:MODE]. SRC is a path (absolute, or beginning with a dot) or a volume's name.
func parseBind(b string) (m Mount, err error) {
	bad := func(format string, a ...any) (Mount, error) {
		return m, fmt.Errorf("invalid volume specification: '%s'%s", b, fmt.Sprintf(format, a...))
	}
	p := strings.Split(b, ":")
	switch {
	case b == "":
		return m, errors.New("invalid empty volume spec")
	case len(p) > 3:
		return bad("")
	case slices.Contains(p, ""):
		return m, fmt.Errorf("invalid spec: %s: empty section between colons", b)
	case len(p) == 1:
		p = []string{"", b}
	}
	m.RW, m.Destination = true, p[1]
	m.Type = "volume"
	if strings.HasPrefix(p[0], "/") || strings.HasPrefix(p[0], ".") {
		m.Type, m.Make, m.Propagation = "bind", true, "rprivate"
		if m.Source, err = filepath.Abs(p[0]); err != nil {
			return m, err
		}
	} else if m.Name, m.Driver, m.Source = p[0], "local", p[0]; m.Name != "" {
		if err := checkVolumeName(m.Name); err != nil {
			return m, err
		}
	}
	config := ": invalid mount config for type \"" + m.Type + "\": "
	if !path.IsAbs(m.Destination) {
		return bad("%sinvalid mount path: '%s' mount path must be absolute", config, m.Destination)
	}
	if path.Clean(m.Destination) == "/" {
		return bad("%sinvalid specification: destination can't be '/'", config)
	}
	if m.Destination = path.Clean(m.Destination); len(p) < 3 {
		return m, nil
	}
	m.Mode = p[2]
	seen := map[string]bool{}
	for _, o := range strings.Split(p[2], ",") {
		kind := o
		switch {
		case o == "ro" || o == "rw":
			kind, m.RW = "rw", o == "rw"
		case o == "nocopy" && m.Type == "volume":
			m.NoCopy = true
		case slices.Contains(propagations, o):
			if m.Type == "volume" {
				return bad("%sfield BindOptions must not be specified", config)
			}
			kind, m.Propagation = "propagation", o
		default:
			return bad(": invalid mode: %s", p[2])
		}
		if seen[kind] {
			return bad(": invalid mode: %s", p[2])
		}
		seen[kind] = true
	}
	return m, nil
}

// mount checks a --mount as Docker's daemon does.
func (s MountSpec) mount() (m Mount, err error) {
	bad := func(format string, a ...any) (Mount, error) {
		return m, fmt.Errorf("invalid mount config for type %q: %s", s.Type, fmt.Sprintf(format, a...))
	}
	m.MountPoint = MountPoint{Type: s.Type, Source: s.Source, Destination: path.Clean(s.Target), RW: !s.ReadOnly}
	switch {
	case s.Type != "bind" && s.Type != "volume" && s.Type != "tmpfs":
		return bad("mount type unknown")
	case s.Target == "":
		return bad("field Target must not be empty")
	case !path.IsAbs(s.Target):
		return bad("invalid mount path: '%s' mount path must be absolute", s.Target)
	case m.Destination == "/":
		return bad("invalid specification: destination can't be '/'")
	}
	switch s.Type {
	case "bind":
		m.Propagation = "rprivate"
		if s.BindOptions != nil {
			m.Propagation, m.NonRecursive = pick(s.BindOptions.Propagation, "rprivate"), s.BindOptions.NonRecursive
		}
		switch {
		case s.Source == "":
			return bad("field Source must not be empty")
		case !path.IsAbs(s.Source):
			return bad("invalid mount path: '%s' mount path must be absolute", s.Source)
		case !slices.Contains(propagations, m.Propagation):
			return bad("invalid propagation mode: %s", m.Propagation)
		}
		if _, err := os.Stat(s.Source); err != nil {
			return bad("bind source path does not exist: %s", s.Source)
		}
	case "volume":
		m.Name, m.Driver = s.Source, "local"
		m.NoCopy = s.VolumeOptions != nil && s.VolumeOptions.NoCopy
		if m.Name == "" {
			m.Name, m.Anonymous = newID(), true
		}
		return m, checkVolumeName(m.Name)
	case "tmpfs":
		if s.Source != "" {
			return bad("field Source must not be specified")
		}
		var data []string
		if o := s.TmpfsOptions; o != nil && o.SizeBytes != 0 {
			data = append(data, "size="+strconv.FormatInt(o.SizeBytes, 10))
		}
		if o := s.TmpfsOptions; o != nil && o.Mode != 0 {
			data = append(data, "mode="+strconv.FormatUint(uint64(o.Mode), 8))
		}
		if s.ReadOnly {
			data = append(data, "ro")
		}
		m.Tmpfs, err = tmpfsOptions(strings.Join(data, ","))
	}
	return m, err
}

// tmpfsOptions checks the options of a tmpfs and lays them over Docker's defaults.
func tmpfsOptions(s string) ([]string, error) {
	out := []string{"noexec", "nosuid", "nodev"}
	for o := range strings.SplitSeq(s, ",") {
		key, _, value := strings.Cut(o, "=")
		switch {
		case s == "":
			continue
		case value && slices.Contains([]string{"size", "nr_blocks", "nr_inodes", "mode", "uid", "gid", "mpol"}, key):
		case slices.Contains([]string{"ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "dirsync", "atime", "noatime", "diratime", "nodiratime", "relatime", "strictatime"}, o):
			opposite := "no" + o
			if cut, ok := strings.CutPrefix(o, "no"); ok {
				opposite = cut
			}
			out = slices.DeleteFunc(out, func(have string) bool { return have == opposite || have == o })
		default:
			return nil, fmt.Errorf("invalid tmpfs option [%q]", o)
		}
		out = append(out, o)
	}
	return out, nil
}

// addMounts completes a container's mounts: those of --volumes-from, which the explicit ones replace, then volumes without
// a name for the image's VOLUMEs and -v /path where nothing is mounted yet.
func (e *Engine) addMounts(c *Container) error {
	var from []Mount
	for _, ref := range c.HostConfig.VolumesFrom {
		id, mode, set := strings.Cut(ref, ":")
		if set && mode != "ro" && mode != "rw" {
			return fmt.Errorf("invalid mode: %s", mode)
		}
		l, err := e.Find(id)
		if err != nil {
			return err
		}
		for _, m := range l.Mounts {
			if m.Type == "tmpfs" {
				continue
			}
			m.NoCopy = true
			if set {
				m.RW, m.Mode = m.RW && mode == "rw", mode
			}
			from = slices.DeleteFunc(from, func(o Mount) bool { return o.Destination == m.Destination })
			from = append(from, m)
		}
	}
	taken := func(dst string, in []Mount) bool {
		return slices.ContainsFunc(in, func(m Mount) bool { return m.Destination == dst })
	}
	from = slices.DeleteFunc(from, func(m Mount) bool { return taken(m.Destination, c.Mounts) })
	c.Mounts = append(from, c.Mounts...)
	for _, dst := range slices.Sorted(maps.Keys(c.Config.Volumes)) {
		if dst = path.Clean(dst); dst == "/" || !path.IsAbs(dst) || taken(dst, c.Mounts) {
			continue
		}
		c.Mounts = append(c.Mounts, Mount{Anonymous: true, MountPoint: MountPoint{Type: "volume", Name: newID(), Destination: dst, Driver: "local", RW: true}})
	}
	for i, m := range c.Mounts {
		if m.Name != "" {
			c.Mounts[i].Source = e.volumeDir(m.Name, "_data")
		}
	}
	return nil
}

// spec is the mount in the OCI config.
func (m Mount) spec() specs.Mount {
	if m.Type == "tmpfs" {
		return specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "tmpfs", Options: append(slices.Clone(m.Tmpfs), "rprivate")}
	}
	bind := "rbind"
	if m.NonRecursive {
		bind = "bind"
	}
	s := specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Source, Options: []string{bind, pick(m.Propagation, "rprivate")}}
	if !m.RW {
		s.Options = append(s.Options, "ro")
		if !m.NonRecursive {
			s.Options = append(s.Options, "rro") // mounts below it as well, as Docker since 25
		}
	}
	return s
}

func errIfNotEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
