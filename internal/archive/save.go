package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"vitro/internal/image"
	"vitro/internal/store"
)

// Format is a kind of archive that Save writes.
type Format string

// The formats. A docker-archive is an OCI archive with a manifest.json beside the index, as Docker writes since 25:
// whoever knows one of them reads it.
const (
	Docker Format = "docker-archive"
	OCI    Format = "oci-archive"
)

// Saved is an image to save, with the names that it gets in the archive.
type Saved struct {
	Image store.Image
	Names []image.Reference // tagged
}

// Save writes images as a tar stream. Blobs are written once and as they are, entries are sorted and dated 1970, so the
// same images give the same bytes. All blobs are opened before the first byte is written: an image that is removed
// meanwhile is saved whole.
func Save(ctx context.Context, s *store.Store, w io.Writer, f Format, images []Saved) error {
	a := &saver{ctx: ctx, s: s, blobs: map[digest.Digest]*os.File{}}
	defer func() {
		for _, b := range a.blobs {
			b.Close()
		}
	}()
	for _, img := range images {
		if err := a.add(img); err != nil {
			return fmt.Errorf("save %s: %w", img.Image.ShortID(), err)
		}
	}
	if err := a.write(tar.NewWriter(w), f); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

// saver collects what goes into the archive.
type saver struct {
	ctx    context.Context // of the one Save
	s      *store.Store
	blobs  map[digest.Digest]*os.File
	index  []v1.Descriptor
	docker []saved
}

func (a *saver) add(img Saved) error {
	i := img.Image
	entry := saved{Config: blobName(i.ID), RepoTags: []string{}, Layers: []string{}}
	need := []digest.Digest{i.Manifest.Digest, i.ID}
	for _, l := range i.Layers {
		need = append(need, l.Digest)
		entry.Layers = append(entry.Layers, blobName(l.Digest))
	}
	for _, d := range need {
		if a.blobs[d] != nil {
			continue
		}
		f, err := os.Open(a.s.BlobPath(d))
		if err != nil {
			return err
		}
		a.blobs[d] = f
	}
	for _, n := range img.Names {
		d := i.Manifest
		d.Annotations = map[string]string{annotationName: n.String(), v1.AnnotationRefName: n.String()}
		a.index = append(a.index, d)
		entry.RepoTags = append(entry.RepoTags, n.Familiar())
	}
	if len(img.Names) == 0 {
		d := i.Manifest
		d.Annotations = nil
		a.index = append(a.index, d)
	}
	a.docker = append(a.docker, entry)
	return nil
}

// write writes the entries by name: blobs, index.json, manifest.json, oci-layout.
func (a *saver) write(tw *tar.Writer, f Format) error {
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
	}
	digests := make([]digest.Digest, 0, len(a.blobs))
	for d := range a.blobs {
		digests = append(digests, d)
	}
	slices.Sort(digests)
	for _, d := range digests {
		if err := a.blob(tw, d); err != nil {
			return fmt.Errorf("blob %s: %w", d, err)
		}
	}
	docs := []struct {
		name string
		v    any
	}{
		{v1.ImageIndexFile, v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: a.index}},
		{"manifest.json", a.docker},
		{v1.ImageLayoutFile, v1.ImageLayout{Version: v1.ImageLayoutVersion}},
	}
	for _, d := range docs {
		if d.name == "manifest.json" && f == OCI {
			continue
		}
		b, err := json.Marshal(d.v)
		if err != nil {
			return err
		}
		if err := header(tw, d.name, int64(len(b))); err != nil {
			return err
		}
		if _, err := tw.Write(b); err != nil {
			return err
		}
	}
	return tw.Close()
}

func header(tw *tar.Writer, name string, size int64) error {
	return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)})
}

func (a *saver) blob(tw *tar.Writer, d digest.Digest) error {
	f := a.blobs[d]
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := header(tw, blobName(d), fi.Size()); err != nil {
		return err
	}
	n, err := io.Copy(tw, &ctxReader{a.ctx, f})
	if err == nil && n != fi.Size() {
		err = io.ErrUnexpectedEOF
	}
	return err
}
