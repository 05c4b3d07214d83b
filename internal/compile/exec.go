package compile

import (
	"errors"
	"strings"

	"vitro/internal/plan"

	"golang.org/x/sys/unix"
)

// finish: find the executable as the final user, say ready, wait, and become it.
func (c *c) finish() error {
	p := c.spec.Process
	if len(p.Args) == 0 || p.Args[0] == "" {
		return errors.New("process.args: must name an executable")
	}
	if p.NoNewPrivileges {
		c.dropKeepCaps()
		c.finalCaps()
		c.Field("process.noNewPrivileges", "")
		c.stub(unix.SYS_PRCTL, i(unix.PR_SET_NO_NEW_PRIVS), i(1), i(0), i(0), i(0))
	}
	exe := c.findExecutable(p.Args[0], pathOf(p.Env))
	c.waitAck()
	c.limitsByParent()
	c.waitStart()
	c.Field("process", "")
	c.stub(unix.SYS_CLOSE_RANGE, i(3+c.in.ExtraFDs), plan.Int(uint32(0xffffffff)), i(unix.CLOSE_RANGE_CLOEXEC)).As("mark every fd close-on-exec")
	if !p.NoNewPrivileges {
		if len(c.in.Facts.Program) > 0 { // loading needs CAP_SYS_ADMIN, so after this only capset and execve run filtered
			c.dropKeepCaps()
			c.raiseCaps()
			c.ambient()
			c.seccomp()
			c.capset(c.caps.effective, c.caps.permitted, c.inheritable).As("set effective, permitted and inheritable")
		} else {
			c.dropKeepCaps()
			c.finalCaps()
		}
	} else if len(c.in.Facts.Program) > 0 {
		c.seccomp()
	}
	c.Field("process.args[0]", p.Args[0])
	c.stub(unix.SYS_EXECVE, plan.Val(exe), c.Vec(p.Args), c.Vec(environment(p.Env, c.in.Facts.Home))).
		Err(`exec ` + quote(p.Args[0]) + `: %e`)
	return nil
}

func (c *c) dropKeepCaps() {
	c.Field("process.user", "")
	c.stub(unix.SYS_PRCTL, i(unix.PR_SET_KEEPCAPS), i(0))
}

// waitStart tells vitrun that everything is ready and waits for start. From there failures go to error.fifo: the channel's other end is gone.
func (c *c) waitStart() {
	if !c.in.Create {
		return
	}
	c.Field("start", c.in.ID)
	c.Tell(0)
	c.Call(plan.Sync, "await")
	c.Copy(plan.Stub, plan.Arg{Kind: plan.ErrFD}, plan.Addr(c.errs), 8)
	c.stub(unix.SYS_CLOSE, plan.Val(plan.SlotChan))
	c.stub(unix.SYS_READ, plan.Val(c.fifo), c.Scratch(8), i(1)).Want(1).Again(unix.EINTR, 1000).As("wait for start")
}

// seccomp(2) with the compiled filter.
func (c *c) seccomp() {
	c.Field("linux.seccomp", "")
	prog := c.Bytes(c.in.Facts.Program)
	fprog := c.Words(uint64(len(c.in.Facts.Program)/8), 0)
	c.Ptr(fprog, 8, prog)
	c.stub(unix.SYS_SECCOMP, i(unix.SECCOMP_SET_MODE_FILTER), plan.Int(c.in.Facts.SecFlags), fprog).As("load the filter")
}

// findExecutable leaves the address of the path in a slot. A missing executable is an error of create, not of start (runc's LookPath).
func (c *c) findExecutable(name, path string) plan.Slot {
	exe := c.Slot()
	c.Field("process.args[0]", name)
	if strings.Contains(name, "/") {
		c.checkExecutable(name)
		c.use(exe, name)
		return exe
	}
	var found []int
	for _, dir := range strings.Split(path, ":") {
		if dir == "" {
			dir = "."
		}
		file := dir + "/" + name
		st := c.Scratch(statSize)
		f := c.Str(file)
		c.stub(unix.SYS_FACCESSAT2, i(unix.AT_FDCWD), f, i(unix.X_OK), i(unix.AT_EACCESS)).On(plan.AnyErrno, 4).As("look for " + file)
		c.stub(unix.SYS_NEWFSTATAT, i(unix.AT_FDCWD), f, st, i(0)).On(plan.AnyErrno, 3)
		c.Test(plan.Stub, st.At(statMode), 4, unix.S_IFMT, unix.S_IFDIR, 0).Ok(2).Tolerate(plan.AnyErrno)
		c.useAt(exe, f)
		found = append(found, len(c.Ops))
		c.Skip(plan.Stub, 0)
	}
	c.Test(plan.Stub, plan.Addr(exe), 8, 0, 1, unix.ENOENT).Err(`exec: ` + quote(name) + `: executable file not found in $PATH`)
	for _, f := range found {
		c.OkTo(f)
	}
	return exe
}

// checkExecutable gives the texts of Go's exec.LookPath, which callers match.
func (c *c) checkExecutable(name string) {
	st, f := c.Scratch(statSize), c.Str(name)
	c.stub(unix.SYS_NEWFSTATAT, i(unix.AT_FDCWD), f, st, i(0)).Err(`exec: ` + quote(name) + `: stat ` + name + `: %e`)
	c.Test(plan.Stub, st.At(statMode), 4, unix.S_IFMT, unix.S_IFDIR, 0).On(plan.AnyErrno, 1)
	c.Test(plan.Stub, plan.Addr(plan.SlotChan), 8, 0, 1, unix.EISDIR).Err(`exec: ` + quote(name) + `: is a directory: permission denied`) // podman's 126 wants the one, moby's the other
	c.stub(unix.SYS_FACCESSAT2, i(unix.AT_FDCWD), f, i(unix.X_OK), i(unix.AT_EACCESS)).Err(`exec: ` + quote(name) + `: %e`)
}

func (c *c) use(exe plan.Slot, file string) { c.useAt(exe, c.Str(file)) }

func (c *c) useAt(exe plan.Slot, f plan.Arg) {
	w := c.Words(0)
	c.Ptr(w, 0, f)
	c.Copy(plan.Stub, plan.Addr(exe), w, 8).As("take it")
}

// pathOf is PATH of the process's own environment; the last one wins.
func pathOf(env []string) string {
	path := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	return path
}

// environment is env with the last of each name, and HOME where it is missing or empty.
func environment(env []string, home string) []string {
	out := make([]string, 0, len(env)+1)
	hasHome := false
	last := lastOf(env)
	for k, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if last != nil && last[name] != k || last == nil && later(env[k+1:], name) || name == "HOME" && value == "" {
			continue
		}
		hasHome = hasHome || name == "HOME"
		out = append(out, e)
	}
	if !hasHome && home != "" {
		out = append(out, "HOME="+home)
	}
	return out
}

// lastOf maps each name to its last place where there are many: a pod's service links make tens of thousands. nil for few.
func lastOf(env []string) map[string]int {
	if len(env) < 200 {
		return nil
	}
	m := make(map[string]int, len(env))
	for k, e := range env {
		name, _, _ := strings.Cut(e, "=")
		m[name] = k
	}
	return m
}

func later(env []string, name string) bool {
	for _, e := range env {
		if len(e) > len(name) && e[len(name)] == '=' && e[:len(name)] == name {
			return true
		}
	}
	return false
}

func quote(s string) string { return `"` + s + `"` }
