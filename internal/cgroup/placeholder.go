package cgroup

import (
	"vitro/internal/plan"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

type Group struct{}
type Mount struct {
	Name     string
	Options  []string
	V2       bool
	Symlinks []string
}

func (g *Group) Plan(b *plan.Builder, r *specs.LinuxResources, x bool) error { return nil }
func (g *Group) Join(b *plan.Builder)                                       {}
func (g *Group) FD() plan.Slot                                              { return 0 }
func (g *Group) Mounts() []Mount                                            { return nil }
