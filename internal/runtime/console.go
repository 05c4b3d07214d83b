package runtime

import (
	"os"
	"os/signal"
	"path/filepath"

	"vitro/internal/sys"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// console is a process's terminal as seen from outside. With a console socket the stub sends the pty's master to whoever
// listens there, and this process has no more to do with it. In the foreground a socket pair takes its place: this process
// receives the master and copies.
type console struct {
	near, far int // socket pair, or far alone: the connected console socket
	master    int
	tty       int // the caller's terminal, -1 for none
	old       *unix.Termios
	winch     chan os.Signal
	out       chan struct{} // closed when everything that was printed is out
}

var noConsole = console{near: -1, far: -1, master: -1, tty: -1}

// checkTerminal refuses the two combinations that cannot work, in runc's words.
func checkTerminal(terminal, detach bool, socket string) error {
	switch {
	case terminal && detach && socket == "":
		return text("cannot allocate tty if vitrun will detach without setting console socket")
	case socket != "" && !(terminal && detach):
		return text("cannot use console socket if vitrun will not detach or allocate tty")
	}
	return nil
}

// open makes what the stub sends the master to.
func (c *console) open(terminal bool, socket string) error {
	switch {
	case socket != "":
		fd, err := connectUnix(socket)
		c.far = fd
		return wrap("--console-socket ("+socket+")", err)
	case !terminal:
		return nil
	}
	if err := c.hostTTY(); err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return wrap("socketpair", err)
	}
	c.near, c.far = pair[0], pair[1]
	return nil
}

// hostTTY finds the caller's terminal: the first of stderr, stdout and stdin that is one, else /dev/tty.
func (c *console) hostTTY() error {
	for _, fd := range []int{2, 1, 0} {
		if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			c.tty, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
			return wrap("dup", err)
		}
	}
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC, 0)
	c.tty = fd
	return wrap("open /dev/tty", err)
}

// connectUnix connects to a unix socket, of any length of path.
func connectUnix(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if len(path) > 107 { // sun_path
		dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			unix.Close(fd)
			return -1, err
		}
		defer unix.Close(dir)
		path = "/proc/self/fd/" + sys.Itoa(dir) + "/" + filepath.Base(path)
	}
	if err := again(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) }); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// size is the caller's terminal's, for the new one to start with.
func (c *console) size() *unix.Winsize {
	if c.tty < 0 {
		return nil
	}
	ws, err := unix.IoctlGetWinsize(c.tty, unix.TIOCGWINSZ)
	if err != nil || ws.Row == 0 && ws.Col == 0 {
		return nil
	}
	return ws
}

// initialSize makes the new terminal start with the caller's size, unless the config has one.
func (c *console) initialSize(p *specs.Process) {
	if ws := c.size(); ws != nil && p.ConsoleSize == nil {
		p.ConsoleSize = &specs.Box{Height: uint(ws.Row), Width: uint(ws.Col)}
	}
}

func (c *console) closeFar() { closeFD(&c.far) }

// receive takes the master that the stub has sent.
func (c *console) receive() error {
	if c.near < 0 {
		return nil
	}
	var data [4096]byte
	oob := make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	err := again(func() (err error) {
		n, oobn, _, _, err = unix.Recvmsg(c.near, data[:], oob, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	closeFD(&c.near)
	if err != nil {
		return wrap("receive the terminal", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) == 0 {
		return text("receive the terminal: the stub sent none (" + sys.Itoa(n) + " bytes)")
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return text("receive the terminal: not one file")
	}
	c.master = fds[0]
	return nil
}

// serve makes the caller's terminal raw and copies between it and the master until drain.
func (c *console) serve(pidfd int) error {
	if c.master < 0 {
		return nil
	}
	if t, err := unix.IoctlGetTermios(c.master, unix.TCGETS); err == nil {
		t.Oflag &^= unix.ONLCR // the caller's terminal does that
		_ = unix.IoctlSetTermios(c.master, unix.TCSETS, t)
	}
	c.resize()
	if err := c.raw(); err != nil {
		return wrap("terminal", err)
	}
	c.winch = make(chan os.Signal, 1)
	signal.Notify(c.winch, unix.SIGWINCH)
	go func() {
		for range c.winch {
			c.resize()
		}
	}()
	c.out = make(chan struct{})
	go copyIn(c.master)
	go func() {
		copyOut(c.master, pidfd)
		close(c.out)
	}()
	return nil
}

// resize gives the master the size of the caller's terminal.
func (c *console) resize() {
	if ws := c.size(); ws != nil {
		_ = unix.IoctlSetWinsize(c.master, unix.TIOCSWINSZ, ws)
	}
}

// raw is cfmakeraw(3), with output processing left on: the container's lines end in \n.
func (c *console) raw() error {
	t, err := unix.IoctlGetTermios(c.tty, unix.TCGETS)
	if err != nil {
		return err
	}
	old := *t
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag &^= unix.CSIZE | unix.PARENB
	t.Cflag |= unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(c.tty, unix.TCSETS, t); err != nil {
		return err
	}
	c.old = &old
	return nil
}

// copyIn sends stdin to the master until one of them ends.
func copyIn(master int) {
	b := make([]byte, 4096)
	for {
		n, err := sys.Read(0, b)
		if err != nil || n == 0 || sys.WriteAll(master, b[:n]) != nil {
			return
		}
	}
}

// copyOut sends the master to stdout until EIO: nobody has the terminal open; or until the process is dead and nothing is left.
func copyOut(master, pidfd int) {
	b := make([]byte, 32<<10)
	p := []unix.PollFd{{Fd: int32(master), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
	ok := true // stdout takes it; else it is thrown away, so that the container is not held up
	for {
		if _, err := unix.Poll(p, -1); err != nil && err != unix.EINTR {
			return
		}
		if p[0].Revents == 0 {
			if p[1].Revents != 0 {
				return
			}
			continue
		}
		n, err := sys.Read(master, b)
		if err != nil || n == 0 {
			return
		}
		ok = ok && sys.WriteAll(1, b[:n]) == nil
	}
}

// drain waits for the last output and gives the caller its terminal back.
func (c *console) drain() {
	if c.out != nil {
		<-c.out
		c.out = nil
	}
	c.restore()
}

func (c *console) restore() {
	if c.old != nil {
		_ = unix.IoctlSetTermios(c.tty, unix.TCSETS, c.old)
		c.old = nil
	}
	if c.winch != nil {
		signal.Stop(c.winch)
		close(c.winch)
		c.winch = nil
	}
}

// close lets go of all, on every path.
func (c *console) close() {
	c.restore()
	for _, fd := range []*int{&c.near, &c.far, &c.master, &c.tty} {
		closeFD(fd)
	}
}
