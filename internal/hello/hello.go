package hello

import (
	"bytes"
	"embed"
	"fmt"
	"io"
	"runtime"
)

// Name is the reference of the image in its index (org.opencontainers.image.ref.name) and on the command line.
const Name = "hello:latest"

//go:embed image
var files embed.FS

// Image returns the OCI archive (an image layout as an uncompressed tar) and its size in bytes. The error says how to
// build it, for a vitro that was compiled without `make`.
func Image() (r io.Reader, size int64, err error) {
	b, err := files.ReadFile("image/hello-" + runtime.GOARCH + ".tar")
	if err != nil {
		return nil, 0, fmt.Errorf("embedded image hello: not part of this build (build with `make build`)")
	}
	return bytes.NewReader(b), int64(len(b)), nil
}
