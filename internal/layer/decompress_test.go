package layer_test

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"vitro/internal/layer"
)

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func zstded(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

func TestDecompress(t *testing.T) {
	for _, size := range []int{0, 1, 511, 128 << 10, 1 << 20, 1<<20 + 7} {
		data := bytes.Repeat([]byte("layer "), size/6+1)[:size]
		half := size / 2
		for name, blob := range map[string][]byte{
			"plain":           data,
			"gzip":            gzipped(data),
			"gzip, two":       append(gzipped(data[:half]), gzipped(data[half:])...),
			"zstd":            zstded(data),
			"zstd, two":       append(zstded(data[:half]), zstded(data[half:])...),
			"zstd, skippable": append([]byte("\x5e\x2a\x4d\x18\x02\x00\x00\x00xx"), zstded(data)...),
		} {
			for _, mediaType := range []string{"", "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip", "x/y"} {
				r, err := layer.Decompress(iotest.OneByteReader(bytes.NewReader(blob)), mediaType)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%s, %d bytes: got %d, %v", name, size, len(got), err)
				}
				r.Close()
			}
		}
	}
}

func TestDecompressErrors(t *testing.T) {
	blob := gzipped([]byte(strings.Repeat("layer", 1000)))
	for _, tt := range []struct {
		blob, mediaType, want string
	}{
		{"BZh91AY&SY", "", "layer: bzip2 compression is not supported"},
		{"\xfd7zXZ\x00", "", "layer: xz compression is not supported"},
		{"", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", `layer: media type "application/vnd.oci.image.layer.v1.tar+gzip+encrypted": encrypted layers are not supported`},
		{"\x1f\x8b\x00", "", "layer: gzip: unexpected EOF"},
		{string(blob[:len(blob)-1]), "", "unexpected EOF"},
		{string(blob[:len(blob)-8]) + "12345678", "", "gzip: invalid checksum"},
	} {
		r, err := layer.Decompress(strings.NewReader(tt.blob), tt.mediaType)
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

// TestDecompressClose leaves no goroutine, read to the end or not.
func TestDecompressClose(t *testing.T) {
	before := runtime.NumGoroutine()
	blob := gzipped(make([]byte, 8<<20))
	for range 20 {
		r, err := layer.Decompress(bytes.NewReader(blob), "")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = r.Read(make([]byte, 10))
		r.Close()
		r.Close()
	}
	for runtime.NumGoroutine() > before {
		runtime.Gosched()
	}
}
