package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"vitro/internal/monitor"
)

// session is a foreground attachment: signals, the terminal's mode and size, input.
type session struct {
	tty, input bool
	keys       []byte
	signals    chan os.Signal
	proxy      bool
	detached   chan struct{}
	started    func() // may be nil
}

func newSession(tty, input bool, keys []byte) *session {
	return &session{tty: tty, input: input, keys: keys, detached: make(chan struct{})}
}

// catchSignals starts to collect signals: before the container's start, so that none is lost.
func (s *session) catchSignals(proxy bool) {
	s.proxy = proxy
	s.signals = make(chan os.Signal, 64)
	if proxy {
		signal.Notify(s.signals) // all that can be caught
	} else {
		signal.Notify(s.signals, syscall.SIGWINCH)
	}
}

type event struct {
	m   monitor.Message
	err error
}

// serve stays until the container ends or the user detaches. The error has the exit status.
func (s *session) serve(client *monitor.Client) error {
	restore, err := s.rawMode() // before the first output
	if err != nil {
		return err
	}
	defer restore()
	m, input, err := client.Next()
	if err != nil {
		return err
	}
	if m.Event == monitor.Failed {
		return &exitError{m.Code, errors.New(m.Error)}
	}
	if s.started != nil {
		s.started()
	}
	s.resize(input)
	if s.input && input != nil {
		allProcessors()
		go s.copyInput(input)
	}
	next := make(chan event, 1)
	go func() {
		m, _, err := client.Next()
		next <- event{m, err}
	}()
	pidfd, err := unix.PidfdOpen(m.PID, 0)
	if err == nil {
		defer unix.Close(pidfd)
	}
	for {
		select {
		case e := <-next:
			if e.err != nil {
				return e.err
			}
			if e.m.Code != 0 {
				return &exitError{code: e.m.Code}
			}
			return nil
		case <-s.detached:
			return nil
		case sig := <-s.signals:
			s.signal(sig, pidfd, input)
		}
	}
}

func (s *session) signal(sig os.Signal, pidfd int, terminal *os.File) {
	switch n := sig.(syscall.Signal); {
	case n == syscall.SIGWINCH:
		s.resize(terminal)
	case n == syscall.SIGURG || n == syscall.SIGCHLD || n == syscall.SIGPIPE: // Go's own use, and ours
	case s.proxy && pidfd >= 0:
		_ = unix.PidfdSendSignal(pidfd, n, nil, 0)
	}
}

// rawMode is for a container with a terminal whose input is ours.
func (s *session) rawMode() (restore func(), err error) {
	if !s.tty || !s.input || !term.IsTerminal(0) {
		return func() {}, nil
	}
	old, err := term.MakeRaw(0)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return func() { _ = term.Restore(0, old) }, nil
}

func (s *session) resize(terminal *os.File) {
	if !s.tty || terminal == nil {
		return
	}
	size, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ)
	if err != nil {
		return
	}
	raw, err := terminal.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size) })
}

// copyInput moves our input to the container. The end of a pipe's input closes the container's; a terminal's detach keys
// end the session.
func (s *session) copyInput(to *os.File) {
	if !s.tty {
		_, _ = io.Copy(to, os.Stdin)
		to.Close()
		return
	}
	d := detacher{keys: s.keys}
	b := make([]byte, 4096)
	for {
		n, err := os.Stdin.Read(b)
		out, leave := d.filter(b[:n])
		if _, werr := to.Write(out); werr != nil || err != nil && !leave {
			return
		}
		if leave {
			close(s.detached)
			return
		}
	}
}

const defaultDetachKeys = "ctrl-p,ctrl-q"

// detacher looks for the detach keys in the input; what may be their beginning is kept back.
type detacher struct {
	keys []byte
	seen int
}

func (d *detacher) filter(in []byte) (out []byte, leave bool) {
	if len(d.keys) == 0 {
		return in, false
	}
	for _, c := range in {
		if c != d.keys[d.seen] {
			out = append(out, d.keys[:d.seen]...)
			d.seen = 0
		}
		if c != d.keys[d.seen] {
			out = append(out, c)
			continue
		}
		if d.seen++; d.seen == len(d.keys) {
			return out, true
		}
	}
	return out, false
}

// parseDetachKeys reads a comma-separated list of single characters and ctrl-X.
func parseDetachKeys(s string) (keys []byte, err error) {
	if s == "" {
		return nil, nil
	}
	for _, k := range strings.Split(s, ",") {
		switch {
		case len(k) == 1:
			keys = append(keys, k[0])
		case len(k) == 6 && strings.HasPrefix(k, "ctrl-") && (k[5] >= 'a' && k[5] <= 'z' || k[5] >= '@' && k[5] <= '_'):
			keys = append(keys, k[5]&0x1f)
		default:
			return nil, fmt.Errorf("invalid detach keys (%s): Unknown character: '%s'", s, k)
		}
	}
	return keys, nil
}
