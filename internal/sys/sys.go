package sys

import (
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call makes a system call, again on EINTR (Go's own preemption signals).
func Call(nr uintptr, a [6]uintptr) (uintptr, syscall.Errno) {
	for {
		r, _, e := syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if e != syscall.EINTR {
			return r, e
		}
	}
}

// MemfdSealed makes an executable memfd with the given content that nobody can change (memfd_create(2), F_ADD_SEALS).
// F_SEAL_FUTURE_WRITE is left out: with F_SEAL_WRITE it adds nothing and some kernels refuse the pair (runc #4640).
func MemfdSealed(name string, content []byte) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if err == unix.EINVAL { // before 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return -1, err
	}
	if err := WriteAll(fd, content); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if err := unix.Fchmod(fd, 0o555); err != nil {
		unix.Close(fd)
		return -1, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// TmpfileExec is MemfdSealed's fallback: an unnamed file in dir, re-opened read-only so that it can be executed.
func TmpfileExec(dir string, content []byte) (int, error) {
	w, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o555)
	if err != nil {
		return -1, err
	}
	defer unix.Close(w)
	if err := WriteAll(w, content); err != nil {
		return -1, err
	}
	return unix.Open("/proc/self/fd/"+Itoa(w), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// WriteAll writes the whole of p.
func WriteAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// Read reads once, again on EINTR.
func Read(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// ReadFile reads a file of any size with as few calls as possible; files in /proc and /sys have no size.
func ReadFile(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return ReadFD(fd)
}

// WriteFile writes text to an existing file in one call, as files in /proc want it.
func WriteFile(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

// ReadFD reads fd to its end.
func ReadFD(fd int) ([]byte, error) {
	p := make([]byte, 0, 4096)
	for {
		if len(p) == cap(p) {
			p = append(p, 0)[:len(p)]
		}
		n, err := Read(fd, p[len(p):cap(p)])
		if err != nil || n == 0 {
			return p, err
		}
		p = p[:len(p)+n]
	}
}

// Itoa is strconv.Itoa without its import.
func Itoa(n int) string {
	if n < 0 {
		return "-" + Utoa(uint64(-n))
	}
	return Utoa(uint64(n))
}

// Utoa formats n in decimal.
func Utoa(n uint64) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

// AddrOf is the address of p's first byte; the caller keeps p alive over the call.
func AddrOf(p []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(p))) }

// LookPath finds a program in the absolute folders of the caller's $PATH; "" for none.
func LookPath(name string) string {
	path, _ := syscall.Getenv("PATH")
	for dir := range strings.SplitSeq(path, ":") {
		if strings.HasPrefix(dir, "/") && unix.Access(dir+"/"+name, unix.X_OK) == nil {
			return dir + "/" + name
		}
	}
	return ""
}
