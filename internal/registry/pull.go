package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"

	"vitro/internal/image"
	"vitro/internal/store"
)

// Options of Pull. The zero value is what `docker pull` does.
type Options struct {
	Platform   *image.Platform     // nil is the host's; when set, an image for another one is an error
	PlainHTTP  bool                // no TLS at all
	Insecure   bool                // TLS is not verified; plain HTTP when there is none. Always so on loopback.
	TLS        *tls.Config         // nil is the system's
	Credential auth.CredentialFunc // nil is Docker's config file and its helpers
	Parallel   int                 // layers at once, 3 if 0
	Patience   time.Duration       // with a registry that sends nothing, 1 min if 0
	Backoff    time.Duration       // before the first retry of a broken transfer, then doubled; 250 ms if 0
	Events     func(store.Event)   // progress, never called twice at once
}

// Result of a Pull.
type Result struct {
	Image    store.Image
	Digest   digest.Digest // of what the reference named: the index where there is one
	UpToDate bool          // the name led to this image before
}

// Pull brings the image that ref names into s.
func Pull(ctx context.Context, s *store.Store, ref image.Reference, o Options) (Result, error) {
	if o.Backoff == 0 {
		o.Backoff = 250 * time.Millisecond
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	c := newClient(ctx, ref, o)
	defer c.close()
	res, err := c.pull(ctx, s, ref, o)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Result{}, fmt.Errorf("pull %s: registry %s: %w", ref.Familiar(), Host(ref), err)
	}
	return res, nil
}

func (c *client) pull(ctx context.Context, s *store.Store, ref image.Reference, o Options) (Result, error) {
	desc, b, err := c.manifest(ctx, ref.Target(), v1.Descriptor{Digest: ref.Digest})
	if err != nil {
		if errors.Is(err, errdef.ErrNotFound) {
			err = fmt.Errorf("manifest for %s %w", ref.Familiar(), errdef.ErrNotFound)
		}
		return Result{}, err
	}
	res := Result{Digest: desc.Digest}
	want := image.HostPlatform()
	if o.Platform != nil {
		want = *o.Platform
	}
	if image.IsIndex(desc.MediaType) {
		ix, err := image.DecodeIndex(b, desc.MediaType)
		if err != nil {
			return Result{}, err
		}
		d, err := image.Choose(ix, want)
		if err != nil {
			return Result{}, err
		}
		if desc, b, err = c.manifest(ctx, d.Digest.String(), d); err != nil {
			return Result{}, err
		}
	}
	m, err := image.DecodeManifest(b, desc.MediaType)
	if err != nil {
		return Result{}, err
	}
	config, err := c.config(ctx, s, m.Config, o)
	if err != nil {
		return Result{}, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	if err := checkPlatform(config, want, o.Platform != nil); err != nil {
		return Result{}, err
	}
	old, err := s.Resolve(ref.String())
	res.UpToDate = err == nil && old.ID == m.Config.Digest
	var names []image.Reference
	if ref.Digest == "" {
		names = append(names, ref)
	}
	res.Image, err = s.Import(ctx, store.ImportOptions{
		Manifest: b, MediaType: desc.MediaType, Config: config,
		Names: names, Source: ref.Name() + "@" + res.Digest.String(),
		Blobs: &source{c: c, backoff: o.Backoff, patience: o.Patience}, Parallel: o.Parallel, Events: o.Events,
	})
	return res, err
}

// checkPlatform refuses an image that a given --platform does not fit, and without one another system's, as Docker does.
func checkPlatform(config []byte, want image.Platform, asked bool) error {
	c, err := image.DecodeConfig(config)
	if err != nil {
		return err
	}
	if asked && c.OS != "" && !image.Matches(want, c.Platform) {
		return fmt.Errorf("the image does not match the specified platform: wanted %s, actual %s",
			image.FormatPlatform(want), image.FormatPlatform(c.Platform))
	}
	if !asked && c.OS != "" && c.OS != want.OS {
		return fmt.Errorf("image operating system %q cannot be used on this platform: operating system is not supported", c.OS)
	}
	return nil
}

// manifest fetches a manifest or index and checks it against what is known of it: digest, size and media type as far as set.
func (c *client) manifest(ctx context.Context, target string, want v1.Descriptor) (v1.Descriptor, []byte, error) {
	d, rc, err := c.repo.Manifests().FetchReference(ctx, target)
	if err != nil {
		return d, nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(&patientReader{rc: rc, patience: c.transport.ResponseHeaderTimeout}, image.MaxManifest+1))
	switch {
	case err != nil:
		return d, nil, fmt.Errorf("manifest %s: %w", target, err)
	case len(b) > image.MaxManifest, d.Size > image.MaxManifest: // oras-go cuts what has no digest header at 4 MiB
		return d, nil, fmt.Errorf("manifest %s: larger than %d bytes", target, image.MaxManifest)
	}
	got := digest.FromBytes(b)
	for _, w := range []digest.Digest{want.Digest, d.Digest} {
		if w != "" && w != got {
			return d, nil, fmt.Errorf("manifest %s: digest mismatch: content has %s, want %s", target, got, w)
		}
	}
	if want.MediaType != "" && want.MediaType != d.MediaType {
		return d, nil, fmt.Errorf("manifest %s: mediaType: served as %q, the index says %q", target, d.MediaType, want.MediaType)
	}
	if want.Size != 0 && want.Size != int64(len(b)) {
		return d, nil, fmt.Errorf("manifest %s: size: got %d bytes, the index says %d", target, len(b), want.Size)
	}
	d.Digest, d.Size = got, int64(len(b))
	return d, b, nil
}

// config reads the image config from the store or fetches it. The store checks its digest.
func (c *client) config(ctx context.Context, s *store.Store, d v1.Descriptor, o Options) ([]byte, error) {
	if b, err := os.ReadFile(s.BlobPath(d.Digest)); err == nil {
		return b, nil
	}
	rc, err := (&source{c: c, backoff: o.Backoff, patience: o.Patience}).Fetch(ctx, d, func(store.Event) {})
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b := make([]byte, d.Size)
	if _, err := io.ReadFull(rc, b); err != nil {
		return nil, err
	}
	if got := digest.FromBytes(b); got != d.Digest {
		return nil, fmt.Errorf("digest mismatch: content has %s", got)
	}
	return b, nil
}
