package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func unpack(t *testing.T, r io.Reader) (files map[string]string, names string) {
	t.Helper()
	files = map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files, names
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(b)
		names += h.FileInfo().Mode().String() + " " + h.Name + "\n"
	}
}

func get(t *testing.T, files map[string]string, d v1.Descriptor, v any) string {
	t.Helper()
	b, ok := files["blobs/sha256/"+d.Digest.Encoded()]
	if !ok || digest.FromString(b) != d.Digest || int64(len(b)) != d.Size {
		t.Fatalf("blob %s: %d bytes, not the one that its descriptor says", d.Digest, len(b))
	}
	if v != nil {
		if err := json.Unmarshal([]byte(b), v); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestImage(t *testing.T) {
	archive, err := image("amd64", []byte("program"))
	if err != nil {
		t.Fatal(err)
	}
	files, _ := unpack(t, bytes.NewReader(archive))
	var index v1.Index
	if err := json.Unmarshal([]byte(files[v1.ImageIndexFile]), &index); err != nil || files[v1.ImageLayoutFile] != `{"imageLayoutVersion":"1.0.0"}` {
		t.Fatalf("not an image layout: %v, %q", err, files[v1.ImageLayoutFile])
	}
	var manifest v1.Manifest
	var config v1.Image
	get(t, files, index.Manifests[0], &manifest)
	get(t, files, manifest.Config, &config)
	z, err := gzip.NewReader(strings.NewReader(get(t, files, manifest.Layers[0], nil)))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil || digest.FromBytes(plain) != config.RootFS.DiffIDs[0] {
		t.Fatalf("diff ID does not fit the layer (%v)", err)
	}
	root, names := unpack(t, bytes.NewReader(plain))
	const want = `drwxr-xr-x etc/
-rw-r--r-- etc/group
-rw-r--r-- etc/hostname
-rw-r--r-- etc/hosts
-rw-r--r-- etc/passwd
-rw-r--r-- etc/resolv.conf
-rwxr-xr-x hello
dtrwxrwxrwx tmp/
`
	if names != want || root["hello"] != "program" {
		t.Errorf("layer:\n%swant:\n%s", names, want)
	}
}

// The archive is the same wherever and whenever it is built, and the program stays small.
func TestGenerate(t *testing.T) {
	var got [2][]byte
	for i := range got {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "hello-mips.tar"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := generate(runtime.GOARCH, dir); err != nil {
			t.Fatal(err)
		}
		names, err := filepath.Glob(dir + "/*")
		if err != nil || len(names) != 1 || filepath.Base(names[0]) != "hello-"+runtime.GOARCH+".tar" {
			t.Fatalf("left in the output folder: %v %v", names, err)
		}
		if got[i], err = os.ReadFile(names[0]); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got[0], got[1]) {
		t.Error("two builds differ")
	}
	if len(got[0]) > 1<<20 {
		t.Errorf("the image is %d bytes: budget 1 MiB", len(got[0]))
	}
}
