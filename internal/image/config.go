package image

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/image-spec/specs-go/v1"
)

// Config is an image config: the OCI one plus what Docker keeps beside it.
type Config struct {
	v1.Image
	Config ContainerConfig `json:"config"`
}

// ContainerConfig is the part of a Config that a container starts with.
type ContainerConfig struct {
	v1.ImageConfig
	Healthcheck *Healthcheck `json:"Healthcheck,omitempty"`
	OnBuild     []string     `json:"OnBuild,omitempty"`
	Shell       []string     `json:"Shell,omitempty"`
	StopTimeout *int         `json:"StopTimeout,omitempty"` // seconds
}

// Healthcheck is Docker's HEALTHCHECK. Durations are nanoseconds in JSON; 0 means inherit or default.
type Healthcheck struct {
	Test          []string      `json:"Test,omitempty"` // {}, {"NONE"}, {"CMD", args…}, {"CMD-SHELL", command}
	Interval      time.Duration `json:"Interval,omitempty"`
	Timeout       time.Duration `json:"Timeout,omitempty"`
	StartPeriod   time.Duration `json:"StartPeriod,omitempty"`
	StartInterval time.Duration `json:"StartInterval,omitempty"`
	Retries       int           `json:"Retries,omitempty"`
}

// DecodeConfig decodes and checks an image config.
func DecodeConfig(b []byte) (Config, error) {
	var c Config
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("config: %w", err)
	}
	if t := c.RootFS.Type; t != "layers" {
		return c, fmt.Errorf("config: rootfs.type: %q, want \"layers\"", t)
	}
	for i, d := range c.RootFS.DiffIDs {
		if err := CheckDigest(d); err != nil {
			return c, fmt.Errorf("config: rootfs.diff_ids[%d]: %w", i, err)
		}
	}
	return c, nil
}
