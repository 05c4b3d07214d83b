package spec

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"vitro/internal/spec/jsonx"
)

//go:generate go test -run ^TestGenerated$ . -update

// Warning is something in a config that was read, or skipped, against the
// writer's likely intent: an unknown field, a repeated or wrongly cased one.
type Warning = jsonx.Warning

// Load reads BUNDLE/config.json.
func Load(bundle string) (*specs.Spec, []Warning, error) {
	path := "config.json"
	if bundle != "" {
		path = bundle + "/config.json"
	}
	b, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// runc's words: "no such file or directory" would make podman and moby exit with 127.
		return nil, nil, &fileError{"JSON specification file " + path + " not found", "", err}
	case err != nil:
		return nil, nil, &fileError{"read " + path, ": ", err}
	}
	s, warnings, err := Decode(b)
	if err != nil {
		return nil, warnings, &fileError{"config.json", ": ", err}
	}
	return s, warnings, nil
}

// Decode reads a config.json, whose bytes must not change afterwards.
func Decode(b []byte) (*specs.Spec, []Warning, error) {
	d := newDecoder(b)
	s := new(specs.Spec)
	d.spec(s)
	if err := d.End(); err != nil {
		return nil, d.Warnings, err
	}
	return s, d.Warnings, nil
}

// DecodeProcess reads a process object, as `exec --process FILE` has it.
func DecodeProcess(b []byte) (*specs.Process, []Warning, error) {
	d := newDecoder(b)
	p := new(specs.Process)
	d.process(p)
	if err := d.End(); err != nil {
		return nil, d.Warnings, err
	}
	return p, d.Warnings, nil
}

// DecodeResources reads linux.resources alone, as `update --resources FILE` has it.
func DecodeResources(b []byte) (*specs.LinuxResources, []Warning, error) {
	d := newDecoder(b)
	r := new(specs.LinuxResources)
	d.linuxResources(r)
	if err := d.End(); err != nil {
		return nil, d.Warnings, err
	}
	return r, d.Warnings, nil
}

// DecodeState reads a state, as hooks get it.
func DecodeState(b []byte) (*specs.State, []Warning, error) {
	d := newDecoder(b)
	s := new(specs.State)
	d.state(s)
	if err := d.End(); err != nil {
		return nil, d.Warnings, err
	}
	return s, d.Warnings, nil
}

type fileError struct {
	what, colon string
	err         error
}

func (e *fileError) Error() string {
	if e.colon == "" {
		return e.what
	}
	return e.what + e.colon + e.err.Error()
}

func (e *fileError) Unwrap() error { return e.err }

// readFile is os.ReadFile without the runtime's poller, whose first use makes an epoll instance.
func readFile(path string) ([]byte, error) {
	fd, err := retry(func() (int, error) { return syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	size := 4096
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err == nil && st.Mode&syscall.S_IFMT == syscall.S_IFREG {
		size = int(min(st.Size, 64<<20)) + 1 // one more, so that the end shows without growing
	}
	b := make([]byte, 0, size)
	for {
		n, err := retry(func() (int, error) { return syscall.Read(fd, b[len(b):cap(b)]) })
		switch {
		case err != nil:
			return nil, err
		case n == 0:
			return b, nil
		}
		b = b[:len(b)+n]
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

func retry(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != syscall.EINTR {
			return n, err
		}
	}
}

// decoder is a scanner with a slab that short lists of strings are cut from.
// codec.go holds one method for each type of specs-go.
type decoder struct {
	jsonx.Scanner
	slab []string
}

func newDecoder(b []byte) *decoder {
	d := &decoder{slab: make([]string, 0, min(16+len(b)/64, 1024))}
	d.Reset(b)
	return d
}

// section reads a section of another platform: an object, whatever is in it.
func (d *decoder) section() {
	for range d.Object { // an unread value is skipped
	}
}

func (d *decoder) texts() []string {
	if d.Null() {
		return nil
	}
	base := len(d.slab)
	for range d.Array {
		if len(d.slab) == cap(d.slab) {
			part := d.slab[base:]
			d.slab = append(make([]string, 0, max(64, 2*len(part))), part...)
			base = 0
		}
		d.slab = append(d.slab, d.String())
	}
	end := len(d.slab)
	if base == end {
		return []string{}
	}
	return d.slab[base:end:end]
}

func words[T ~string](d *decoder) []T {
	if d.Null() {
		return nil
	}
	out := []T{}
	for range d.Array {
		out = append(out, T(d.String()))
	}
	return out
}

func (d *decoder) numbers() []uint32 {
	if d.Null() {
		return nil
	}
	out := []uint32{}
	for range d.Array {
		out = append(out, uint32(d.Uint(32)))
	}
	return out
}

func list[T any](d *decoder, read func(*decoder, *T)) []T {
	if d.Null() {
		return nil
	}
	out := []T{}
	for range d.Array {
		if len(out) == cap(out) {
			out = append(make([]T, 0, max(8, 2*len(out))), out...)
		}
		out = out[:len(out)+1]
		read(d, &out[len(out)-1])
	}
	return out
}

func (d *decoder) dict() map[string]string {
	if d.Null() {
		return nil
	}
	out := map[string]string{}
	for key := range d.Object {
		if _, ok := out[key]; ok {
			d.Once(1, 1)
		}
		out[key] = d.String()
	}
	return out
}

func table[T any](d *decoder, read func(*decoder, *T)) map[string]T {
	if d.Null() {
		return nil
	}
	out := map[string]T{}
	for key := range d.Object {
		if _, ok := out[key]; ok {
			d.Once(1, 1)
		}
		var v T
		read(d, &v)
		out[key] = v
	}
	return out
}
