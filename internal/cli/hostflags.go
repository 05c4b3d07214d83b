package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vitro/internal/engine"
	"vitro/internal/spec"
)

// hostFlags are run's flags about what the host gives and takes, as given.
type hostFlags struct {
	security, devices, sysctls, ulimits []string
	labels, labelFiles, annotations     []string
	cidFile, platform                   string
	stopTimeout, swappiness             int64
	quiet                               bool
}

// limitFlags are those of run, create and update.
func limitFlags(p *pflag.FlagSet, h *engine.HostConfig) {
	p.VarP(&bytesValue{&h.Memory, false}, "memory", "m", "Memory limit")
	p.Var(&bytesValue{&h.MemoryReservation, false}, "memory-reservation", "Memory soft limit")
	p.Var(&bytesValue{&h.MemorySwap, true}, "memory-swap", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap")
	p.Var((*cpusValue)(&h.NanoCpus), "cpus", "Number of CPUs")
	p.Int64VarP(&h.CPUShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	p.Int64Var(&h.CPUPeriod, "cpu-period", 0, "Limit CPU CFS (Completely Fair Scheduler) period")
	p.Int64Var(&h.CPUQuota, "cpu-quota", 0, "Limit CPU CFS (Completely Fair Scheduler) quota")
	p.StringVar(&h.CpusetCpus, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	p.StringVar(&h.CpusetMems, "cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)")
	p.Int64Var(&h.PidsLimit, "pids-limit", 0, "Tune container pids limit (set -1 for unlimited)")
}

func (f *runFlags) addHostFlags(p *pflag.FlagSet) {
	h, o := &f.HostConfig, &f.host
	limitFlags(p, h)
	p.Int64Var(&o.swappiness, "memory-swappiness", -1, "Tune container memory swappiness (0 to 100)")
	p.BoolVar(&h.OomKillDisable, "oom-kill-disable", false, "Disable OOM Killer")
	p.IntVar(&h.OomScoreAdj, "oom-score-adj", 0, "Tune host's OOM preferences (-1000 to 1000)")
	p.StringVar(&h.CgroupParent, "cgroup-parent", "", "Optional parent cgroup for the container")
	p.StringSliceVar(&h.CapAdd, "cap-add", nil, "Add Linux capabilities")
	p.StringSliceVar(&h.CapDrop, "cap-drop", nil, "Drop Linux capabilities")
	p.BoolVar(&h.Privileged, "privileged", false, "Give extended privileges to this container")
	p.StringArrayVar(&o.security, "security-opt", nil, "Security options: no-new-privileges, seccomp=unconfined|FILE, apparmor=PROFILE|unconfined, systempaths=unconfined")
	p.StringVar(&h.PidMode, "pid", "", "PID namespace to use: host or container:NAME")
	p.StringVar(&h.IpcMode, "ipc", "", "IPC mode to use: private, none (without /dev/shm) or host")
	p.StringVar(&h.UTSMode, "uts", "", "UTS namespace to use: host")
	p.StringVar(&h.CgroupnsMode, "cgroupns", "", "Cgroup namespace to use: private or host")
	p.StringVar(&h.UsernsMode, "userns", "", "User namespace to use: host")
	p.StringArrayVar(&o.devices, "device", nil, "Add a host device to the container: SRC[:DST[:rwm]]")
	p.StringArrayVar(&h.DeviceCgroupRules, "device-cgroup-rule", nil, "Add a rule to the cgroup allowed devices list: 'c 10:200 rwm'")
	p.StringArrayVar(&o.sysctls, "sysctl", nil, "Sysctl options: NAME=VALUE")
	p.StringArrayVar(&o.ulimits, "ulimit", nil, "Ulimit options: NAME=SOFT[:HARD]")
	p.Var(&bytesValue{&h.ShmSize, false}, "shm-size", "Size of /dev/shm")
	p.StringArrayVar(&h.GroupAdd, "group-add", nil, "Add additional groups to join")
	p.StringArrayVarP(&o.labels, "label", "l", nil, "Set meta data on a container")
	p.StringArrayVar(&o.labelFiles, "label-file", nil, "Read in a line delimited file of labels")
	p.StringArrayVar(&o.annotations, "annotation", nil, "Add an annotation to the container (passed through to the OCI runtime)")
	p.StringVar(&f.Domainname, "domainname", "", "Container NIS domain name")
	p.StringVar(&f.StopSignal, "stop-signal", "", "Signal to stop the container")
	p.Int64Var(&o.stopTimeout, "stop-timeout", 0, "Timeout (in seconds) to stop a container; -1 waits for ever")
	p.StringVar(&o.cidFile, "cidfile", "", "Write the container ID to the file")
	p.StringVar(&o.platform, "platform", "", "Set platform if server is multi-platform capable")
	p.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress the pull output")
	p.StringArrayVarP(&f.Attach, "attach", "a", nil, "Attach to STDIN, STDOUT or STDERR")
	refuse(p, refusedOfRun...)
}

// finishHost decodes the flags that need it.
func (f *runFlags) finishHost(cmd *cobra.Command) (err error) {
	h, o := &f.HostConfig, &f.host
	changed := cmd.Flags().Changed
	if changed("memory-swappiness") {
		h.MemorySwappiness = &o.swappiness
	}
	if changed("stop-timeout") {
		n := int(o.stopTimeout)
		f.StopTimeout = &n
	}
	if f.StopSignal != "" {
		if _, ok := spec.SignalNumber(f.StopSignal); !ok {
			return fmt.Errorf("invalid signal: %s", f.StopSignal)
		}
	}
	if changed("pids-limit") && h.PidsLimit == 0 {
		h.PidsLimit = -1
	}
	for _, step := range []func() error{f.finishSecurity, f.finishDevices, f.finishSysctls, f.finishUlimits, f.finishAttach} {
		if err := step(); err != nil {
			return err
		}
	}
	if f.Labels, err = readLabels(o.labelFiles, o.labels); err != nil {
		return err
	}
	if h.Annotations, err = pairs("annotation", o.annotations); err != nil {
		return err
	}
	return checkCidFile(o.cidFile)
}

// finishSecurity reads a seccomp profile's file, as the client does for Docker.
func (f *runFlags) finishSecurity() error {
	for _, opt := range f.host.security {
		key, value := engine.CutSecurityOpt(opt)
		if key == "seccomp" && value != "unconfined" && value != "builtin" {
			b, err := os.ReadFile(value)
			if err != nil {
				return fmt.Errorf("opening seccomp profile (%s) failed: %w", value, err)
			}
			var compact strings.Builder
			if err := compactJSON(&compact, b); err != nil {
				return fmt.Errorf("compacting json for seccomp profile (%s) failed: %w", value, err)
			}
			opt = "seccomp=" + compact.String()
		}
		f.HostConfig.SecurityOpt = append(f.HostConfig.SecurityOpt, opt)
	}
	return nil
}

func compactJSON(to *strings.Builder, b []byte) error {
	var v json.RawMessage
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	b, err := json.Marshal(v) // without its spaces
	to.Write(b)
	return err
}

// finishDevices reads SRC[:DST[:rwm]].
func (f *runFlags) finishDevices() error {
	for _, arg := range f.host.devices {
		part := strings.Split(arg, ":")
		d := engine.Device{PathOnHost: part[0], PathInContainer: part[0], CgroupPermissions: "rwm"}
		mode := ""
		switch {
		case len(part) == 2 && !strings.HasPrefix(part[1], "/"):
			mode = part[1]
		case len(part) == 2, len(part) == 3:
			d.PathInContainer, mode = part[1], strings.Join(part[2:], "")
		}
		if len(part) > 3 || !strings.HasPrefix(d.PathOnHost, "/") || !strings.HasPrefix(d.PathInContainer, "/") {
			return fmt.Errorf("invalid argument %q for \"--device\": bad format for path: %s", arg, arg)
		}
		if mode != "" {
			if strings.Trim(mode, "rwm") != "" || len(mode) > 3 {
				return fmt.Errorf("invalid argument %q for \"--device\": bad mode specified: %s", arg, mode)
			}
			d.CgroupPermissions = mode
		}
		f.HostConfig.Devices = append(f.HostConfig.Devices, d)
	}
	return nil
}

func (f *runFlags) finishSysctls() (err error) {
	f.HostConfig.Sysctls, err = pairs("sysctl", f.host.sysctls)
	return err
}

// finishUlimits reads NAME=SOFT[:HARD], the last of each name.
func (f *runFlags) finishUlimits() error {
	for _, arg := range f.host.ulimits {
		u, err := units.ParseUlimit(arg)
		if err != nil {
			return fmt.Errorf("invalid argument %q for \"--ulimit\" flag: %w", arg, err)
		}
		all := slices.DeleteFunc(f.HostConfig.Ulimits, func(o engine.Ulimit) bool { return o.Name == u.Name })
		f.HostConfig.Ulimits = append(all, engine.Ulimit{Name: u.Name, Hard: u.Hard, Soft: u.Soft})
	}
	return nil
}

// finishAttach checks --attach; without it all are attached that there are.
func (f *runFlags) finishAttach() error {
	for i, s := range f.Attach {
		if s = strings.ToLower(s); s != "stdin" && s != "stdout" && s != "stderr" {
			return fmt.Errorf("invalid argument %q for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR", f.Attach[i])
		}
		f.Attach[i] = s
	}
	if f.Detach && len(f.Attach) > 0 {
		return errors.New("conflicting options: cannot specify both --attach and --detach")
	}
	return nil
}

func (f *runFlags) attaches(stream string) bool {
	return len(f.Attach) == 0 || slices.Contains(f.Attach, stream)
}

// pairs reads NAME=VALUE.
func pairs(flag string, args []string) (map[string]string, error) {
	if len(args) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for _, arg := range args {
		k, v, ok := strings.Cut(arg, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("invalid argument %q for \"--%s\" flag: bad format for %s: %s (NAME=VALUE)", arg, flag, flag, arg)
		}
		out[k] = v
	}
	return out, nil
}

// readLabels reads the files, then the flags; a bare name has an empty value.
func readLabels(files, flags []string) (map[string]string, error) {
	var all []string
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		sc := bufio.NewScanner(file)
		for sc.Scan() {
			if line := strings.TrimLeft(sc.Text(), " \t"); line != "" && line[0] != '#' {
				all = append(all, line)
			}
		}
		file.Close()
		if err := sc.Err(); err != nil {
			return nil, fmt.Errorf("invalid label file (%s): %w", name, err)
		}
	}
	out := map[string]string{}
	for _, l := range append(all, flags...) {
		k, v, _ := strings.Cut(l, "=")
		if k == "" || strings.ContainsAny(k, " \t") {
			return nil, fmt.Errorf("invalid label '%s': a name without spaces is needed", l)
		}
		out[k] = v
	}
	return out, nil
}

// checkCidFile comes before anything is pulled or made.
func checkCidFile(name string) error {
	if name == "" {
		return nil
	}
	if _, err := os.Lstat(name); err == nil {
		return fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", name)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("failed to create the container ID file: %w", err)
	}
	return nil
}

func writeCidFile(name, id string) error {
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err == nil {
		_, err = f.WriteString(id)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("failed to create the container ID file: %w", err)
	}
	return nil
}
