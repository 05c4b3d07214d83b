package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"vitro/internal/layer"
)

// Limits on what a hostile archive can cost.
const (
	maxEntries = 1 << 17
	maxLinks   = 8 // in a row
)

// entry is a file in the archive, or a link to another one.
type entry struct {
	off, size int64
	link      string // clean name
}

// archive is a plain tar with random access.
type archive struct {
	f       *os.File
	spooled bool
	entries map[string]entry // by clean name
}

// open indexes the tar in r. A regular file with a plain tar is used as it is; anything else is written to an unnamed
// file in dir first, which goes with the process.
func open(ctx context.Context, dir string, r io.Reader) (*archive, error) {
	a := &archive{entries: map[string]entry{}}
	if f, ok := r.(*os.File); ok {
		if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() && compression(f) == "" {
			a.f = f
		}
	}
	if a.f == nil {
		if err := a.spool(ctx, dir, r); err != nil {
			return nil, err
		}
	}
	if err := a.index(); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (a *archive) close() {
	if a.spooled {
		a.f.Close()
	}
}

func (a *archive) spool(ctx context.Context, dir string, r io.Reader) error {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		return fmt.Errorf("temporary file in %s: %w", dir, err)
	}
	dec, err := layer.Decompress(r, "")
	if err == nil {
		_, err = io.Copy(f, &ctxReader{ctx, dec})
		dec.Close()
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("archive: %w", err)
	}
	a.f, a.spooled = f, true
	return nil
}

type ctxReader struct {
	ctx context.Context // of the one copy
	r   io.Reader
}

func (c *ctxReader) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}

// index reads all headers. archive/tar does not read ahead, so after Next the file offset is where the content is.
func (a *archive) index() error {
	size, err := a.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	sec := io.NewSectionReader(a.f, 0, size)
	tr := tar.NewReader(sec)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("archive: %w", err)
		}
		if n == maxEntries {
			return fmt.Errorf("archive: more than %d entries", maxEntries)
		}
		name := clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			off, err := sec.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.entries[name] = entry{off: off, size: h.Size}
		case tar.TypeSymlink: // older Docker writes a layer once and links to it
			a.entries[name] = entry{link: clean(path.Join(path.Dir("/"+name), h.Linkname))}
		case tar.TypeLink:
			a.entries[name] = entry{link: clean(h.Linkname)}
		}
	}
}

// clean makes names comparable; they are only keys of a map.
func clean(name string) string { return path.Clean("/" + name)[1:] }

func (a *archive) has(name string) bool {
	_, ok := a.entries[clean(name)]
	return ok
}

// section is the content of an entry.
func (a *archive) section(name string) (*io.SectionReader, error) {
	key := clean(name)
	for range maxLinks {
		e, ok := a.entries[key]
		if !ok {
			return nil, fmt.Errorf("%q is not in the archive", name)
		}
		if e.link == "" {
			return io.NewSectionReader(a.f, e.off, e.size), nil
		}
		key = e.link
	}
	return nil, fmt.Errorf("%q: too many links", name)
}

func (a *archive) read(name string, limit int64) ([]byte, error) {
	sec, err := a.section(name)
	if err != nil {
		return nil, err
	}
	if sec.Size() > limit {
		return nil, fmt.Errorf("%s: %d bytes, more than %d", name, sec.Size(), limit)
	}
	b := make([]byte, sec.Size())
	if _, err := io.ReadFull(sec, b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

func blobName(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }

// blob reads a small blob and checks its digest.
func (a *archive) blob(d v1.Descriptor, limit int64) ([]byte, error) {
	b, err := a.read(blobName(d.Digest), limit)
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(b); got != d.Digest {
		return nil, fmt.Errorf("%s: content has digest %s", blobName(d.Digest), got)
	}
	return b, nil
}

// compression looks at the first bytes.
func compression(r io.ReaderAt) string {
	var b [4]byte
	_, _ = r.ReadAt(b[:], 0)
	switch {
	case bytes.HasPrefix(b[:], []byte{0x1f, 0x8b}):
		return "gzip"
	case bytes.Equal(b[:], []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zstd"
	}
	return ""
}
