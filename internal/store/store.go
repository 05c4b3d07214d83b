package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"vitro/internal/image"
)

// AnnotationSource holds repository@digest of the manifest or index that an image was pulled by.
const AnnotationSource = "io.vitro.image.source"

// ErrNotFound is wrapped by every error about a name, an ID or a blob that is not in the store.
var ErrNotFound = errors.New("no such image")

// Store is an image store. It holds no state but its path and may be used by many goroutines and processes at once.
type Store struct {
	root string
}

// Record describes an unpacked layer; it is layers/<hex>/layer.json.
type Record struct {
	ChainID digest.Digest `json:"chainID"`
	DiffID  digest.Digest `json:"diffID"`
	Parent  digest.Digest `json:"parent,omitempty"` // chain ID
	Size    int64         `json:"size"`             // bytes of file content
	Files   int64         `json:"files"`            // entries of the layer's tar
	Created time.Time     `json:"created"`
}

// Open opens the store in root and makes it when it is not there.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{root: root}
	if _, err := os.Stat(s.indexPath()); err == nil {
		return s, nil
	}
	for _, d := range []string{s.path("oci", "blobs", "sha256"), s.path("layers"), s.path("staging"), s.path("locks")} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	err = s.locked(func() error {
		layout := filepath.Join(s.root, "oci", v1.ImageLayoutFile)
		if err := writeFile(layout, []byte(`{"imageLayoutVersion":"`+v1.ImageLayoutVersion+`"}`)); err != nil {
			return err
		}
		if _, err := os.Stat(s.indexPath()); err == nil {
			return nil
		}
		return s.writeIndex(nil)
	})
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", root, err)
	}
	return s, nil
}

// Root is the folder given to Open.
func (s *Store) Root() string { return s.root }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

func (s *Store) indexPath() string { return s.path("oci", v1.ImageIndexFile) }

// BlobPath is where a blob of the layout is, whether it is there or not.
func (s *Store) BlobPath(d digest.Digest) string {
	return s.path("oci", "blobs", "sha256", d.Encoded())
}

// LayerPath is the lowerdir of a chain ID, whether it is there or not.
func (s *Store) LayerPath(chain digest.Digest) string {
	return s.path("layers", chain.Encoded(), "fs")
}

func (s *Store) layerDir(chain digest.Digest) string { return s.path("layers", chain.Encoded()) }

// LayerRecord reads the record of an unpacked layer.
func (s *Store) LayerRecord(chain digest.Digest) (Record, error) {
	var r Record
	b, err := os.ReadFile(filepath.Join(s.layerDir(chain), "layer.json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("layer %s: %w", short(chain), notFound(err))
	}
	return r, nil
}

// readBlob reads a small blob and checks its digest.
func (s *Store) readBlob(d digest.Digest) ([]byte, error) {
	if err := image.CheckDigest(d); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(s.BlobPath(d))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", short(d), notFound(err))
	}
	if got := digest.FromBytes(b); got != d {
		return nil, fmt.Errorf("blob %s: content has digest %s", d, got)
	}
	return b, nil
}

// readIndex needs no lock: the file is only ever replaced as a whole.
func (s *Store) readIndex() ([]v1.Descriptor, error) {
	b, err := os.ReadFile(s.indexPath())
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	ix, err := image.DecodeIndex(b, v1.MediaTypeImageIndex)
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	return ix.Manifests, nil
}

// writeIndex replaces index.json; the caller holds the store lock.
func (s *Store) writeIndex(entries []v1.Descriptor) error {
	if entries == nil {
		entries = []v1.Descriptor{}
	}
	b, err := json.MarshalIndent(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: entries,
	}, "", " ")
	if err != nil {
		return fmt.Errorf("index.json: %w", err)
	}
	return writeFile(s.indexPath(), append(b, '\n'))
}

// edit runs f on the index under the store lock and writes what it returns.
func (s *Store) edit(f func([]v1.Descriptor) ([]v1.Descriptor, error)) error {
	return s.locked(func() error {
		old, err := s.readIndex()
		if err != nil {
			return err
		}
		entries, err := f(slices.Clone(old))
		if err != nil {
			return err
		}
		return s.writeIndex(entries)
	})
}

// name and source read an entry's annotations.
func name(d v1.Descriptor) string   { return d.Annotations[v1.AnnotationRefName] }
func source(d v1.Descriptor) string { return d.Annotations[AnnotationSource] }

// newEntry is d with the given annotations only; empty ones are left out.
func newEntry(d v1.Descriptor, name, source string) v1.Descriptor {
	d.Annotations = map[string]string{}
	if name != "" {
		d.Annotations[v1.AnnotationRefName] = name
	}
	if source != "" {
		d.Annotations[AnnotationSource] = source
	}
	return d
}

// addEntry gives d a name (which moves from the image that had it) and a source. An image that loses its last name stays
// as an entry without one.
func addEntry(entries []v1.Descriptor, d v1.Descriptor) []v1.Descriptor {
	var out []v1.Descriptor
	for _, e := range entries {
		switch {
		case name(d) != "" && name(e) == name(d):
			if e.Digest == d.Digest && source(d) == "" { // a plain tag keeps what is known of the origin
				d = newEntry(d, name(d), source(e))
			}
			e = newEntry(e, "", source(e))
		case e.Digest == d.Digest && name(e) == "" && name(d) == "" && source(e) == source(d):
			continue
		}
		out = append(out, e)
	}
	return prune(append(out, d))
}

// prune drops entries without a name that say nothing new: another entry has the image and the same source, or they
// have no source either.
func prune(entries []v1.Descriptor) []v1.Descriptor {
	return slices.DeleteFunc(slices.Clone(entries), func(e v1.Descriptor) bool {
		if name(e) != "" {
			return false
		}
		return slices.ContainsFunc(entries, func(o v1.Descriptor) bool {
			same := o.Digest == e.Digest
			named := name(o) != "" || (source(e) == "" && source(o) != "")
			return same && named && (source(e) == "" || source(o) == source(e))
		})
	})
}

// writeFile writes a file so that it is there completely or not at all, also after a power cut.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// short is what users see of a digest.
func short(d digest.Digest) string {
	if e := d.Encoded(); len(e) >= 12 {
		return e[:12]
	}
	return d.String()
}
