package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"vitro/internal/image"
	"vitro/internal/store"
)

// annotationName is where Docker and containerd put the complete name in index.json.
const annotationName = "io.containerd.image.name"

// Options of Load.
type Options struct {
	Platform *image.Platform   // chosen from an index, nil is the host's
	Parallel int               // layers at once, 3 if 0
	Events   func(store.Event) // progress; starts again at layer 0 with each image
}

// Loaded is an image that was loaded under a name, or without one.
type Loaded struct {
	Name string // familiar, empty if the archive has none
	ID   digest.Digest
}

// String is docker's line.
func (l Loaded) String() string {
	if l.Name == "" {
		return "Loaded image ID: " + l.ID.String()
	}
	return "Loaded image: " + l.Name
}

// Load loads all images of an archive.
func Load(ctx context.Context, s *store.Store, r io.Reader, o Options) ([]Loaded, error) {
	a, err := open(ctx, s.Root(), r)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer a.close()
	l := &loader{archive: a, s: s, o: o}
	tags, err := l.dockerManifest()
	switch {
	case err != nil:
	case a.has(v1.ImageIndexFile) && a.has(v1.ImageLayoutFile):
		err = l.layout(ctx, tags)
	case tags != nil:
		for i, t := range tags {
			if err = l.docker(ctx, fmt.Sprintf("manifest.json[%d]", i), t); err != nil {
				break
			}
		}
	default:
		err = fmt.Errorf("not an image archive: neither manifest.json nor index.json with oci-layout is in it")
	}
	if err != nil {
		return l.loaded, fmt.Errorf("load: %w", err)
	}
	return l.loaded, nil
}

type loader struct {
	*archive
	s      *store.Store
	o      Options
	loaded []Loaded
}

// saved is an entry of docker's manifest.json.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (l *loader) dockerManifest() (tags []saved, err error) {
	if !l.has("manifest.json") {
		return nil, nil
	}
	b, err := l.read("manifest.json", image.MaxManifest)
	if err != nil {
		return nil, err
	}
	tags = []saved{}
	if err := json.Unmarshal(b, &tags); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	return tags, nil
}

// docker loads one image of a classic `docker save` archive, the entry of manifest.json called at. Its manifest is made
// here, the image ID is kept.
func (l *loader) docker(ctx context.Context, at string, t saved) error {
	config, err := l.read(t.Config, image.MaxConfig)
	if err != nil {
		return fmt.Errorf("%s.Config: %w", at, err)
	}
	c, err := image.DecodeConfig(config)
	if err != nil {
		return fmt.Errorf("%s.Config: %w", at, err)
	}
	if len(t.Layers) != len(c.RootFS.DiffIDs) {
		return fmt.Errorf("%s.Layers: %d entries, but the config has %d diff IDs", at, len(t.Layers), len(c.RootFS.DiffIDs))
	}
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Layers: []v1.Descriptor{},
		Config: v1.Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
	}
	blobs := blobSource{}
	for i, name := range t.Layers {
		d, sec, err := l.layer(name, c.RootFS.DiffIDs[i])
		if err != nil {
			return fmt.Errorf("%s.Layers[%d]: %w", at, i, err)
		}
		m.Layers = append(m.Layers, d)
		blobs[d.Digest] = sec
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return err
	}
	o := store.ImportOptions{Manifest: manifest, MediaType: m.MediaType, Config: config, Blobs: blobs}
	if err := l.add(ctx, o, t.RepoTags); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return nil
}

// layer describes a layer file. A plain tar's digest is its diff ID; a compressed one has to be read for it.
func (l *loader) layer(name string, diffID digest.Digest) (v1.Descriptor, *io.SectionReader, error) {
	sec, err := l.section(name)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	d := v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: diffID, Size: sec.Size()}
	if how := compression(sec); how != "" {
		d.MediaType += "+" + how
		if d.Digest, err = digest.FromReader(io.NewSectionReader(sec, 0, sec.Size())); err != nil {
			return d, nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return d, sec, nil
}

// layout loads all images that an OCI layout's index.json names. tags are those of a manifest.json beside it.
func (l *loader) layout(ctx context.Context, tags []saved) error {
	b, err := l.read(v1.ImageIndexFile, image.MaxManifest)
	if err != nil {
		return err
	}
	ix, err := image.DecodeIndex(b, v1.MediaTypeImageIndex)
	if err != nil {
		return fmt.Errorf("index.json: %w", err)
	}
	for i, d := range ix.Manifests {
		if err := l.fromIndex(ctx, d, tags); err != nil {
			return fmt.Errorf("index.json: manifests[%d]: %w", i, err)
		}
	}
	return nil
}

func (l *loader) fromIndex(ctx context.Context, d v1.Descriptor, tags []saved) error {
	named := d.Annotations
	b, err := l.blob(d, image.MaxManifest)
	if err != nil {
		return err
	}
	for depth := 0; image.IsIndex(d.MediaType) && depth < 3; depth++ {
		ix, err := image.DecodeIndex(b, d.MediaType)
		if err != nil {
			return err
		}
		want := image.HostPlatform()
		if l.o.Platform != nil {
			want = *l.o.Platform
		}
		if d, err = image.Choose(ix, want); err != nil {
			return err
		}
		if b, err = l.blob(d, image.MaxManifest); err != nil {
			return err
		}
	}
	m, err := image.DecodeManifest(b, d.MediaType)
	if err != nil {
		return err
	}
	config, err := l.blob(m.Config, image.MaxConfig)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	blobs := blobSource{}
	for i, layer := range m.Layers {
		if blobs[layer.Digest], err = l.section(blobName(layer.Digest)); err != nil {
			return fmt.Errorf("layers[%d]: %w", i, err)
		}
	}
	return l.add(ctx, store.ImportOptions{Manifest: b, MediaType: d.MediaType, Config: config, Blobs: blobs}, layoutNames(named, m, tags))
}

// layoutNames collects the names of an image: annotations, and the tags of manifest.json for the same config.
func layoutNames(annotations map[string]string, m v1.Manifest, tags []saved) []string {
	var names []string
	if n := annotations[annotationName]; n != "" {
		names = append(names, n)
	} else if n := annotations[v1.AnnotationRefName]; strings.ContainsAny(n, ":/") {
		names = append(names, n)
	}
	for _, t := range tags {
		if t.Config == blobName(m.Config.Digest) {
			names = append(names, t.RepoTags...)
		}
	}
	return names
}

// add imports an image under the given names.
func (l *loader) add(ctx context.Context, o store.ImportOptions, names []string) error {
	seen := map[image.Reference]bool{}
	for _, n := range names {
		ref, err := image.Parse(n)
		if err != nil {
			return err
		}
		switch {
		case ref.Digest != "":
			o.Source = ref.Name() + "@" + ref.Digest.String()
		case !seen[ref]:
			seen[ref] = true
			o.Names = append(o.Names, ref)
		}
	}
	o.Parallel, o.Events = l.o.Parallel, l.o.Events
	img, err := l.s.Import(ctx, o)
	if err != nil {
		return err
	}
	for _, n := range o.Names { // once, though index.json and manifest.json may both have it
		if one := (Loaded{Name: n.Familiar(), ID: img.ID}); !slices.Contains(l.loaded, one) {
			l.loaded = append(l.loaded, one)
		}
	}
	if len(o.Names) == 0 {
		l.loaded = append(l.loaded, Loaded{ID: img.ID})
	}
	return nil
}

// blobSource is the store.BlobSource of an archive.
type blobSource map[digest.Digest]*io.SectionReader

func (b blobSource) Fetch(_ context.Context, d v1.Descriptor, _ func(store.Event)) (io.ReadCloser, error) {
	sec := b[d.Digest]
	if sec == nil {
		return nil, fmt.Errorf("not in the archive")
	}
	return io.NopCloser(io.NewSectionReader(sec, 0, sec.Size())), nil
}
