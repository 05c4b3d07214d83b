package store

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

var errNeedsParents = errors.New("needs parents")

type applyStats struct{ Bytes, Files int64 }

func applyLayer(_ context.Context, r io.Reader, dir string, parents []string) (st applyStats, err error) {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return st, nil
		}
		if err != nil {
			return st, err
		}
		st.Files++
		p := filepath.Join(dir, filepath.Clean("/"+h.Name))
		os.MkdirAll(filepath.Dir(p), 0o755)
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(p, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, p)
		case tar.TypeLink:
			t := filepath.Join(dir, filepath.Clean("/"+h.Linkname))
			if !exists(t) && parents == nil {
				return st, errNeedsParents
			}
			err = os.Link(t, p)
		case tar.TypeReg:
			var f *os.File
			if f, err = os.Create(p); err == nil {
				var n int64
				n, err = io.Copy(f, tr)
				st.Bytes += n
				f.Close()
			}
		}
		if err != nil {
			return st, err
		}
	}
}

func decompress(r io.Reader, _ string) (io.ReadCloser, error) {
	br := bufio.NewReader(r)
	m, _ := br.Peek(4)
	if len(m) > 1 && m[0] == 0x1f {
		return gzip.NewReader(br)
	}
	if len(m) > 3 && m[0] == 0x28 {
		d, err := zstd.NewReader(br)
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(br), nil
}
