package store

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"vitro/internal/image"
)

// BlobSource gives the bytes of a layer blob, from a registry or an archive. The store checks size and digest.
type BlobSource interface {
	Fetch(ctx context.Context, d v1.Descriptor, notify func(Event)) (io.ReadCloser, error)
}

// ImportOptions describe an image to import.
type ImportOptions struct {
	Manifest  []byte            // as it was served; Docker schema 2 is stored as OCI
	MediaType string            // of the manifest
	Config    []byte            // the image config; its digest is the image ID
	Names     []image.Reference // tagged names to give; references by digest are Sources
	Source    string            // complete repository@digest it was pulled by, or empty
	Blobs     BlobSource
	Parallel  int         // layers at once, 3 if 0
	Events    func(Event) // progress, may be nil
}

// importer is the state of one Import.
type importer struct {
	*session
	opts     ImportOptions
	desc     v1.Descriptor
	manifest v1.Manifest
	config   image.Config
	chains   []digest.Digest
	mu       sync.Mutex      // for Events
	done     []chan struct{} // by layer: closed when it is complete in the store or in the staging folder
}

// Import brings an image into the store: layers that are not there are fetched and unpacked in parallel, each streamed
// straight into its folder, and digests, sizes and diff IDs are verified before anything is visible. A failed or
// cancelled import leaves nothing behind.
func (s *Store) Import(ctx context.Context, opts ImportOptions) (img Image, err error) {
	im := &importer{opts: opts}
	if im.opts.Parallel == 0 {
		im.opts.Parallel = 3
	}
	if err := im.decode(); err != nil {
		return Image{}, err
	}
	if im.session, err = s.begin(); err != nil {
		return Image{}, fmt.Errorf("import: %w", err)
	}
	defer func() {
		if e := im.end(); err == nil && e != nil {
			err = fmt.Errorf("import: staging: %w", e)
		}
		if err != nil { // layers that were complete before the failure
			_, _ = s.GC()
		}
	}()
	if err := im.prepare(); err != nil {
		return Image{}, fmt.Errorf("import: %w", err)
	}
	if err := im.layers(ctx); err != nil {
		return Image{}, err
	}
	err = s.edit(func(entries []v1.Descriptor) ([]v1.Descriptor, error) {
		for _, n := range im.opts.Names {
			entries = addEntry(entries, newEntry(im.desc, n.String(), im.opts.Source))
		}
		if len(im.opts.Names) == 0 {
			entries = addEntry(entries, newEntry(im.desc, "", im.opts.Source))
		}
		return entries, nil
	})
	if err != nil {
		return Image{}, fmt.Errorf("import: %w", err)
	}
	return s.Resolve(im.manifest.Config.Digest.String())
}

func (im *importer) decode() (err error) {
	if im.manifest, err = image.DecodeManifest(im.opts.Manifest, im.opts.MediaType); err != nil {
		return err
	}
	if im.opts.MediaType == image.DockerManifest {
		if im.opts.Manifest, err = image.ToOCI(im.manifest); err != nil {
			return err
		}
		im.opts.MediaType = v1.MediaTypeImageManifest
		if im.manifest, err = image.DecodeManifest(im.opts.Manifest, im.opts.MediaType); err != nil {
			return err
		}
	}
	if got := digest.FromBytes(im.opts.Config); got != im.manifest.Config.Digest {
		return fmt.Errorf("config: content has digest %s, the manifest says %s", got, im.manifest.Config.Digest)
	}
	if im.config, err = image.DecodeConfig(im.opts.Config); err != nil {
		return err
	}
	if err := image.CheckPair(im.manifest, im.config); err != nil {
		return err
	}
	p := im.config.Platform
	im.desc = v1.Descriptor{
		MediaType: im.opts.MediaType, Digest: digest.FromBytes(im.opts.Manifest), Size: int64(len(im.opts.Manifest)),
		Platform: &v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant},
	}
	im.chains = image.ChainIDs(im.config.RootFS.DiffIDs)
	return nil
}

// prepare pins what the image is made of and stages manifest and config.
func (im *importer) prepare() error {
	for _, d := range []string{"blobs", "layers"} {
		if err := os.Mkdir(im.path(d), 0o700); err != nil {
			return err
		}
	}
	blobs := []digest.Digest{im.desc.Digest, im.manifest.Config.Digest}
	for _, l := range im.manifest.Layers {
		blobs = append(blobs, l.Digest)
	}
	if err := im.pin(im.chains, blobs); err != nil {
		return err
	}
	for d, b := range map[digest.Digest][]byte{im.desc.Digest: im.opts.Manifest, im.manifest.Config.Digest: im.opts.Config} {
		if exists(im.s.BlobPath(d)) {
			continue
		}
		if err := os.WriteFile(im.path("blobs", d.Encoded()), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// missing returns the layers that lack their folder or their blob.
func (im *importer) missing() (idx []int) {
	for i, l := range im.manifest.Layers {
		if !exists(im.s.layerDir(im.chains[i])) || !exists(im.s.BlobPath(l.Digest)) {
			idx = append(idx, i)
		}
	}
	return idx
}

// layers makes the missing layers in rounds: lock those from the bottom up that no other process makes, make them, commit
// them, unlock; then look at what the others made. Nothing is held while waiting for another process.
func (im *importer) layers(ctx context.Context) error {
	todo := im.missing()
	for i := range im.manifest.Layers {
		state := AlreadyExists
		if slices.Contains(todo, i) {
			state = PullingFSLayer
		}
		im.notify(Event{Layer: i, State: state})
	}
	for first := true; first || len(todo) > 0; first, todo = false, im.missing() {
		mine, err := im.reserve(todo)
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		if len(mine) > 0 || first { // the first one commits manifest and config in any case
			if err := im.round(ctx, mine); err != nil {
				return err
			}
			continue
		}
		im.notify(Event{Layer: todo[0], State: Waiting})
		select {
		case <-ctx.Done():
			return fmt.Errorf("import: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// reserve locks the layers of todo up to the first that another process makes, and returns those still missing then.
func (im *importer) reserve(todo []int) ([]int, error) {
	for n, i := range todo {
		ok, err := im.lockLayer(im.chains[i])
		if err != nil {
			return nil, err
		}
		if !ok {
			todo = todo[:n]
			break
		}
	}
	missing := im.missing() // again: another process may have made one before it was locked here
	mine := slices.DeleteFunc(slices.Clone(todo), func(i int) bool { return !slices.Contains(missing, i) })
	if len(mine) == 0 {
		im.release()
	}
	return mine, nil
}

// round makes the given layers and commits them. They start bottom first, so one that waits for a lower layer, or for
// the same blob in a lower layer, waits for one that runs.
func (im *importer) round(ctx context.Context, idx []int) error {
	defer im.release()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	im.done = make([]chan struct{}, len(im.chains))
	for _, i := range idx {
		im.done[i] = make(chan struct{})
	}
	var wg sync.WaitGroup
	var failed sync.Once
	var first error
	slots := make(chan struct{}, im.opts.Parallel)
	for _, i := range idx {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := im.layer(ctx, i); err != nil {
				failed.Do(func() { first = err; cancel(err) })
				return
			}
			close(im.done[i])
		})
	}
	wg.Wait()
	if first == nil && ctx.Err() != nil {
		first = fmt.Errorf("import: %w", context.Cause(ctx))
	}
	if first != nil {
		return first
	}
	if err := im.commit(); err != nil {
		return fmt.Errorf("import: commit: %w", err)
	}
	return nil
}

// wait returns when layer i is complete. A layer that is not of this round is in the store.
func (im *importer) wait(ctx context.Context, i int) error {
	if im.done[i] == nil {
		return nil
	}
	select {
	case <-im.done[i]:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lowers waits for the layers below i and returns their folders, top first.
func (im *importer) lowers(ctx context.Context, i int) ([]string, error) {
	var dirs []string
	for j := i - 1; j >= 0; j-- {
		if err := im.wait(ctx, j); err != nil {
			return nil, err
		}
		dir := im.s.LayerPath(im.chains[j])
		if !exists(dir) {
			dir = im.path("layers", im.chains[j].Encoded(), "fs")
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

func (im *importer) writeRecord(i int, size, files int64) error {
	r := Record{ChainID: im.chains[i], DiffID: im.config.RootFS.DiffIDs[i], Size: size, Files: files, Created: time.Now().UTC()}
	if i > 0 {
		r.Parent = im.chains[i-1]
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(im.path("layers", im.chains[i].Encoded(), "layer.json"), b, 0o644)
}

// notify completes and passes on an event of layer e.Layer.
func (im *importer) notify(e Event) {
	if im.opts.Events == nil {
		return
	}
	l := im.manifest.Layers[e.Layer]
	e.Digest, e.Total = l.Digest, l.Size
	im.mu.Lock()
	defer im.mu.Unlock()
	im.opts.Events(e)
}
