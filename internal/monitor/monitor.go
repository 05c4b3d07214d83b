package monitor

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"vitro/internal/boot"

	"golang.org/x/sys/unix"
)

// Stdio is what Start runs the container with: files 0 to 2, or the path of a unix socket that wants the terminal.
type Stdio struct {
	Files   [3]*os.File
	Console string
}

// Config describes a container and what its monitor does at each step.
type Config struct {
	Tty       bool
	OpenStdin bool
	StdinOnce bool   // the container's input ends with its first client
	LogPath   string // empty: no log
	RunDir    string // folder for the sockets, made if missing
	Here      bool   // the client that starts the container is this process: it is not let go before the end

	// Start runs the container and returns the pid of its init, a child of this process.
	Start func(request []byte, io Stdio) (pid int, err error)
	// Exited notes the end, or why there was no start. It is called once, after all output is in the log, and before
	// clients are told.
	Exited func(exit int, failed error)
	// Exec starts a further process in the container, without files, and returns its pid, a child of this process. Nil:
	// refused.
	Exec func(request []byte) (pid int, err error)
	// Code gives the exit status of a failed start: 125, 126 or 127.
	Code func(error) int
}

// Monitor is one container's.
type Monitor struct {
	o      Config
	log    *Log
	input  *os.File // terminal's master or write end of a pipe; nil without input
	output []*os.File
	ln     *net.UnixListener

	mu      sync.Mutex
	clients map[*client]bool
	ending  bool // the init is gone
	copies  sync.WaitGroup
	pid     int

	execs sync.Mutex // one at a time
	busy  sync.Once
}

// Run serves first, one end of a socketpair whose other end asks for the start, and returns when the container has ended.
func Run(first *os.File, o Config) error {
	m := &Monitor{o: o, clients: map[*client]bool{}}
	c, err := newConn(first)
	if err != nil {
		return err
	}
	if o.LogPath != "" {
		m.log = OpenLog(o.LogPath)
	}
	var req Request
	files, err := c.receive(&req)
	if err != nil {
		return fmt.Errorf("start request: %w", err)
	}
	cl := m.add(c, req, files)
	cl.broken, cl.stays = m.hangUp, o.Here
	if err := m.start(req.Start); err != nil {
		if m.ln != nil {
			m.ln.Close()
		}
		m.o.Exited(0, err)
		_ = c.send(Message{Event: Failed, Code: o.Code(err), Error: err.Error()})
		return err
	}
	m.greet(cl, req)
	defer time.AfterFunc(shrinkAfter, shrink).Stop()
	go m.watch(cl)
	go m.accept()
	exit, killed := m.wait()
	m.o.Exited(exit, nil)
	m.end(exit, killed)
	return nil
}

// moreProcessors is for a container with output: if the process was started for one processor (package boot), each reader
// and writer that blocks would hold the others up until the runtime finds out, some 10 ms.
func moreProcessors() {
	if runtime.GOMAXPROCS(0) == 1 {
		runtime.GOMAXPROCS(2)
	}
}

// shrinkAfter is when a container counts as one that stays: its monitor then gives back what the start took.
const shrinkAfter = time.Second

func shrink() {
	debug.SetGCPercent(20)
	debug.FreeOSMemory()
	boot.DropCode()
}

// start makes the files, starts the container, and copies its output.
func (m *Monitor) start(request []byte) error {
	var io Stdio
	var err error
	if err = os.MkdirAll(m.o.RunDir, 0o700); err != nil {
		return err
	}
	if m.ln, err = listen("unixpacket", filepath.Join(m.o.RunDir, "attach.sock")); err != nil {
		return err
	}
	if m.o.Tty {
		return m.startTerminal(request)
	}
	if io.Files, err = m.pipes(); err != nil {
		return err
	}
	m.pid, err = m.o.Start(request, io)
	closeAll(io.Files[:])
	if err != nil {
		closeAll(append(m.output, m.input))
		return err
	}
	m.copy(m.output[0], 0)
	m.copy(m.output[1], 1)
	return nil
}

// pipes makes the container's files, and keeps the other ends.
func (m *Monitor) pipes() (theirs [3]*os.File, err error) {
	if m.o.OpenStdin {
		theirs[0], m.input, err = Pipe()
	} else {
		theirs[0], err = os.Open(os.DevNull)
	}
	for i := 1; i < 3 && err == nil; i++ {
		var r *os.File
		if r, theirs[i], err = Pipe(); err == nil {
			m.output = append(m.output, r)
		}
	}
	if err != nil {
		closeAll(theirs[:])
		closeAll(append(m.output, m.input))
	}
	return theirs, err
}

func (m *Monitor) startTerminal(request []byte) error {
	path := filepath.Join(m.o.RunDir, "console.sock")
	f, err := Terminal(path, func() (err error) {
		m.pid, err = m.o.Start(request, Stdio{Console: path})
		return err
	})
	if err != nil {
		return err
	}
	m.input, m.output = f, []*os.File{f}
	m.copy(f, 0)
	return nil
}

// copy moves output to the log and the clients until its end (EIO from a terminal).
func (m *Monitor) copy(from *os.File, stream int) {
	var log *LogStream
	if m.log != nil {
		log = m.log.Stream([2]string{"stdout", "stderr"}[stream])
	}
	m.copies.Go(func() {
		b := make([]byte, 4<<10)
		for {
			n, err := from.Read(b)
			if n > 0 {
				m.busy.Do(moreProcessors)
				if log != nil {
					_, _ = log.Write(b[:n]) // a full disk does not stop the container
				}
				m.broadcast(stream, b[:n])
			}
			if err != nil {
				break
			}
			if n == len(b) && n < 32<<10 { // much of it
				b = make([]byte, 32<<10)
			}
		}
		if log != nil {
			_ = log.Flush()
		}
		if !m.o.Tty { // a terminal is the input, too
			from.Close()
		}
	})
}

func (m *Monitor) broadcast(stream int, b []byte) {
	m.mu.Lock()
	var to []*client
	for c := range m.clients {
		to = append(to, c)
	}
	m.mu.Unlock()
	for _, c := range to {
		c.put(stream, b)
	}
}

// hangUp ends a stream of the container's output: its starter's reader is gone, and nobody else listens. The container
// is told as any writer to a pipe is, by EPIPE; SIGPIPE alone would not end it, since it is the init of a pid namespace.
func (m *Monitor) hangUp(stream int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.clients) == 1 && !m.o.Tty {
		m.output[stream].Close()
	}
}

func (m *Monitor) add(c *conn, req Request, files []*os.File) *client {
	cl := &client{c: c}
	cl.changed.L = &cl.mu
	for i, want := range []bool{req.Stdout, req.Stderr} {
		if want && len(files) > 0 {
			cl.out[i], files = files[0], files[1:]
		}
	}
	closeAll(files)
	if raw, err := c.c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { cl.hup = unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP} })
	}
	m.mu.Lock()
	m.clients[cl] = true
	cl.ending = m.ending
	m.mu.Unlock()
	return cl
}

// greet tells a client that the container runs, and gives it the input.
func (m *Monitor) greet(cl *client, req Request) {
	msg := Message{Event: Started, PID: m.pid}
	m.mu.Lock()
	input := m.input
	m.mu.Unlock()
	if req.Stdin && input != nil || m.o.Tty {
		msg.Input = true
		_ = cl.c.send(msg, input)
	} else {
		_ = cl.c.send(msg)
	}
	if req.Stdin && m.o.StdinOnce && !m.o.Tty { // the client's copy is the last: its end is the container's end of file
		m.mu.Lock()
		m.input.Close()
		m.input = nil
		m.mu.Unlock()
	}
}

// watch drops a client when its connection ends.
func (m *Monitor) watch(cl *client) {
	var ignored Request
	for {
		files, err := cl.c.receive(&ignored)
		closeAll(files)
		if err != nil {
			break
		}
	}
	m.mu.Lock()
	delete(m.clients, cl)
	m.mu.Unlock()
	cl.leave()
}

func (m *Monitor) accept() {
	for {
		c, err := m.ln.AcceptUnix()
		if err != nil {
			return
		}
		go func() {
			var req Request
			cn := &conn{c}
			files, err := cn.receive(&req)
			if err != nil {
				c.Close()
				return
			}
			if req.Exec != nil {
				closeAll(files)
				m.exec(cn, req.Exec)
				return
			}
			cl := m.add(cn, req, files)
			m.greet(cl, req)
			m.watch(cl)
		}()
	}
}

// exec starts a detached process and reaps it: as long as it is a zombie, the container's pid namespace, and with it the
// init, does not end (zap_pid_ns_processes), and the host's own init may take its time.
func (m *Monitor) exec(c *conn, request []byte) {
	defer c.c.Close()
	if m.o.Exec == nil {
		_ = c.send(Message{Event: Refused})
		return
	}
	m.execs.Lock()
	pid, err := m.o.Exec(request)
	m.execs.Unlock()
	if err != nil {
		_ = c.send(Message{Event: Failed, Code: m.o.Code(err), Error: err.Error()})
		return
	}
	_ = c.send(Message{Event: Started, PID: pid})
	c.c.Close()
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// wait reaps the init, and gets the rest of the output, for which no client is waited for. A process out of reach of the
// container's pid namespace may hold a pipe open for ever; after the end of the init nobody waits for that for long.
func (m *Monitor) wait() (exit int, killed bool) {
	var st syscall.WaitStatus
	_, err := syscall.Wait4(m.pid, &st, 0, nil)
	for err == syscall.EINTR {
		_, err = syscall.Wait4(m.pid, &st, 0, nil)
	}
	m.mu.Lock()
	m.ending = true
	for c := range m.clients {
		c.end()
	}
	m.mu.Unlock()
	done := make(chan struct{})
	go func() { m.copies.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
	}
	if m.log != nil {
		_ = m.log.Close()
	}
	if err != nil { // its status is lost: no success
		return 255, false
	}
	if st.Signaled() {
		return 128 + int(st.Signal()), true
	}
	return st.ExitStatus(), false
}

// patience is how long a client of a container that was killed may leave its output unread; one that ended by itself may
// have written for a pager.
const patience = time.Second

// end gives the clients what they have not read yet, then the exit status.
func (m *Monitor) end(exit int, killed bool) {
	m.ln.Close()
	m.mu.Lock()
	clients := slices.Collect(maps.Keys(m.clients))
	m.mu.Unlock()
	var served sync.WaitGroup
	for _, c := range clients {
		if !c.stays {
			served.Go(func() { c.finish(exit, killed || m.o.Here) })
		}
	}
	served.Wait()
	for _, c := range clients { // last, since this process ends with it
		if c.stays {
			c.finish(exit, killed)
		}
	}
}
