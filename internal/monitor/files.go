package monitor

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Pipe is os.Pipe with ends that block: a container must not see O_NONBLOCK.
func Pipe() (r, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	return os.NewFile(uintptr(p[0]), "|0"), os.NewFile(uintptr(p[1]), "|1"), nil
}

// Terminal listens on a unix socket at path while start runs, and returns the terminal's master that came there.
func Terminal(path string, start func() error) (*os.File, error) {
	ln, err := listen("unix", path)
	if err != nil {
		return nil, err
	}
	defer os.Remove(path)
	defer ln.Close()
	type result struct {
		f   *os.File
		err error
	}
	got := make(chan result, 1)
	go func() {
		f, err := receiveFile(ln)
		got <- result{f, err}
	}()
	if err := start(); err != nil {
		ln.Close()
		if r := <-got; r.f != nil {
			r.f.Close()
		}
		return nil, err
	}
	r := <-got
	if r.err != nil {
		return nil, fmt.Errorf("console socket: %w", r.err)
	}
	return r.f, nil
}

// listen makes a unix socket; its removal is the caller's.
func listen(network, path string) (*net.UnixListener, error) {
	short, done, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	ln, err := net.ListenUnix(network, &net.UnixAddr{Name: short, Net: network})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	return ln, nil
}

// shortPath is a name for path that fits into a socket address (107 bytes, unix(7)) while done has not been called.
func shortPath(path string) (short string, done func(), err error) {
	if len(path) <= 107 {
		return path, func() {}, nil
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path)), func() { unix.Close(dir) }, nil
}

func receiveFile(ln *net.UnixListener) (*os.File, error) {
	c, err := ln.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	files, err := parseFiles(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		closeAll(files)
		return nil, errors.New("no terminal came")
	}
	return files[0], nil
}

// parseFiles makes files of the fds in a control message.
func parseFiles(oob []byte) (files []*os.File, err error) {
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for _, m := range cmsgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			closeAll(files)
			return nil, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "attached"))
		}
	}
	return files, nil
}

// fdOf is f.Fd without its side effect on the blocking mode.
func fdOf(f *os.File) (n int) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1
	}
	_ = raw.Control(func(fd uintptr) { n = int(fd) })
	return n
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// Lend makes files this process's first three while f runs: a process that f starts gets them. Nothing else may use
// standard input, output or error meanwhile.
func Lend(files [3]*os.File, f func() error) (err error) {
	var own [3]int
	for i := range own {
		if own[i], err = unix.FcntlInt(uintptr(i), unix.F_DUPFD_CLOEXEC, 3); err != nil && err != unix.EBADF {
			return os.NewSyscallError("dup", err)
		}
	}
	defer func() {
		for i, fd := range own {
			if fd < 0 {
				_ = unix.Close(i)
				continue
			}
			_ = unix.Dup3(fd, i, 0)
			_ = unix.Close(fd)
		}
	}()
	for i, file := range files {
		if err := unix.Dup3(fdOf(file), i, 0); err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	return f()
}
