package store

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"vitro/internal/image"
)

// Image is an image in the store.
type Image struct {
	ID          digest.Digest // digest of the config, as in Docker
	Manifest    v1.Descriptor // of the manifest
	Layers      []v1.Descriptor
	Config      image.Config
	RepoTags    []string // familiar names: alpine:latest
	RepoDigests []string // alpine@sha256:…, of what was pulled
	Size        int64    // bytes of file content in all layers

	names   []string // complete names, as in the index
	sources []string
}

// ShortID is the first twelve digits of the ID.
func (i Image) ShortID() string { return short(i.ID) }

// load reads the image that an index entry points at.
func (s *Store) load(d v1.Descriptor) (Image, error) {
	fail := func(err error) (Image, error) {
		return Image{}, fmt.Errorf("image %s: %w", entryName(d), err)
	}
	b, err := s.readBlob(d.Digest)
	if err != nil {
		return fail(err)
	}
	m, err := image.DecodeManifest(b, d.MediaType)
	if err != nil {
		return fail(err)
	}
	if b, err = s.readBlob(m.Config.Digest); err != nil {
		return fail(err)
	}
	c, err := image.DecodeConfig(b)
	if err != nil {
		return fail(err)
	}
	if err := image.CheckPair(m, c); err != nil {
		return fail(err)
	}
	d.Annotations = nil
	return Image{ID: m.Config.Digest, Manifest: d, Layers: m.Layers, Config: c}, nil
}

func entryName(d v1.Descriptor) string {
	if n := name(d); n != "" {
		return n
	}
	if n := source(d); n != "" {
		return n
	}
	return d.Digest.String()
}

// addName adds an entry's name and source to an image.
func (i *Image) addName(d v1.Descriptor) {
	if n := name(d); n != "" {
		i.names = append(i.names, n)
		i.RepoTags = append(i.RepoTags, familiar(n))
	}
	if src := source(d); src != "" && !slices.Contains(i.sources, src) {
		i.sources = append(i.sources, src)
		i.RepoDigests = append(i.RepoDigests, familiar(src))
	}
}

func familiar(s string) string {
	r, err := image.Parse(s)
	if err != nil {
		return s
	}
	return r.Familiar()
}

// Images returns all images, one for each ID, in the order of the index. An image that is broken, or goes while this
// runs, is left out: Check names it.
func (s *Store) Images() ([]Image, error) {
	entries, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	return s.images(entries)
}

func (s *Store) images(entries []v1.Descriptor) ([]Image, error) {
	var out []Image
	byManifest := map[digest.Digest]int{}
	for _, e := range entries {
		at, ok := byManifest[e.Digest]
		if !ok {
			img, err := s.load(e)
			if err != nil {
				continue
			}
			at = slices.IndexFunc(out, func(o Image) bool { return o.ID == img.ID })
			if at < 0 {
				at = len(out)
				out = append(out, img)
			}
			byManifest[e.Digest] = at
		}
		out[at].addName(e)
	}
	for i := range out {
		for _, c := range out[i].ChainIDs() {
			if r, err := s.LayerRecord(c); err == nil {
				out[i].Size += r.Size
			}
		}
	}
	return out, nil
}

// ChainIDs returns the chain ID of each layer, bottom first.
func (i Image) ChainIDs() []digest.Digest { return image.ChainIDs(i.Config.RootFS.DiffIDs) }

// Layers returns the unpacked layers of an image, top first: overlayfs' order of lowerdirs.
func (s *Store) Layers(i Image) []string {
	var dirs []string
	for _, c := range slices.Backward(i.ChainIDs()) {
		dirs = append(dirs, s.LayerPath(c))
	}
	return dirs
}

// Resolve finds an image by name, by repository@digest, or by ID or a prefix of it, in this order, as Docker does. It takes
// no lock: what it looked for may have been removed or replaced meanwhile, even twice, so a failure counts when the index
// has stayed the same for two looks.
func (s *Store) Resolve(ref string) (Image, error) {
	entries, err := s.readIndex()
	for same := 0; ; same++ {
		if err != nil {
			return Image{}, err
		}
		img, _, failed := s.resolve(entries, ref)
		if failed == nil {
			return img, nil
		}
		var now []v1.Descriptor
		if now, err = s.readIndex(); !reflect.DeepEqual(now, entries) {
			same = -1
		} else if same > 0 {
			return Image{}, failed
		}
		entries = now
	}
}

// resolve also returns the entry that ref named; it is nil when ref was an ID.
func (s *Store) resolve(entries []v1.Descriptor, ref string) (Image, *v1.Descriptor, error) {
	if e := findEntry(entries, ref); e != nil {
		images, err := s.images(slices.DeleteFunc(slices.Clone(entries), func(o v1.Descriptor) bool { return o.Digest != e.Digest }))
		if err == nil && len(images) == 0 {
			_, err = s.load(*e)
		}
		if err != nil {
			return Image{}, e, err
		}
		return images[0], e, nil
	}
	images, err := s.images(entries)
	if err != nil {
		return Image{}, nil, err
	}
	prefix := strings.TrimPrefix(ref, "sha256:")
	var found []Image
	for _, i := range images {
		if prefix != "" && strings.HasPrefix(i.ID.Encoded(), prefix) {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil, nil
	case 0:
		return Image{}, nil, notFoundError(ref)
	}
	return Image{}, nil, fmt.Errorf("image %q: ambiguous: %d image IDs start with it", ref, len(found))
}

// findEntry finds the entry of a name or of repository@digest.
func findEntry(entries []v1.Descriptor, ref string) *v1.Descriptor {
	r, err := image.Parse(ref)
	if err != nil {
		return nil
	}
	for i, e := range entries {
		switch {
		case r.Digest == "" && name(e) == r.String():
			return &entries[i]
		case r.Digest != "" && (source(e) == r.Name()+"@"+r.Digest.String() || (e.Digest == r.Digest && repo(e) == r.Name())):
			return &entries[i]
		}
	}
	return nil
}

// repo is the repository of an entry.
func repo(d v1.Descriptor) string {
	r, err := image.Parse(entryName(d))
	if err != nil {
		return ""
	}
	return r.Name()
}

// notFoundError reads as Docker's message.
func notFoundError(ref string) error {
	if r, err := image.Parse(ref); err == nil {
		ref = r.Familiar()
	}
	return &missingError{ref}
}

type missingError struct{ ref string }

func (e *missingError) Error() string        { return "No such image: " + e.ref }
func (e *missingError) Is(target error) bool { return errors.Is(ErrNotFound, target) }
