package layer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds what a zstd frame makes us allocate, in bytes. It is the
// window of `zstd --ultra --long=27`, the most that decoders take unasked.
const maxWindow = 128 << 20

// Decompress returns the tar stream of a layer blob. The first bytes decide
// (gzip, zstd or plain), since archives of `docker save` name no media type and
// registries serve wrong ones; mediaType only serves to refuse what cannot be
// read, such as encrypted layers. Reading runs ahead in a goroutine that ends
// at EOF, at an error or after Close; Close does not wait for a Read of r.
func Decompress(r io.Reader, mediaType string) (io.ReadCloser, error) {
	if strings.HasSuffix(mediaType, "+encrypted") {
		return nil, fmt.Errorf("layer: media type %q: encrypted layers are not supported", mediaType)
	}
	br := bufio.NewReaderSize(r, 64<<10)
	magic, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("layer: read blob: %w", err)
	}
	switch {
	case bytes.HasPrefix(magic, []byte("\x1f\x8b")):
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("layer: gzip: %w", err)
		}
		return readAhead(zr, func() { _ = zr.Close() }), nil
	case isZstd(magic):
		zr, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("layer: zstd: %w", err)
		}
		return readAhead(zr, zr.Close), nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return nil, errors.New("layer: bzip2 compression is not supported")
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		return nil, errors.New("layer: xz compression is not supported")
	}
	return io.NopCloser(br), nil
}

// isZstd tells a zstd frame, or the skippable frame that a seekable one may
// begin with (RFC 8878, 3.1).
func isZstd(magic []byte) bool {
	return bytes.HasPrefix(magic, []byte("\x28\xb5\x2f\xfd")) ||
		len(magic) >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte("\x2a\x4d\x18"))
}

// block is a piece of the stream and the error that came after it.
type block struct {
	b   []byte
	err error
}

// aheadReader reads a stream in a goroutine: decompression and the writing of
// files then use two cores.
type aheadReader struct {
	full chan block
	free chan []byte
	stop chan struct{}
	once sync.Once
	cur  block
	rest []byte
}

func readAhead(r io.Reader, end func()) io.ReadCloser {
	const blocks, size = 4, 128 << 10
	a := &aheadReader{full: make(chan block, blocks), free: make(chan []byte, blocks), stop: make(chan struct{})}
	for range blocks {
		a.free <- nil
	}
	go func() {
		defer end()
		for {
			var b []byte
			select {
			case b = <-a.free:
			case <-a.stop:
				return
			}
			if b == nil {
				b = make([]byte, size)
			}
			n, err := 0, error(nil)
			for n < len(b) && err == nil {
				var m int
				m, err = r.Read(b[n:])
				n += m
			}
			a.full <- block{b[:n], err} // never blocks: as many slots as blocks
			if err != nil {
				return
			}
		}
	}()
	return a
}

func (a *aheadReader) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if a.cur.b != nil {
			a.free <- a.cur.b[:cap(a.cur.b)]
			a.cur = block{}
		}
		select {
		case a.cur = <-a.full:
			a.rest = a.cur.b
		case <-a.stop:
			return 0, errors.New("layer: read after close")
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (a *aheadReader) Close() error {
	a.once.Do(func() { close(a.stop) })
	return nil
}
