package engine

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"vitro/internal/spec"
	"vitro/internal/store"
)

// CreateOptions are the flags of run, decoded.
type CreateOptions struct {
	Image       string
	Cmd         []string // replaces the image's
	Name        string   // a random one when empty
	Entrypoint  *string  // replaces the image's and its Cmd; "" is none at all
	Env         []string // NAME=VALUE, or NAME alone to take it out
	User        string
	WorkingDir  string
	Hostname    string
	Domainname  string
	Labels      map[string]string
	StopSignal  string
	StopTimeout *int // seconds
	Tty         bool
	Interactive bool
	Detach      bool
	Attach      []string // stdin, stdout, stderr; none is all, if not Detach
	AutoRemove  bool
	HostConfig  HostConfig // Cap*, ReadonlyRootfs, limits, DNS; Binds as on the command line

	Networks []Attachment // none, host and container:REF stand alone; no network is none
	Publish  []string     // as on the command line
	Expose   []string
}

// Create makes a container: its folder, its name, its record. The returned lock is held; Start hands it to the monitor,
// whoever does not start the container closes it. On failure nothing stays.
func (e *Engine) Create(img store.Image, o CreateOptions) (*Container, *os.File, error) {
	c, err := newContainer(img, o)
	if err == nil {
		err = e.resolveNetworks(c)
	}
	if err == nil {
		err = e.resolvePid(&c.HostConfig)
	}
	if err != nil {
		return nil, nil, err
	}
	c.ID, c.Created = newID(), time.Now().UTC()
	if err := e.addMounts(c); err != nil {
		return nil, nil, err
	}
	if c.Config.Hostname == "" {
		c.Config.Hostname = shortID(c.ID)
		if c.HostConfig.NetworkMode == hostMode || c.HostConfig.UTSMode == hostMode {
			c.Config.Hostname, _ = os.Hostname()
		}
	}
	if err := os.Mkdir(e.dir(c.ID), 0o710); err != nil {
		return nil, nil, err
	}
	lock, err := e.newLock(c.ID)
	if err == nil {
		err = e.fill(c, o.Name)
	}
	if err == nil {
		err = e.makeVolumes(img, c)
	}
	if err != nil {
		_ = e.removeAll(c, true)
		lock.Close() // nil is fine
		return nil, nil, err
	}
	return c, lock, nil
}

// fill makes what is in the folder, the record last.
func (e *Engine) fill(c *Container, name string) (err error) {
	if c.Name, err = e.reserve(name, c.ID); err != nil {
		c.Name = ""
		return err
	}
	if err := e.writeFiles(c); err != nil {
		return err
	}
	return e.withLock(usersLock, syscall.LOCK_SH, func() error {
		if err := e.writeRecord(c); err != nil { // from here on rmi sees the container
			return err
		}
		_, err := e.Store.Resolve(c.ImageID)
		return err
	})
}

// newContainer merges the image's config and the flags.
func newContainer(img store.Image, o CreateOptions) (*Container, error) {
	ic := img.Config.Config
	c := &Container{ImageID: img.ID.String(), HostConfig: o.HostConfig}
	entrypoint, cmd := ic.Entrypoint, ic.Cmd
	if o.Entrypoint != nil {
		entrypoint, cmd = nil, nil
		if *o.Entrypoint != "" {
			entrypoint = []string{*o.Entrypoint}
		}
	}
	if len(o.Cmd) > 0 {
		cmd = o.Cmd
	}
	argv := slices.Concat(entrypoint, cmd)
	if len(argv) == 0 {
		return nil, errors.New("no command specified")
	}
	c.Path, c.Args = argv[0], argv[1:]
	attach := func(stream string) bool {
		return !o.Detach && (len(o.Attach) == 0 || slices.Contains(o.Attach, stream))
	}
	c.Config = Config{
		Hostname: o.Hostname, Domainname: o.Domainname, User: pick(o.User, ic.User), Tty: o.Tty,
		AttachStdin: attach("stdin") && o.Interactive, AttachStdout: attach("stdout"), AttachStderr: attach("stderr"),
		OpenStdin: o.Interactive, StdinOnce: attach("stdin") && o.Interactive,
		Env: mergeEnv(ic.Env, o.Env), Cmd: cmd, Entrypoint: entrypoint, Image: o.Image,
		WorkingDir: pick(o.WorkingDir, ic.WorkingDir), Labels: mergeLabels(ic.Labels, o.Labels),
		StopSignal: pick(o.StopSignal, ic.StopSignal), StopTimeout: cmp.Or(o.StopTimeout, ic.StopTimeout),
	}
	if err := checkConfig(&c.Config); err != nil {
		return nil, err
	}
	h := &c.HostConfig
	h.AutoRemove = o.AutoRemove
	var err error
	var anonymous []string
	if c.Mounts, anonymous, err = explicitMounts(h); err != nil {
		return nil, err
	}
	c.Config.setVolumes(ic.Volumes, anonymous)
	h.LogConfig = LogConfig{Type: "json-file", Config: map[string]string{}}
	if err := c.setPorts(ic.ExposedPorts, o); err != nil {
		return nil, err
	}
	if err := c.setNetworks(o); err != nil {
		return nil, err
	}
	if err := h.checkModes(&o); err != nil {
		return nil, err
	}
	return c, h.check()
}

// mergeLabels lays the user's over the image's.
func mergeLabels(image, own map[string]string) map[string]string {
	if len(own) == 0 {
		return image
	}
	out := maps.Clone(image)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, own)
	return out
}

func pick(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func checkConfig(c *Config) error {
	if c.WorkingDir != "" && !path.IsAbs(c.WorkingDir) {
		return fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
	}
	if c.StopSignal != "" {
		if _, ok := spec.SignalNumber(c.StopSignal); !ok {
			return fmt.Errorf("invalid signal: %s", c.StopSignal)
		}
	}
	if len(c.Hostname) > 63 || strings.ContainsAny(c.Hostname, " \t\n/") {
		return fmt.Errorf("invalid hostname: %q", c.Hostname)
	}
	return nil
}

// check validates, and normalises binds and capability names.
func (h *HostConfig) check() error {
	var err error
	if _, err = capabilities(h.CapAdd, h.CapDrop); err != nil {
		return err
	}
	if _, err := h.isolation(); err != nil {
		return err
	}
	for _, r := range h.DeviceCgroupRules {
		if _, err := parseDeviceRule(r); err != nil {
			return err
		}
	}
	if err := h.checkLimits(runtime.NumCPU()); err != nil {
		return err
	}
	if h.Memory > 0 && h.Memory < h.MemoryReservation { // each may be updated alone
		return refused("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	if h.MemorySwap == 0 {
		h.MemorySwap = 2 * h.Memory
	}
	return nil
}

// refused is an error in Docker's words, which begin with a capital letter.
type refused string

func (r refused) Error() string { return string(r) }

// checkLimits has Docker's words, but not its minimum of 6 MB of memory: what is too little for the program, the kernel says.
func (h *HostConfig) checkLimits(cpus int) error {
	switch {
	case h.Memory < 0:
		return fmt.Errorf("invalid memory limit: %d", h.Memory)
	case h.MemorySwap > 0 && h.Memory == 0:
		return refused("You should always set the Memory limit when using Memoryswap limit, see usage")
	case h.MemorySwap > 0 && h.MemorySwap < h.Memory:
		return refused("Minimum memoryswap limit should be larger than memory limit, see usage")
	case h.NanoCpus != 0 && (h.NanoCpus < 1e7 || h.NanoCpus > int64(cpus)*1e9):
		return refused(fmt.Sprintf("Range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", cpus, cpus))
	}
	h.PidsLimit = max(h.PidsLimit, 0)
	return nil
}

// mergeEnv lays b over a: a value replaces in place, a new name goes to the end, a bare name takes it out.
func mergeEnv(a, b []string) []string {
	out := slices.Clone(a)
	for _, kv := range b {
		name, _, set := strings.Cut(kv, "=")
		i := slices.IndexFunc(out, func(o string) bool { n, _, _ := strings.Cut(o, "="); return n == name })
		switch {
		case i >= 0 && set:
			out[i] = kv
		case i >= 0:
			out = slices.Delete(out, i, i+1)
		case set:
			out = append(out, kv)
		}
	}
	return out
}
