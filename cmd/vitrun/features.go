package main

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"vitro/internal/seccomp"
	"vitro/internal/spec"
	"vitro/internal/spec/jsonx"
)

// mountOptions are the options of mounts that are not the file system's own, sorted.
func mountOptions() []string {
	return []string{
		"async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "iversion", "lazytime", "loud", "mand",
		"noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "nomand", "norelatime", "nostrictatime",
		"nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev", "rdiratime", "relatime", "remount", "rexec", "rnoatime",
		"rnodev", "rnodiratime", "rnoexec", "rnorelatime", "rnostrictatime", "rnosuid", "rnosymfollow", "ro", "rprivate",
		"rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime", "rsuid", "rsymfollow", "runbindable", "rw", "shared",
		"silent", "slave", "strictatime", "suid", "symfollow", "sync", "tmpcopyup", "unbindable",
	}
}

// features prints features.md's object: CRI-O and containerd read it.
func (a *app) features([]string) (int, error) {
	w := jsonx.Writer{Indent: "    "}
	w.BeginObject()
	str := func(k, v string) { w.Key(k); w.String(v) }
	yes := func(k string, v bool) { w.Key(k); w.Bool(v) }
	object := func(k string) { w.Key(k); w.BeginObject() }
	list := func(k string, v []string) {
		w.Key(k)
		w.BeginArray()
		for _, s := range v {
			w.String(s)
		}
		w.EndArray()
	}
	str("ociVersionMin", "1.0.0")
	str("ociVersionMax", specs.Version)
	list("hooks", []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"})
	list("mountOptions", mountOptions())
	object("linux")
	list("namespaces", []string{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"})
	list("capabilities", capabilities())
	object("cgroup")
	yes("v1", true)
	yes("v2", true)
	yes("systemd", false)
	yes("systemdUser", false)
	yes("rdma", false)
	w.EndObject()
	object("seccomp")
	yes("enabled", true)
	list("actions", seccomp.Actions())
	list("operators", seccomp.Operators())
	list("archs", seccomp.Archs())
	list("knownFlags", seccomp.Flags())
	list("supportedFlags", seccomp.Flags())
	w.EndObject()
	for _, k := range []string{"apparmor", "selinux", "intelRdt", "netDevices"} {
		object(k)
		yes("enabled", k == "apparmor" || k == "netDevices")
		w.EndObject()
	}
	object("mountExtensions")
	object("idmap")
	yes("enabled", false)
	w.EndObject()
	w.EndObject()
	w.EndObject()
	object("annotations")
	str("vitro.version", version)
	str("vitro.commit", commit)
	w.EndObject()
	w.EndObject()
	w.Line()
	return 0, put(w.Bytes())
}

func capabilities() (names []string) {
	for n := 0; ; n++ {
		name := spec.CapName(n)
		if name == "" {
			return names
		}
		names = append(names, name)
	}
}
