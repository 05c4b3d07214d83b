package engine

import (
	"cmp"
	"path/filepath"
	"strings"
	"time"

	"vitro/internal/store"
)

// Inspect is a container in the shape of Docker's API; fields that say nothing of a Vitro container are left out.
type Inspect struct {
	ID              string `json:"Id"`
	Created         string
	Path            string
	Args            []string
	State           State
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	HostConfig      InspectHost
	GraphDriver     GraphDriver
	Mounts          []MountPoint
	Config          Config
	NetworkSettings NetworkSettings
	SizeRw          *int64 `json:",omitempty"` // bytes: see Engine.Sizes
	SizeRootFs      *int64 `json:",omitempty"`
}

// State is what docker inspect calls State.
type State struct {
	Status     Status
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  string
	FinishedAt string
}

// InspectHost is HostConfig with what is the same for every container.
type InspectHost struct {
	HostConfig
	IpcMode, CgroupnsMode string
	ShmSize               int64 // bytes
	Privileged            bool
	MaskedPaths           []string // null: none, as with --privileged
	ReadonlyPaths         []string
	Runtime               string
}

// GraphDriver says where the root file system's layers are.
type GraphDriver struct {
	Name string
	Data map[string]string
}

const overlay = "overlay"

const zeroTime = "0001-01-01T00:00:00Z"

func stamp(t time.Time) string {
	if t.IsZero() {
		return zeroTime
	}
	return t.Format(time.RFC3339Nano)
}

// Inspect describes a container.
func (e *Engine) Inspect(l *Live) Inspect {
	files, err := e.filesDir(l.Container)
	if err != nil { // the other container is gone
		files = e.dir(l.ID)
	}
	masked, readonly := maskedPaths, readonlyPaths
	if guard, err := l.HostConfig.isolation(); err == nil && guard.openPaths {
		masked, readonly = nil, nil
	}
	in := Inspect{
		ID: l.ID, Created: stamp(l.Created), Path: l.Path, Args: l.Args, Image: l.ImageID, Name: "/" + l.Name,
		ResolvConfPath: filepath.Join(files, "resolv.conf"), HostnamePath: filepath.Join(files, "hostname"), HostsPath: filepath.Join(files, "hosts"),
		LogPath: e.LogPath(l.ID), Driver: pick(l.Driver, overlay), Platform: "linux", Config: l.Config, Mounts: []MountPoint{},
		State: State{
			Status: l.State(), Running: l.Status == Running, Paused: l.Paused, OOMKilled: l.OOMKilled, Pid: l.PID, ExitCode: l.ExitCode,
			Error: l.Error, StartedAt: stamp(l.StartedAt), FinishedAt: stamp(l.FinishedAt),
		},
		HostConfig: InspectHost{
			HostConfig: l.HostConfig, IpcMode: pick(l.HostConfig.IpcMode, privateMode), CgroupnsMode: pick(l.HostConfig.CgroupnsMode, privateMode),
			ShmSize: cmp.Or(l.HostConfig.ShmSize, shmSize), Privileged: l.HostConfig.Privileged, MaskedPaths: masked, ReadonlyPaths: readonly, Runtime: "vitrun",
		},
		NetworkSettings: e.networkSettings(l),
	}
	if in.Args == nil {
		in.Args = []string{}
	}
	for _, m := range l.Mounts {
		in.Mounts = append(in.Mounts, m.MountPoint)
	}
	if l.Driver != "" {
		in.GraphDriver = GraphDriver{Name: l.Driver, Data: map[string]string{"RootDir": e.dir(l.ID, "rootfs")}}
		return in
	}
	in.GraphDriver = GraphDriver{overlay, map[string]string{"UpperDir": e.dir(l.ID, "upper"), "WorkDir": e.dir(l.ID, "work")}}
	if img, err := e.Store.Resolve(l.ImageID); err == nil {
		in.GraphDriver.Data["LowerDir"] = strings.Join(e.Store.Layers(img), ":")
	}
	return in
}

// ImageInspect is an image in the shape of Docker's API.
type ImageInspect struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Comment      string // of the newest step of its history
	Created      string
	Author       string
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64
	GraphDriver  GraphDriver
	RootFS       RootFS
	Config       any
}

// RootFS lists the diff IDs, bottom first.
type RootFS struct {
	Type   string
	Layers []string
}

// InspectImage describes an image.
func (e *Engine) InspectImage(img store.Image) ImageInspect {
	c := img.Config
	in := ImageInspect{
		ID: img.ID.String(), RepoTags: nonNil(img.RepoTags), RepoDigests: nonNil(img.RepoDigests), Created: zeroTime,
		Author: c.Author, Architecture: c.Architecture, Variant: c.Variant, Os: c.OS, Size: img.Size, Config: c.Config,
		RootFS: RootFS{Type: "layers"},
	}
	if c.Created != nil {
		in.Created = stamp(*c.Created)
	}
	if n := len(c.History); n > 0 {
		in.Comment = c.History[n-1].Comment
	}
	for _, d := range c.RootFS.DiffIDs {
		in.RootFS.Layers = append(in.RootFS.Layers, d.String())
	}
	if dirs := e.Store.Layers(img); len(dirs) > 0 {
		in.GraphDriver = GraphDriver{overlay, map[string]string{"LowerDir": strings.Join(dirs, ":")}}
	}
	return in
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
