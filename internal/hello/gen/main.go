package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	_ "crypto/sha256" // go-digest looks it up by name
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	arch := flag.String("arch", runtime.GOARCH, "architecture of the image (GOARCH)")
	dir := flag.String("dir", "internal/hello/image", "output folder")
	flag.Parse()
	if err := generate(*arch, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func generate(arch, dir string) error {
	program, err := build(arch)
	if err != nil {
		return err
	}
	archive, err := image(arch, program)
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, "hello-*.tar"))
	if err != nil {
		return err
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "hello-"+arch+".tar"), archive, 0o644)
}

// build compiles cmd/hello without a build id or a path in it.
func build(arch string) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "hello")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "hello")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", out, "vitro/cmd/hello")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("go build vitro/cmd/hello: %w", err)
	}
	return os.ReadFile(out)
}

// An entry is one file of the layer; a name that ends in "/" is a folder.
type entry struct {
	name string
	mode int64
	data []byte
}

func layer(program []byte) []entry {
	return []entry{
		{"etc/", 0o755, nil},
		{"etc/group", 0o644, []byte("root:x:0:\nnobody:x:65534:\n")},
		{"etc/hostname", 0o644, nil},
		{"etc/hosts", 0o644, nil},
		{"etc/passwd", 0o644, []byte("root:x:0:0:root:/:/hello\nnobody:x:65534:65534:nobody:/:/hello\n")},
		{"etc/resolv.conf", 0o644, nil},
		{"hello", 0o755, program},
		{"tmp/", 0o1777, nil},
	}
}

// image makes the layout: blobs, index.json, oci-layout.
func image(arch string, program []byte) ([]byte, error) {
	plain, err := pack(layer(program))
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(plain); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}

	epoch := time.Unix(0, 0).UTC()
	layout := []entry{{"blobs/", 0o755, nil}, {"blobs/sha256/", 0o755, nil}}
	add := func(mediaType string, data []byte) v1.Descriptor {
		d := digest.FromBytes(data)
		layout = append(layout, entry{"blobs/sha256/" + d.Encoded(), 0o644, data})
		return v1.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
	}
	config := add(v1.MediaTypeImageConfig, encode(v1.Image{
		Created:  &epoch,
		Platform: v1.Platform{Architecture: arch, OS: "linux"},
		Config: v1.ImageConfig{
			Env:        []string{"PATH=/"},
			Entrypoint: []string{"/hello"},
			WorkingDir: "/",
			Labels:     map[string]string{v1.AnnotationTitle: "hello", v1.AnnotationDescription: "reports from the inside what a container is"},
		},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain)}},
		History: []v1.History{{Created: &epoch, CreatedBy: "vitro internal/hello/gen"}},
	}))
	manifest := add(v1.MediaTypeImageManifest, encode(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Config:    config,
		Layers:    []v1.Descriptor{add(v1.MediaTypeImageLayerGzip, packed.Bytes())},
	}))
	manifest.Platform = &v1.Platform{Architecture: arch, OS: "linux"}
	manifest.Annotations = map[string]string{v1.AnnotationRefName: "hello:latest"}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{manifest}}
	layout = append(layout,
		entry{v1.ImageIndexFile, 0o644, encode(index)},
		entry{v1.ImageLayoutFile, 0o644, encode(v1.ImageLayout{Version: v1.ImageLayoutVersion})})
	return pack(layout)
}

// encode cannot fail: the OCI types hold nothing that JSON does not have.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func pack(entries []entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.data)), Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if e.name[len(e.name)-1] == '/' {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
