package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"vitro/internal/image"
	"vitro/internal/store"
)

// The states of a layer that is pushed, in docker's words.
const (
	Preparing          store.State = "Preparing"
	Pushing            store.State = "Pushing"
	Pushed             store.State = "Pushed"
	LayerAlreadyExists store.State = "Layer already exists"
	mountedFrom                    = "Mounted from " // and a repository
)

// pushTries is how often a layer is tried.
const pushTries = 3

// Push brings an image to the repository and tag of ref: the layers that are not there yet, those that another repository
// of that registry is known to have without sending them (a cross-repository mount), then config and manifest. The
// manifest goes as it is in the store, so its digest is the same everywhere. Options.Platform is not used.
func Push(ctx context.Context, s *store.Store, img store.Image, ref image.Reference, o Options) (v1.Descriptor, error) {
	if o.Parallel == 0 {
		o.Parallel = 5
	}
	if o.Backoff == 0 {
		o.Backoff = 250 * time.Millisecond
	}
	c := newClient(ctx, ref, o)
	defer c.close()
	p := &push{client: c, s: s, img: img, ref: ref, o: o}
	if err := p.run(ctx); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return v1.Descriptor{}, fmt.Errorf("push %s: registry %s: %w", ref.Familiar(), Host(ref), err)
	}
	return img.Manifest, nil
}

// push is one Push.
type push struct {
	*client
	s   *store.Store
	img store.Image
	ref image.Reference
	o   Options
	mu  sync.Mutex // for Events

	once   sync.Once
	others []store.Image // all that are here
}

func (p *push) run(ctx context.Context) error {
	manifest, err := p.blob(p.img.Manifest.Digest)
	if err != nil {
		return err
	}
	m, err := image.DecodeManifest(manifest, p.img.Manifest.MediaType)
	if err != nil {
		return err
	}
	for i := range m.Layers {
		p.notify(i, Preparing, 0)
	}
	if err := p.layers(ctx, m.Layers); err != nil {
		return err
	}
	config, err := p.blob(m.Config.Digest)
	if err != nil {
		return err
	}
	there, err := p.repo.Blobs().Exists(ctx, m.Config)
	if err == nil && !there {
		err = p.repo.Blobs().Push(ctx, m.Config, bytes.NewReader(config))
	}
	if err != nil {
		return fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	d := p.img.Manifest
	d.Annotations, d.Platform = nil, nil
	if err := p.repo.Manifests().PushReference(ctx, d, bytes.NewReader(manifest), p.ref.Tag); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

func (p *push) blob(d digest.Digest) ([]byte, error) { return os.ReadFile(p.s.BlobPath(d)) }

// layers pushes some at once, each blob once. The first failure ends the others.
func (p *push) layers(ctx context.Context, layers []v1.Descriptor) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, p.o.Parallel)
	for i, d := range layers {
		if slices.IndexFunc(layers, func(o v1.Descriptor) bool { return o.Digest == d.Digest }) < i {
			p.notify(i, LayerAlreadyExists, d.Size)
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := p.layer(ctx, i, d); err != nil {
				cancel(fmt.Errorf("layer %s: %w", d.Digest, err))
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// layer repeats what a broken connection broke.
func (p *push) layer(ctx context.Context, i int, d v1.Descriptor) (err error) {
	wait := p.o.Backoff
	for try := 1; ; try++ {
		var state store.State
		if state, err = p.send(ctx, i, d); err == nil {
			p.notify(i, state, d.Size)
			return nil
		}
		if try == pushTries || ctx.Err() != nil {
			return err
		}
		p.event(store.Event{Layer: i, State: store.Retrying, Err: err})
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait *= 2
	}
}

// send gets a layer there in the cheapest way.
func (p *push) send(ctx context.Context, i int, d v1.Descriptor) (store.State, error) {
	blobs := p.repo.Blobs()
	if there, err := blobs.Exists(ctx, d); err != nil || there {
		return LayerAlreadyExists, err
	}
	f, err := os.Open(p.s.BlobPath(d.Digest))
	if err != nil {
		return "", err
	}
	defer f.Close()
	sent := false
	content := func() (io.ReadCloser, error) {
		sent = true
		_, err := f.Seek(0, io.SeekStart)
		return &sender{Reader: f, p: p, i: i}, err
	}
	if from := p.mountSource(d.Digest); from != "" {
		err := p.repo.Mount(ctx, d, from, content) // asks for the content where the registry does not mount
		if err == nil && !sent {
			return mountedFrom + store.State(from), nil
		}
		return Pushed, err
	}
	r, err := content()
	if err == nil {
		err = blobs.Push(ctx, d, r)
	}
	return Pushed, err
}

// mountSource is a repository of the same registry that has a layer: the image has come from there or gone to there, or another
// image with this layer has, as the base of one that was committed.
func (p *push) mountSource(layer digest.Digest) string {
	elsewhere := func(img store.Image) string {
		for _, src := range img.Sources() {
			if r, err := image.Parse(src); err == nil && r.Domain == p.ref.Domain && r.Path != p.ref.Path {
				return r.Path
			}
		}
		return ""
	}
	if from := elsewhere(p.img); from != "" {
		return from
	}
	p.once.Do(func() { p.others, _ = p.s.Images() }) // without them it is sent
	for _, img := range p.others {
		if slices.ContainsFunc(img.Layers, func(d v1.Descriptor) bool { return d.Digest == layer }) {
			if from := elsewhere(img); from != "" {
				return from
			}
		}
	}
	return ""
}

// sender counts what is read from a blob. The client closes what it sends; the file is closed by send.
type sender struct {
	io.Reader
	p *push
	i int
	n int64
}

func (s *sender) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	s.n += int64(n)
	if n > 0 {
		s.p.notify(s.i, Pushing, s.n)
	}
	return n, err
}

func (s *sender) Close() error { return nil }

func (p *push) notify(i int, state store.State, n int64) {
	p.event(store.Event{Layer: i, State: state, Current: n})
}

func (p *push) event(e store.Event) {
	if p.o.Events == nil {
		return
	}
	d := p.img.Layers[e.Layer]
	e.Digest, e.Total = d.Digest, d.Size
	p.mu.Lock()
	defer p.mu.Unlock()
	p.o.Events(e)
}
