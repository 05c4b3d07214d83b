package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"vitro/internal/engine"
)

// mountFlags are those of run and create, beside -v.
func (f *runFlags) mountFlags(p *pflag.FlagSet) {
	h := &f.HostConfig
	p.Var((*mountValue)(&h.Mounts), "mount", "Attach a filesystem mount to the container: type=bind|volume|tmpfs,src=SRC,dst=DST[,readonly]")
	p.Var(&tmpfsValue{&h.Tmpfs}, "tmpfs", "Mount a tmpfs directory: DST[:OPTIONS]")
	p.StringArrayVar(&h.VolumesFrom, "volumes-from", nil, "Mount volumes from the specified container(s)")
}

type tmpfsValue struct{ m *map[string]string }

func (v *tmpfsValue) Set(s string) error {
	if *v.m == nil {
		*v.m = map[string]string{}
	}
	dst, options, _ := strings.Cut(s, ":")
	(*v.m)[dst] = options
	return nil
}

func (v *tmpfsValue) Type() string   { return "list" }
func (v *tmpfsValue) String() string { return "" }

// mountValue is --mount, given as often as one likes.
type mountValue []engine.MountSpec

func (v *mountValue) Type() string   { return "mount" }
func (v *mountValue) String() string { return "" }

// Set reads KEY=VALUE pairs, separated by commas and quoted as in CSV.
func (v *mountValue) Set(s string) error {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return err
	}
	m := &mountParser{}
	m.Type = "volume"
	for _, field := range fields {
		key, value, set := strings.Cut(field, "=")
		if !set && key != "readonly" && key != "ro" && key != "volume-nocopy" && key != "bind-nonrecursive" {
			return fmt.Errorf("invalid field '%s' must be a key=value pair", field)
		}
		if err := m.set(strings.ToLower(key), value, set); err != nil {
			return err
		}
	}
	switch {
	case m.Type == "":
		return errors.New("type is required")
	case m.Target == "":
		return errors.New("target is required")
	case m.VolumeOptions != nil && m.Type != "volume":
		return fmt.Errorf("cannot mix 'volume-*' options with mount type '%s'", m.Type)
	case m.BindOptions != nil && m.Type != "bind":
		return fmt.Errorf("cannot mix 'bind-*' options with mount type '%s'", m.Type)
	case m.TmpfsOptions != nil && m.Type != "tmpfs":
		return fmt.Errorf("cannot mix 'tmpfs-*' options with mount type '%s'", m.Type)
	}
	*v = append(*v, m.MountSpec)
	return nil
}

type mountParser struct{ engine.MountSpec }

func (m *mountParser) set(key, value string, set bool) (err error) {
	invalid := func(err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("invalid value for %s: %s", key, value)
	}
	flag := func(to *bool) error {
		if *to = true; !set {
			return nil
		}
		*to, err = strconv.ParseBool(value)
		return invalid(err)
	}
	switch key {
	case "type":
		m.Type = strings.ToLower(value)
	case "source", "src":
		m.Source = value
	case "target", "dst", "destination":
		m.Target = value
	case "readonly", "ro":
		return flag(&m.ReadOnly)
	case "bind-propagation", "bind-nonrecursive":
		if m.BindOptions == nil {
			m.BindOptions = &engine.BindOptions{}
		}
		if key == "bind-nonrecursive" {
			return flag(&m.BindOptions.NonRecursive)
		}
		m.BindOptions.Propagation = strings.ToLower(value)
	case "volume-nocopy":
		m.VolumeOptions = &engine.VolumeOptions{}
		return flag(&m.VolumeOptions.NoCopy)
	case "tmpfs-size", "tmpfs-mode":
		if m.TmpfsOptions == nil {
			m.TmpfsOptions = &engine.TmpfsOptions{}
		}
		if key == "tmpfs-size" {
			m.TmpfsOptions.SizeBytes, err = units.RAMInBytes(value)
			return invalid(err)
		}
		mode, err := strconv.ParseUint(value, 8, 32)
		if err != nil || mode > 0o7777 {
			return fmt.Errorf("invalid value for %s: %s", key, value)
		}
		m.TmpfsOptions.Mode = uint32(mode)
	default:
		return fmt.Errorf("unexpected key '%s' in '%s=%s'", key, key, value)
	}
	return nil
}
