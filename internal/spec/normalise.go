package spec

import (
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Normalise brings a valid spec into the one form that the compiler reads; doing it
// twice changes nothing. Afterwards:
//
//   - Process, Process.Capabilities, Root, Hooks, Linux, Linux.Resources and its
//     Memory, CPU and Pids are not nil (limits inside stay nil when not set);
//   - Process.Env has each name once: the last one, in its place;
//   - Mounts[].Destination, Process.Cwd, Linux.Devices[].Path, MaskedPaths and
//     ReadonlyPaths are clean and absolute; a relative destination is one below /,
//     as the runtime-spec has it for old configs, and ".." is resolved lexically;
//   - MaskedPaths and ReadonlyPaths name each path once;
//   - a mount of type "bind" has the option bind or rbind;
//   - Linux.Sysctl has its keys with dots, see SysctlKey.
//
// Root.Path and the sources of binds stay as they are: the bundle is not known here.
func Normalise(s *specs.Spec) {
	fill(s)
	s.Process.Env = lastWins(s.Process.Env)
	clean(&s.Process.Cwd)
	for i := range s.Mounts {
		m := &s.Mounts[i]
		clean(&m.Destination)
		if m.Type == "bind" && !bound(m.Options) {
			m.Options = append(m.Options[:len(m.Options):len(m.Options)], "bind")
		}
	}
	for i := range s.Linux.Devices {
		clean(&s.Linux.Devices[i].Path)
	}
	s.Linux.MaskedPaths = cleanOnce(s.Linux.MaskedPaths)
	s.Linux.ReadonlyPaths = cleanOnce(s.Linux.ReadonlyPaths)
	for k, v := range s.Linux.Sysctl {
		if dotted := SysctlKey(k); dotted != k {
			delete(s.Linux.Sysctl, k)
			s.Linux.Sysctl[dotted] = v
		}
	}
}

func fill(s *specs.Spec) {
	set(&s.Process)
	set(&s.Process.Capabilities)
	set(&s.Root)
	set(&s.Hooks)
	set(&s.Linux)
	set(&s.Linux.Resources)
	set(&s.Linux.Resources.Memory)
	set(&s.Linux.Resources.CPU)
	set(&s.Linux.Resources.Pids)
}

func set[T any](p **T) {
	if *p == nil {
		*p = new(T)
	}
}

func clean(p *string) {
	if *p == "/" {
		return
	}
	*p = path.Clean("/" + *p)
}

func bound(opts []string) bool {
	for _, o := range opts {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}

// lastWins works in place.
func lastWins(env []string) []string {
	name := func(e string) string {
		n, _, _ := strings.Cut(e, "=")
		return n
	}
	return dropEarlier(env, name)
}

// cleanOnce works in place.
func cleanOnce(paths []string) []string {
	for i := range paths {
		clean(&paths[i])
	}
	return dropEarlier(paths, func(p string) string { return p })
}

// dropEarlier keeps, of the strings with the same key, the last.
func dropEarlier(list []string, key func(string) string) []string {
	var last map[string]int
	if len(list) > 64 { // below, comparing all is faster than a map
		last = make(map[string]int, len(list))
		for i, s := range list {
			last[key(s)] = i
		}
	}
	out := list[:0]
	for i, s := range list {
		k := key(s)
		again := last != nil && last[k] != i
		for j := i + 1; last == nil && j < len(list) && !again; j++ {
			again = key(list[j]) == k
		}
		if !again {
			out = append(out, s)
		}
	}
	return out
}
