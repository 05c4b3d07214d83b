package runtime

import (
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"vitro/internal/boot"
	"vitro/internal/spec"
	"vitro/internal/sys"
)

// Kinds of hooks, as the plan's "hooks" op numbers them.
const (
	prestart = iota
	createRuntime
	createContainer
	startContainer
	poststart
	poststop
)

func hookKind(h *specs.Hooks, kind int) (string, []specs.Hook) {
	if h == nil {
		return "", nil
	}
	switch kind {
	case prestart:
		//lint:ignore SA1019 prestart is deprecated, and used
		return "prestart", h.Prestart //nolint:staticcheck // deprecated by the spec, and in use
	case createRuntime:
		return "createRuntime", h.CreateRuntime
	case createContainer:
		return "createContainer", h.CreateContainer
	case startContainer:
		return "startContainer", h.StartContainer
	case poststart:
		return "poststart", h.Poststart
	}
	return "poststop", h.Poststop
}

// hooks runs every hook of a kind, in order, up to the first failure.
func (c *container) hooks(s *specs.Spec, kind int, status specs.ContainerState) error {
	name, list := hookKind(s.Hooks, kind)
	for i := range list {
		var err error
		if kind == createContainer || kind == startContainer {
			err = c.runInside(&list[i], kind, s, status)
		} else {
			err = runHook(&list[i], c.ociState(status, c.init.pid), c.bundle)
		}
		if err != nil {
			return wrap("error running "+name+" hook #"+sys.Itoa(i), err)
		}
	}
	return nil
}

// hookIO are the pipes of a hook: the state goes in, both outputs are kept for the error's text.
type hookIO struct {
	in, out, err   [2]int // read end, write end
	stdin          []byte
	stdout, stderr []byte
	pidfd          int
}

func newHookIO(state *specs.State) (*hookIO, error) {
	h := &hookIO{stdin: spec.EncodeState(state), pidfd: -1}
	for _, p := range []*[2]int{&h.in, &h.out, &h.err} {
		*p = [2]int{-1, -1}
	}
	for _, p := range []*[2]int{&h.in, &h.out, &h.err} {
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			h.close()
			return nil, wrap("pipe", err)
		}
	}
	for _, fd := range []int{h.in[1], h.out[0], h.err[0]} {
		if err := unix.SetNonblock(fd, true); err != nil {
			h.close()
			return nil, wrap("pipe", err)
		}
	}
	return h, nil
}

func (h *hookIO) close() {
	for _, fd := range []*int{&h.in[0], &h.in[1], &h.out[0], &h.out[1], &h.err[0], &h.err[1]} {
		closeFD(fd)
	}
}

func closeFD(fd *int) {
	if *fd >= 0 {
		unix.Close(*fd)
		*fd = -1
	}
}

// runHook runs a hook in the caller's namespaces.
func runHook(hook *specs.Hook, state *specs.State, dir string) error {
	h, err := newHookIO(state)
	if err != nil {
		return err
	}
	defer h.close()
	pidfd := -1
	attr := &syscall.ProcAttr{
		Dir:   dir,
		Env:   hook.Env,
		Files: []uintptr{uintptr(h.in[0]), uintptr(h.out[1]), uintptr(h.err[1])},
		Sys:   &syscall.SysProcAttr{PidFD: &pidfd},
	}
	if attr.Env == nil {
		attr.Env = []string{}
	}
	boot.OwnSlack()
	pid, err := syscall.ForkExec(hook.Path, hookArgs(hook), attr)
	if err != nil {
		return wrap("fork/exec "+hook.Path, err)
	}
	return h.wait(hook, pid, pidfd)
}

func hookArgs(hook *specs.Hook) []string {
	if len(hook.Args) == 0 {
		return []string{hook.Path}
	}
	return hook.Args
}

// wait feeds the hook and waits for its end or its timeout, which kills it. What it left behind may keep the pipes open.
func (h *hookIO) wait(hook *specs.Hook, pid, pidfd int) error {
	defer unix.Close(pidfd)
	for _, fd := range []*int{&h.in[0], &h.out[1], &h.err[1]} {
		closeFD(fd)
	}
	var end time.Time
	if hook.Timeout != nil {
		end = time.Now().Add(time.Duration(*hook.Timeout) * time.Second)
	}
	timedOut := false
	for dead := false; !dead; {
		ms := -1
		if hook.Timeout != nil && !timedOut {
			ms = int(max(0, time.Until(end)+time.Millisecond-1) / time.Millisecond)
		}
		p := []unix.PollFd{
			{Fd: int32(h.in[1]), Events: unix.POLLOUT},
			{Fd: int32(h.out[0]), Events: unix.POLLIN},
			{Fd: int32(h.err[0]), Events: unix.POLLIN},
			{Fd: int32(pidfd), Events: unix.POLLIN},
		}
		n, err := unix.Poll(p, ms)
		if err != nil && err != unix.EINTR {
			return wrap("poll", err)
		}
		if n == 0 && err == nil {
			timedOut = true
			_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
			continue
		}
		h.move(p)
		dead = p[3].Revents != 0
	}
	var st syscall.WaitStatus
	if err := again(func() error { _, err := syscall.Wait4(pid, &st, 0, nil); return err }); err != nil {
		return wrap("wait for the hook", err)
	}
	if timedOut {
		return text("hook ran past specified timeout of " + strconv.FormatFloat(float64(*hook.Timeout), 'f', 1, 64) + "s")
	}
	return h.result(st)
}

// move does what the pipes are ready for.
func (h *hookIO) move(p []unix.PollFd) {
	if p[0].Revents != 0 {
		n, err := unix.Write(h.in[1], h.stdin) // a hook need not read: EPIPE is fine
		if n > 0 {
			h.stdin = h.stdin[n:]
		}
		if len(h.stdin) == 0 || err != nil && err != unix.EAGAIN && err != unix.EINTR {
			closeFD(&h.in[1])
		}
	}
	if p[1].Revents != 0 {
		h.stdout = keep(&h.out[0], h.stdout)
	}
	if p[2].Revents != 0 {
		h.stderr = keep(&h.err[0], h.stderr)
	}
}

// keep reads fd once and keeps the first 4 KiB of all.
func keep(fd *int, got []byte) []byte {
	var b [4096]byte
	n, err := unix.Read(*fd, b[:])
	if n == 0 || err != nil && err != unix.EAGAIN && err != unix.EINTR {
		closeFD(fd)
	}
	if n > 0 {
		got = append(got, b[:min(n, len(b)-len(got))]...)
	}
	return got
}

// result is nil for exit status 0.
func (h *hookIO) result(st syscall.WaitStatus) error {
	if st.Exited() && st.ExitStatus() == 0 {
		return nil
	}
	for i, fd := range []*int{&h.out[0], &h.err[0]} { // what it wrote just before its end
		if *fd < 0 {
			continue
		}
		if i == 0 {
			h.stdout = keep(fd, h.stdout)
		} else {
			h.stderr = keep(fd, h.stderr)
		}
	}
	what := "exit status " + sys.Itoa(st.ExitStatus())
	if st.Signaled() {
		what = "signal: " + st.Signal().String()
	}
	return text(what + ", stdout: " + oneLine(h.stdout) + ", stderr: " + oneLine(h.stderr))
}

func oneLine(b []byte) string {
	return strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", "; ")
}
