package spec

//lint:file-ignore SA1019 a deprecated field is a field still

import "github.com/opencontainers/runtime-spec/specs-go"

// sections is a spec whose sections are all there: absent ones are empty.
type sections struct {
	*specs.Spec
	process   *specs.Process
	linux     *specs.Linux
	resources *specs.LinuxResources
	memory    *specs.LinuxMemory
}

func (v *sections) fill() {
	if v.process == nil {
		v.process = &specs.Process{}
	}
	if v.linux == nil {
		v.linux = &specs.Linux{}
	}
	if v.resources = v.linux.Resources; v.resources == nil {
		v.resources = &specs.LinuxResources{}
	}
	if v.memory = v.resources.Memory; v.memory == nil {
		v.memory = &specs.LinuxMemory{}
	}
}

// unsupported is what vitrun refuses by name. Strike a line out when its field works.
// Mount options have their own refusals, in ParseMountOptions; the rest of seccomp is
// checked by internal/seccomp, AppArmor by internal/compile, which looks at the host.
var unsupported = [...]struct {
	field string
	used  func(*sections) bool
}{
	{"process.user.username", func(v *sections) bool { return v.process.User.Username != "" }},
	{"process.commandLine", func(v *sections) bool { return v.process.CommandLine != "" }},
	{"process.selinuxLabel", func(v *sections) bool { return v.process.SelinuxLabel != "" }},
	{"process.scheduler", func(v *sections) bool { return v.process.Scheduler != nil }},
	{"process.ioPriority", func(v *sections) bool { return v.process.IOPriority != nil }},
	{"process.execCPUAffinity", func(v *sections) bool { return v.process.ExecCPUAffinity != nil }},
	{"linux.mountLabel", func(v *sections) bool { return v.linux.MountLabel != "" }},
	{"linux.intelRdt", func(v *sections) bool { return v.linux.IntelRdt != nil }},
	{"linux.memoryPolicy", func(v *sections) bool { return v.linux.MemoryPolicy != nil }},
	{"linux.personality.flags", func(v *sections) bool { return v.linux.Personality != nil && len(v.linux.Personality.Flags) > 0 }},
	{"linux.resources.blockIO", func(v *sections) bool { return limitsIO(v.resources.BlockIO) }},
	{"linux.resources.hugepageLimits", func(v *sections) bool { return len(v.resources.HugepageLimits) > 0 }},
	{"linux.resources.network", func(v *sections) bool { return tagsTraffic(v.resources.Network) }},
	{"linux.resources.rdma", func(v *sections) bool { return len(v.resources.Rdma) > 0 }},
	{"linux.resources.memory.kernel", func(v *sections) bool { return v.memory.Kernel != nil }},
	{"linux.resources.memory.kernelTCP", func(v *sections) bool { return v.memory.KernelTCP != nil }},
	{"linux.seccomp.listenerPath", func(v *sections) bool { return v.linux.Seccomp != nil && v.linux.Seccomp.ListenerPath != "" }},
	{"linux.seccomp: SCMP_ACT_NOTIFY", func(v *sections) bool { return notifies(v.linux.Seccomp) }},
	{"mounts[].uidMappings", func(v *sections) bool { return v.Spec != nil && idMapped(v.Mounts) }},
	{"windows", func(v *sections) bool { return v.Spec != nil && v.Windows != nil }},
	{"solaris", func(v *sections) bool { return v.Spec != nil && v.Solaris != nil }},
	{"vm", func(v *sections) bool { return v.Spec != nil && v.VM != nil }},
	{"zos", func(v *sections) bool { return v.Spec != nil && v.ZOS != nil }},
	{"freebsd", func(v *sections) bool { return v.Spec != nil && v.FreeBSD != nil }},
}

func (v *sections) supported() error {
	for i := range unsupported {
		if u := &unsupported[i]; u.used(v) {
			return &invalid{u.field, "not supported yet"}
		}
	}
	return nil
}

// limitsIO tells whether anything is asked for: dockerd always sends {"weight":0}.
func limitsIO(b *specs.LinuxBlockIO) bool {
	given := func(n *uint16) bool { return n != nil && *n != 0 }
	return b != nil && (given(b.Weight) || given(b.LeafWeight) || len(b.WeightDevice)+len(b.ThrottleReadBpsDevice)+
		len(b.ThrottleWriteBpsDevice)+len(b.ThrottleReadIOPSDevice)+len(b.ThrottleWriteIOPSDevice) > 0)
}

func tagsTraffic(n *specs.LinuxNetwork) bool {
	return n != nil && (n.ClassID != nil && *n.ClassID != 0 || len(n.Priorities) > 0)
}

func notifies(s *specs.LinuxSeccomp) bool {
	if s == nil {
		return false
	}
	for i := range s.Syscalls {
		if s.Syscalls[i].Action == specs.ActNotify {
			return true
		}
	}
	return s.DefaultAction == specs.ActNotify
}

func idMapped(mounts []specs.Mount) bool {
	for i := range mounts {
		if len(mounts[i].UIDMappings) > 0 || len(mounts[i].GIDMappings) > 0 {
			return true
		}
	}
	return false
}
