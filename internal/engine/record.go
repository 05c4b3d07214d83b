package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Container is the record of a container: <root>/containers/<id>/container.json, replaced as a whole. The fields have
// Docker's names and shapes where Docker has them, so inspect prints them as they are.
type Container struct {
	ID         string `json:"Id"`
	Created    time.Time
	Path       string   // the program: first word of Entrypoint + Cmd
	Args       []string // the others
	Name       string
	ImageID    string // digest of the image's config
	Driver     string `json:",omitempty"` // of the root file system: empty is overlay, or copy
	Config     Config
	HostConfig HostConfig
	Mounts     []Mount      `json:",omitempty"` // binds, volumes, tmpfs
	Networks   []Attachment `json:",omitempty"` // that it was made for; networks.json, where it is, counts

	StartedAt  time.Time // zero: never
	FinishedAt time.Time // zero: never, or its monitor died before it could note the end
	ExitCode   int
	OOMKilled  bool   `json:",omitempty"`
	Error      string `json:",omitempty"` // why it did not start
}

// Config is what the container runs.
type Config struct {
	Hostname     string
	Domainname   string `json:",omitempty"`
	User         string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	ExposedPorts map[string]struct{} `json:",omitempty"` // 80/tcp
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Env          []string
	Cmd          []string
	Image        string              // as on the command line
	Volumes      map[string]struct{} `json:",omitempty"` // without a name: the image's, and -v /path
	WorkingDir   string
	Entrypoint   []string
	Labels       map[string]string
	StopSignal   string `json:",omitempty"`
	StopTimeout  *int   `json:",omitempty"` // seconds
}

// HostConfig is what the host gives and takes.
type HostConfig struct {
	Binds           []string                 // SRC:DST[:MODE]; SRC is an absolute path or a volume's name
	Mounts          []MountSpec              `json:",omitempty"`
	Tmpfs           map[string]string        `json:",omitempty"` // options by destination
	VolumesFrom     []string                 `json:",omitempty"` // CONTAINER[:ro|rw]
	NetworkMode     string                   // none, host, container:ID, or the first network's name
	PortBindings    map[string][]PortBinding // by 80/tcp
	PublishAllPorts bool
	DNS             []string `json:"Dns"`
	DNSOptions      []string `json:"DnsOptions"`
	DNSSearch       []string `json:"DnsSearch"`
	ExtraHosts      []string // NAME:ADDRESS
	AutoRemove      bool
	CapAdd          []string
	CapDrop         []string
	ReadonlyRootfs  bool
	Memory          int64 // bytes; 0 is no limit
	MemorySwap      int64 // bytes of memory and swap together; -1 is no limit
	NanoCpus        int64 // 1e-9 CPUs
	Limits
	PidsLimit         int64             // 0 is no limit
	MemorySwappiness  *int64            `json:",omitempty"` // 0 to 100; -1 is the host's
	OomKillDisable    bool              `json:",omitempty"`
	OomScoreAdj       int               `json:",omitempty"`
	Privileged        bool              `json:",omitempty"`
	SecurityOpt       []string          `json:",omitempty"`
	PidMode           string            `json:",omitempty"` // host, container:ID
	IpcMode           string            `json:",omitempty"` // private, none, host
	UTSMode           string            `json:",omitempty"` // host
	CgroupnsMode      string            `json:",omitempty"` // private, host
	UsernsMode        string            `json:",omitempty"` // host
	Devices           []Device          `json:",omitempty"`
	DeviceCgroupRules []string          `json:",omitempty"` // c 10:200 rwm
	Sysctls           map[string]string `json:",omitempty"`
	Ulimits           []Ulimit          `json:",omitempty"`
	ShmSize           int64             `json:",omitempty"` // bytes; 0 is the default
	GroupAdd          []string          `json:",omitempty"`
	CgroupParent      string            `json:",omitempty"`
	Annotations       map[string]string `json:",omitempty"`
	ConsoleSize       [2]uint           `json:",omitempty"` // rows, columns
	LogConfig         LogConfig
}

// PortBinding is where a port of the container is published: empty is everywhere, or any.
type PortBinding struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// LogConfig names the log driver; it is always json-file.
type LogConfig struct {
	Type   string
	Config map[string]string
}

const recordName = "container.json"

// ErrNotFound is wrapped by errors about a container that is not there.
var ErrNotFound = errors.New("no such container")

// NotFoundError is ErrNotFound with what was asked for.
type NotFoundError struct{ Ref string }

func (e *NotFoundError) Error() string        { return "No such container: " + e.Ref }
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

func (e *Engine) dir(id string, elem ...string) string {
	return filepath.Join(append([]string{e.Root, "containers", id}, elem...)...)
}

func (e *Engine) runDir(id string, elem ...string) string {
	return filepath.Join(append([]string{e.RunRoot, id}, elem...)...)
}

func (e *Engine) readRecord(id string) (*Container, error) {
	b, err := os.ReadFile(e.dir(id, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{id}
	}
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", shortID(id), err)
	}
	c := &Container{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("container %s: %s: %w", shortID(id), recordName, err)
	}
	return c, nil
}

// writeRecord replaces the record. A container that goes away when it ends is not worth an fsync: after a power cut it is
// gone anyway, and a record that is broken then is swept with its folder.
func (e *Engine) writeRecord(c *Container) error {
	b, err := json.MarshalIndent(c, "", " ")
	if err == nil {
		err = replaceFile(e.dir(c.ID, recordName), append(b, '\n'), !c.HostConfig.AutoRemove)
	}
	if err != nil {
		return fmt.Errorf("container %s: %w", shortID(c.ID), err)
	}
	return nil
}

// replaceFile stages, flushes and renames; with durable it also survives a power cut.
func replaceFile(path string, b []byte, durable bool) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err == nil && durable {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil || !durable {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func shortID(id string) string { return id[:min(12, len(id))] }
