package compile

import (
	"vitro/internal/cgroup"
	"vitro/internal/plan"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Input is everything a start depends on.
type Input struct {
	Spec      *specs.Spec
	ID        string
	Bundle    string // absolute
	StateDir  string // /run/vitrun/<id>
	Create    bool   // stop before execve and wait for start
	NoPivot   bool
	NoKeyring bool
	ConsoleFD int           // connected unix socket that takes the pty master, -1 for none
	ExtraFDs  int           // fds 3 … 3+n-1 go to the process (socket activation, --preserve-fds)
	RootFD    int           // detached tree or O_PATH folder to be used as the rootfs in place of root.path; -1 for none
	Group     *cgroup.Group // nil: the caller's own cgroup
	Facts     Facts
}

// Facts are what the compiler knows of the host. Gather fills them.
type Facts struct {
	Rootfs    string // absolute path of root.path
	Home      string // from the rootfs' /etc/passwd
	EUID      int
	EGID      int
	UserNS    bool     // the caller is root in a user namespace: mknod(2) is refused
	SourceDir []bool   // per mount: the bind source is a folder
	Targets   []string // per mount: where it goes to in place of its destination, which has a dangling link; "" where it has none; nil for no such mount
	StdioNull [3]bool  // fd 0-2 is the null device: its owner is left alone
	StdioOpen [3]bool
	Raises    bool   // a limit of process.rlimits is above our own hard limit
	V2        bool   // pure cgroup v2
	Program   []byte // seccomp: sock_filter array
	SecFlags  uint32
	AppArmor  bool // the kernel has it, and it is on
}

// c is one compilation.
type c struct {
	*plan.Builder
	in          *Input
	spec        *specs.Spec
	ns          namespaces
	root        plan.Slot // fd of the rootfs: detached tree, then the container's root
	proc        plan.Slot // a procfs of the container's pid namespace, 0 for none
	dev         plan.Slot // the container's /dev
	fifo        plan.Slot // exec.fifo
	errs        plan.Slot // error.fifo
	caps        capSets
	inheritable uint64
	all         []mount
	late        []*mount // mounts that wait for the control groups
	join        []joined
	acks        int // acks that the parent gives right after the clone and the stub has not yet read
}

const (
	cloexecDir = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	cloexec    = unix.O_CLOEXEC
	inRoot     = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	tries      = 128 // openat2 gives EAGAIN while anybody renames or mounts (runc a41366e74)
	byFD       = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
)

// stub appends a stub system call.
func (c *c) stub(nr int, args ...plan.Arg) *plan.Op { return c.Sys(plan.Stub, nr, args...) }

func i(v int) plan.Arg { return plan.Int(v) }

func fieldAt(name string, n int) string { return name + "[" + itoa(n) + "]" }
