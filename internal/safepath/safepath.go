package safepath

import (
	"vitro/internal/sys"

	"golang.org/x/sys/unix"
)

// Tries bounds the repeats on EAGAIN (runc a41366e74).
const Tries = 128

// Open opens path below root, a folder's fd. path may be absolute: the root is its "/". The fd is close-on-exec; the error is an errno.
func Open(root int, path string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for n := 0; ; n++ {
		fd, err := unix.Openat2(root, path, &how)
		if err == unix.EINTR || err == unix.EAGAIN && n < Tries {
			continue
		}
		return fd, err
	}
}

// ReadFile reads a regular file of at most limit bytes: EINVAL for a FIFO, a device or a folder (none of them is waited for), EFBIG for a larger one.
func ReadFile(root int, path string, limit int64) ([]byte, error) {
	fd, err := Open(root, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EINVAL
	}
	if st.Size > limit {
		return nil, unix.EFBIG
	}
	return sys.ReadFD(fd)
}
