package runtime

import (
	"os"

	"vitro/internal/sys"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// newIDMap lets newuidmap(1) and newgidmap(1) write the maps of a user namespace: they may map what subuid(5) and subgid(5) give the caller.
func newIDMap(pid int, l *specs.Linux) error {
	for _, m := range [...]struct {
		program, field string
		maps           []specs.LinuxIDMapping
	}{{"newgidmap", "linux.gidMappings", l.GIDMappings}, {"newuidmap", "linux.uidMappings", l.UIDMappings}} {
		path := sys.LookPath(m.program)
		if path == "" {
			return text(m.field + ": without " + m.program + " (Debian: uidmap) in $PATH an unprivileged user maps one id only, the own one")
		}
		args := []string{m.program, sys.Itoa(pid)}
		for _, x := range m.maps {
			args = append(args, sys.Utoa(uint64(x.ContainerID)), sys.Utoa(uint64(x.HostID)), sys.Utoa(uint64(x.Size)))
		}
		err := runHook(&specs.Hook{Path: path, Args: args, Env: os.Environ()}, &specs.State{}, "/")
		if err != nil {
			return wrap(m.field+": "+m.program, err)
		}
	}
	return nil
}
