package runtime

import (
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Runtime is a folder of containers. Its methods may be called at once from many processes.
type Runtime struct {
	Root  string                  // "/run/vitrun"
	Log   func(level, msg string) // nil: dropped. Levels as logrus has them: "debug", "warning"
	Debug bool                    // warnings of config.json are logged too
}

// CreateOpts are the options of create and run. The container gets this process's files 0 to 2.
type CreateOpts struct {
	ID     string
	Bundle string      // folder with config.json; relative to the working directory
	Spec   *specs.Spec // in place of Bundle/config.json, normalised and validated by Create

	PidFile       string // gets the init's pid in decimal
	PID           *int   // gets the init's pid; State has none any more when the init has ended
	ConsoleSocket string // unix socket that gets the pty's master
	PreserveFDs   int    // files 3…3+n-1 that the container inherits
	NoPivot       bool   // move mount and chroot in place of pivot_root(2)
	NoNewKeyring  bool

	// Again, where it is not nil, makes the root file system once more (its path, and what ends it), for a trial of a memory limit: a
	// detached mount given as /proc/self/fd/N cannot be cloned before Linux 6.15.
	Again func() (path string, done func(), err error)
	trial bool

	// Run only.
	Detach    bool // return once the user's program runs
	Keep      bool // do not delete when it has ended
	Subreaper bool // adopt and reap the container's orphans; reaps every child of this process
}

// ExecOpts are the options of exec.
type ExecOpts struct {
	Process *specs.Process // whole; see Runtime.Process

	PidFile       string
	ConsoleSocket string
	PreserveFDs   int
	Cgroup        string // a cgroup below the container's
	IgnorePaused  bool
	Detach        bool
}

// State is what state and list print: the OCI state and runc's additions.
type State struct {
	specs.State
	Rootfs  string
	Created string // RFC 3339, UTC
	Owner   string // user who owns the state folder
}
