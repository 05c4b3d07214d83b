package hello

import (
	"archive/tar"
	"io"
	"testing"
)

// Without `make` the error names the way out; with it the archive is a tar of its stated size.
func TestImage(t *testing.T) {
	r, size, err := Image()
	if err != nil {
		if want := "embedded image hello: not part of this build (build with `make build`)"; err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
		return
	}
	h, err := tar.NewReader(r).Next()
	if err != nil || h.Name != "blobs/" {
		t.Fatalf("not an image layout: %v %v", h, err)
	}
	if n, _ := io.Copy(io.Discard, r); n+512 > size || n == 0 {
		t.Errorf("%d bytes behind the first header, size is %d", n, size)
	}
}
