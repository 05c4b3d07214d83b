package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Device is a device of the host that the container gets, or a folder of them.
type Device struct {
	PathOnHost        string
	PathInContainer   string
	CgroupPermissions string // of rwm
}

// Ulimit is a resource limit, setrlimit(2); -1 is unlimited.
type Ulimit struct {
	Name       string
	Hard, Soft int64
}

// privateMode is a namespace of the container's own.
const privateMode = "private"

// ipcNone is private, without a /dev/shm.
const ipcNone = "none"

// checkModes are Docker's rules for namespaces other than the network's.
func (h *HostConfig) checkModes(o *CreateOptions) error {
	joined := func(m string) bool { return strings.HasPrefix(m, joinedPrefix) && m != joinedPrefix }
	switch {
	case h.PidMode != "" && h.PidMode != privateMode && h.PidMode != hostMode && !joined(h.PidMode):
		return fmt.Errorf("--pid: invalid PID mode: %s (host, container:NAME)", h.PidMode)
	case joined(h.IpcMode) || h.IpcMode == "shareable":
		return fmt.Errorf("--ipc %s: not supported: a container's IPC namespace is its own, or the host's (private, none, host)", h.IpcMode)
	case h.IpcMode != "" && h.IpcMode != privateMode && h.IpcMode != ipcNone && h.IpcMode != hostMode:
		return fmt.Errorf("--ipc: invalid IPC mode: %s (private, none, host)", h.IpcMode)
	case h.UTSMode != "" && h.UTSMode != hostMode:
		return fmt.Errorf("--uts: invalid UTS mode: %s (host)", h.UTSMode)
	case h.CgroupnsMode != "" && h.CgroupnsMode != privateMode && h.CgroupnsMode != hostMode:
		return fmt.Errorf("--cgroupns: invalid CgroupNS mode: %s (private, host)", h.CgroupnsMode)
	case h.UsernsMode != "" && h.UsernsMode != hostMode:
		return fmt.Errorf("--userns %s: not supported: vitro's containers are in the host's user namespace (vitrun maps ids: linux.uidMappings)", h.UsernsMode)
	case h.UTSMode == hostMode && o.Hostname != "":
		return errors.New("conflicting options: hostname and the UTS mode")
	case h.UTSMode == hostMode && o.Domainname != "":
		return errors.New("conflicting options: domainname and the UTS mode")
	case h.OomScoreAdj < -1000 || h.OomScoreAdj > 1000:
		return fmt.Errorf("Invalid value %d, range for oom score adj is [-1000, 1000]", h.OomScoreAdj)
	case h.MemorySwappiness != nil && (*h.MemorySwappiness < -1 || *h.MemorySwappiness > 100):
		return fmt.Errorf("invalid value: %d. Valid memory swappiness range is 0-100", *h.MemorySwappiness)
	case h.ShmSize < 0:
		return errors.New("SHM size can not be less than 0")
	case h.NanoCpus != 0 && h.CPUPeriod != 0:
		return errors.New("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case h.NanoCpus != 0 && h.CPUQuota != 0:
		return errors.New("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	}
	return h.checkSysctls()
}

// checkSysctls refuses those of a namespace that is the host's.
func (h *HostConfig) checkSysctls() error {
	for name := range h.Sysctls {
		switch {
		case strings.HasPrefix(name, "net.") && h.NetworkMode == hostMode:
			return fmt.Errorf("sysctl %q not allowed in host network namespace", name)
		case (strings.HasPrefix(name, "fs.mqueue.") || strings.HasPrefix(name, "kernel.sem") || strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg")) && h.IpcMode == hostMode:
			return fmt.Errorf("sysctl %q not allowed in host ipc namespace", name)
		}
	}
	return nil
}

// resolvePid finds the container whose pid namespace is shared.
func (e *Engine) resolvePid(h *HostConfig) error {
	ref, ok := strings.CutPrefix(h.PidMode, joinedPrefix)
	if !ok {
		return nil
	}
	l, err := e.Find(ref)
	if err == nil {
		h.PidMode = joinedPrefix + l.ID
	}
	return err
}

// pidNS is the path of a pid namespace to join, "" for none.
func (e *Engine) pidNS(h *HostConfig) (string, error) {
	id, ok := strings.CutPrefix(h.PidMode, joinedPrefix)
	if !ok {
		return "", nil
	}
	l, err := e.Find(id)
	if err != nil {
		return "", err
	}
	if l.Status != Running {
		return "", fmt.Errorf("cannot join PID of a non running container: %s", l.ID)
	}
	return fmt.Sprintf("/proc/%d/ns/pid", l.PID), nil
}

// cgroupPath is below --cgroup-parent.
func (c *Container) cgroupPath() string {
	return path.Join("/", c.HostConfig.CgroupParent, "vitro-"+c.ID)
}

// isolation are --security-opt's values.
type isolation struct {
	noNewPrivs, openPaths bool
	seccomp               string // "", unconfined, or a profile as JSON
	appArmor              string
}

// CutSecurityOpt splits NAME=VALUE, or NAME:VALUE as it was written once.
func CutSecurityOpt(opt string) (name, value string) {
	name, value, ok := strings.Cut(opt, "=")
	if !ok {
		name, value, _ = strings.Cut(opt, ":")
	}
	return name, value
}

// isolation reads SecurityOpt; a seccomp profile is there as JSON.
func (h *HostConfig) isolation() (s isolation, err error) {
	for _, opt := range h.SecurityOpt {
		key, value := CutSecurityOpt(opt)
		ok := key != opt
		switch {
		case !ok && key == "no-new-privileges":
			s.noNewPrivs = true
		case key == "no-new-privileges":
			if s.noNewPrivs, err = strconv.ParseBool(value); err != nil {
				return s, fmt.Errorf("invalid --security-opt 2: %q", opt)
			}
		case !ok && key != "disable":
			return s, fmt.Errorf("invalid --security-opt 1: %q", opt)
		case key == "seccomp":
			s.seccomp = value
		case key == "apparmor":
			s.appArmor = value
		case key == "systempaths" && value == "unconfined":
			s.openPaths = true
		case key == "label" && value == "disable", key == "disable":
		case key == "label":
			return s, fmt.Errorf("--security-opt %s: not supported: SELinux labels are not", opt)
		default:
			return s, fmt.Errorf("invalid --security-opt 2: %q", opt)
		}
	}
	if h.Privileged {
		s.openPaths = true
		if s.seccomp == "" {
			s.seccomp = unconfined
		}
		if s.appArmor == "" {
			s.appArmor = unconfined
		}
	}
	return s, nil
}

const unconfined = "unconfined"

// isolate puts them into a spec that is complete otherwise.
func (s isolation) isolate(spec *specs.Spec) (err error) {
	spec.Process.NoNewPrivileges, spec.Process.ApparmorProfile = s.noNewPrivs, s.appArmor
	if s.openPaths {
		spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
	}
	switch s.seccomp {
	case "", "builtin":
		if spec.Linux.Seccomp, err = seccomp.GetDefaultProfile(spec); err != nil {
			return fmt.Errorf("default seccomp profile: %w", err)
		}
	case unconfined:
	default:
		if spec.Linux.Seccomp, err = seccomp.LoadProfile(s.seccomp, spec); err != nil {
			return fmt.Errorf("--security-opt seccomp: %w", err)
		}
	}
	return nil
}

// addDevices makes the device files and their rules; a folder stands for the devices in it.
func addDevices(s *specs.Spec, h *HostConfig) error {
	rules := &s.Linux.Resources.Devices
	if h.Privileged {
		*rules = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		s.Linux.Devices = hostDevices("/dev", "/dev")
	}
	for _, d := range h.Devices {
		one, err := newDevice(d.PathOnHost, d.PathInContainer)
		found := []specs.LinuxDevice{one}
		if errors.Is(err, errNoDevice) {
			found, err = hostDevices(d.PathOnHost, d.PathInContainer), nil
			if len(found) == 0 {
				err = errNoDevice
			}
		}
		if err != nil {
			return fmt.Errorf("error gathering device information while adding custom device %q: %w", d.PathOnHost, err)
		}
		for _, one := range found {
			s.Linux.Devices = slices.DeleteFunc(s.Linux.Devices, func(o specs.LinuxDevice) bool { return o.Path == one.Path })
			s.Linux.Devices = append(s.Linux.Devices, one)
			if !h.Privileged {
				*rules = append(*rules, specs.LinuxDeviceCgroup{Allow: true, Type: one.Type, Major: &one.Major, Minor: &one.Minor, Access: d.CgroupPermissions})
			}
		}
	}
	for _, text := range h.DeviceCgroupRules {
		r, err := parseDeviceRule(text)
		if err != nil {
			return err
		}
		*rules = append(*rules, r)
	}
	return nil
}

var errNoDevice = errors.New("not a device node")

// newDevice describes the host's device at a path.
func newDevice(from, to string) (d specs.LinuxDevice, err error) {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return d, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFBLK:
		d.Type = "b"
	default:
		return d, errNoDevice
	}
	mode := os.FileMode(st.Mode & 0o7777)
	d.Path, d.Major, d.Minor = to, int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	d.FileMode, d.UID, d.GID = &mode, &st.Uid, &st.Gid
	return d, nil
}

// hostDevices are those of a folder and below; what the container has of its own is left out.
func hostDevices(from, to string) (out []specs.LinuxDevice) {
	own := []string{"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx", "tty", "null", "zero", "full", "random", "urandom"}
	_ = filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, p)
		switch {
		case err != nil:
			return fs.SkipDir
		case slices.Contains(own, rel) && d.IsDir():
			return fs.SkipDir
		case slices.Contains(own, rel) || d.Type()&fs.ModeDevice == 0:
			return nil
		}
		if one, err := newDevice(p, path.Join(to, rel)); err == nil {
			out = append(out, one)
		}
		return nil
	})
	return out
}

// parseDeviceRule reads 'c 10:200 rwm'; * is any number.
func parseDeviceRule(s string) (r specs.LinuxDeviceCgroup, err error) {
	m := regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`).FindStringSubmatch(s) // not at every start of a program
	if m == nil {
		return r, fmt.Errorf("invalid device cgroup format '%s'", s)
	}
	r = specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Access: m[4]}
	for i, to := range []**int64{&r.Major, &r.Minor} {
		if m[2+i] == "*" {
			continue
		}
		n, err := strconv.ParseInt(m[2+i], 10, 32)
		if err != nil {
			return r, fmt.Errorf("invalid device cgroup format '%s'", s)
		}
		*to = &n
	}
	return r, nil
}

// apply puts what is left of HostConfig into the spec: limits of the process, sysctls, /dev/shm and the mounts of --privileged.
func (h *HostConfig) apply(s *specs.Spec) {
	for _, u := range h.Ulimits {
		s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Hard: uint64(u.Hard), Soft: uint64(u.Soft)})
	}
	if h.OomScoreAdj != 0 {
		s.Process.OOMScoreAdj = &h.OomScoreAdj
	}
	for k, v := range h.Sysctls {
		if s.Linux.Sysctl == nil {
			s.Linux.Sysctl = map[string]string{}
		}
		s.Linux.Sysctl[k] = v
	}
	s.Annotations = h.Annotations
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Source == "shm" && h.IpcMode == ipcNone })
	for i := range s.Mounts {
		m := &s.Mounts[i]
		switch {
		case h.Privileged && (m.Type == "sysfs" || m.Type == "cgroup"):
			m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" })
		case m.Source == "shm" && h.IpcMode == hostMode:
			*m = specs.Mount{Destination: m.Destination, Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}}
		case m.Type == "mqueue" && h.IpcMode == hostMode:
			if _, err := os.Stat("/dev/mqueue"); err == nil {
				*m = specs.Mount{Destination: m.Destination, Type: "bind", Source: "/dev/mqueue", Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}}
			}
		case m.Source == "shm" && h.ShmSize > 0:
			m.Options = append(slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return strings.HasPrefix(o, "size=") }), fmt.Sprint("size=", h.ShmSize))
		}
	}
}
