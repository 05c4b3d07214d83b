package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"vitro/internal/image"
)

// AddOptions describe an image to make.
type AddOptions struct {
	Base   *Image            // its layers come first; nil for none
	Config image.Config      // without the new layer, which Add appends to rootfs.diff_ids
	Names  []image.Reference // tagged
	// Layer writes the tar stream of the new layer; nil adds none. If it returns false, the stream is thrown away: the
	// image gets no layer, and its last history entry says so.
	Layer func(w io.Writer) (bool, error)
}

// Add makes an image out of another and one more layer. The blob is compressed in one fixed way, so that the same tree
// and the same config give the same digests.
func (s *Store) Add(ctx context.Context, o AddOptions) (Image, error) {
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Layers: []v1.Descriptor{}}
	c := o.Config
	c.RootFS = v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	blobs := fileSource{}
	if o.Base != nil {
		m.Layers = append(m.Layers, o.Base.Layers...)
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, o.Base.Config.RootFS.DiffIDs...)
	}
	if o.Layer != nil {
		f, err := os.OpenFile(s.root, os.O_RDWR|unix.O_TMPFILE, 0o600)
		if err != nil {
			return Image{}, fmt.Errorf("temporary file in %s: %w", s.root, err)
		}
		defer f.Close()
		d, diffID, err := writeLayer(f, o.Layer)
		switch {
		case err != nil:
			return Image{}, err
		case diffID != "":
			m.Layers, c.RootFS.DiffIDs = append(m.Layers, d), append(c.RootFS.DiffIDs, diffID)
			blobs[d.Digest] = f
		case len(c.History) > 0:
			c.History[len(c.History)-1].EmptyLayer = true
		}
	}
	config, err := json.Marshal(c)
	if err != nil {
		return Image{}, err
	}
	m.Config = v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	manifest, err := json.Marshal(m)
	if err != nil {
		return Image{}, err
	}
	return s.Import(ctx, ImportOptions{Manifest: manifest, MediaType: m.MediaType, Config: config, Names: o.Names, Blobs: blobs})
}

// writeLayer compresses what f writes; the diff ID is empty if that was nothing.
func writeLayer(to *os.File, f func(io.Writer) (bool, error)) (d v1.Descriptor, diffID digest.Digest, err error) {
	blob, diff := sha256.New(), sha256.New()
	zw, err := gzip.NewWriterLevel(io.MultiWriter(to, blob), gzip.DefaultCompression) // no name, no time
	if err != nil {
		return d, "", err
	}
	changed, err := f(io.MultiWriter(zw, diff))
	if err == nil {
		err = zw.Close()
	}
	if err != nil || !changed {
		return d, "", err
	}
	size, err := to.Seek(0, io.SeekCurrent)
	d = v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: digest.NewDigest(digest.SHA256, blob), Size: size}
	return d, digest.NewDigest(digest.SHA256, diff), err
}

// fileSource are blobs in open files.
type fileSource map[digest.Digest]*os.File

func (s fileSource) Fetch(_ context.Context, d v1.Descriptor, _ func(Event)) (io.ReadCloser, error) {
	f := s[d.Digest]
	if f == nil {
		return nil, errors.New("gone from the store")
	}
	return io.NopCloser(io.NewSectionReader(f, 0, d.Size)), nil
}

// AddSource notes that a named image is in a repository under a digest: it has been pushed there.
func (s *Store) AddSource(ref image.Reference, d digest.Digest) error {
	return s.edit(func(entries []v1.Descriptor) ([]v1.Descriptor, error) {
		e := findEntry(entries, ref.String())
		if e == nil {
			return nil, notFoundError(ref.String())
		}
		return addEntry(entries, newEntry(*e, name(*e), ref.Name()+"@"+d.String())), nil
	})
}

// Sources are the complete repository@digest names that an image was pulled by or pushed to.
func (i Image) Sources() []string { return i.sources }
