package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"vitro/internal/image"
	"vitro/internal/layer"
	"vitro/internal/store"
)

// CommitOptions are the flags of commit.
type CommitOptions struct {
	Ref     string // REPOSITORY[:TAG]; empty for an image without a name
	Author  string
	Message string
	Changes []string // Dockerfile instructions
	Pause   bool     // while the files are read
}

// imageRef reads the name of an image that is to be made.
func imageRef(s string) ([]image.Reference, error) {
	if s == "" {
		return nil, nil
	}
	r, err := image.Parse(s)
	if err != nil {
		return nil, err
	}
	if r.Digest != "" {
		return nil, errors.New("cannot import digest reference")
	}
	return []image.Reference{r}, nil
}

// sourceEpoch is SOURCE_DATE_EPOCH (reproducible-builds.org/specs/source-date-epoch): seconds since 1970; zero if unset.
func sourceEpoch() (time.Time, error) {
	s := os.Getenv("SOURCE_DATE_EPOCH")
	if s == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %q is not a number of seconds", s)
	}
	return time.Unix(n, 0).UTC(), nil
}

// madeAt is the time of an image that is made now.
func madeAt(epoch time.Time) *time.Time {
	if epoch.IsZero() {
		epoch = time.Now().UTC()
	}
	return &epoch
}

// Commit makes an image of what a container has changed. What is in volumes and binds is not part of it.
func (e *Engine) Commit(ctx context.Context, ref string, o CommitOptions) (digest.Digest, error) {
	names, err := imageRef(o.Ref)
	if err != nil {
		return "", err
	}
	epoch, err := sourceEpoch()
	if err != nil {
		return "", err
	}
	l, err := e.Find(ref)
	if err != nil {
		return "", err
	}
	base, err := e.Store.Resolve(l.ImageID)
	if err != nil {
		return "", err
	}
	config := committedConfig(base.Config, &l.Config)
	for _, c := range o.Changes {
		if err := applyInstruction(&config.Config, c); err != nil {
			return "", err
		}
	}
	config.Created, config.Author = madeAt(epoch), o.Author
	config.History = append(config.History, v1.History{
		Created: config.Created, CreatedBy: strings.Join(l.Config.Cmd, " "), Author: o.Author, Comment: o.Message,
	})
	img, err := e.Store.Add(ctx, store.AddOptions{Base: &base, Config: config, Names: names, Layer: func(w io.Writer) (changed bool, err error) {
		err = e.withPaused(ctx, l, o.Pause, func() error {
			t, err := e.tree(l.Container)
			if err != nil {
				return err
			}
			defer t.Root.Close()
			changed, err = layer.WriteDiff(ctx, w, t, layer.PackOptions{Epoch: epoch})
			return err
		})
		return changed, err
	}})
	if err != nil {
		return "", fmt.Errorf("commit %s: %w", ref, err)
	}
	return img.ID, nil
}

// committedConfig is the image's, with what the container's flags made of it.
func committedConfig(base image.Config, c *Config) image.Config {
	out := base
	out.History = layerHistory(base)
	ic := &out.Config
	ic.User, ic.Env, ic.Cmd, ic.Entrypoint, ic.WorkingDir = c.User, c.Env, c.Cmd, c.Entrypoint, c.WorkingDir
	ic.Labels, ic.StopSignal, ic.StopTimeout = c.Labels, c.StopSignal, c.StopTimeout
	ic.Volumes = maps.Clone(c.Volumes)
	return out
}

// layerHistory is an image's history, with an entry for each layer: some builders write none.
func layerHistory(c image.Config) []v1.History {
	n := len(c.RootFS.DiffIDs)
	for _, h := range c.History {
		if !h.EmptyLayer {
			n--
		}
	}
	var out []v1.History
	for range max(n, 0) {
		out = append(out, v1.History{Created: c.Created})
	}
	return append(out, c.History...)
}

// History is an image's history, oldest first, with an entry for each layer.
func History(img store.Image) []v1.History { return layerHistory(img.Config) }

// Diff lists what a container has changed.
func (e *Engine) Diff(ctx context.Context, ref string) ([]layer.Change, error) {
	l, err := e.Find(ref)
	if err != nil {
		return nil, err
	}
	t, err := e.tree(l.Container)
	if err != nil {
		return nil, fmt.Errorf("diff %s: %w", ref, err)
	}
	defer t.Root.Close()
	list, err := layer.Changes(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("diff %s: %w", ref, err)
	}
	return list, nil
}

// Export writes a container's root file system as a tar stream, without what is mounted in it.
func (e *Engine) Export(ctx context.Context, ref string, w io.Writer) error {
	l, err := e.Find(ref)
	if err != nil {
		return err
	}
	t, err := e.tree(l.Container)
	if err == nil {
		defer t.Root.Close()
		err = layer.Pack(ctx, w, int(t.Root.Fd()), ".", "./", layer.PackOptions{})
	}
	if err != nil {
		return fmt.Errorf("export %s: %w", ref, err)
	}
	return nil
}

// ImportOptions are the flags of import.
type ImportOptions struct {
	Ref      string // REPOSITORY[:TAG]; empty for an image without a name
	Message  string
	Changes  []string        // Dockerfile instructions
	Platform *image.Platform // nil: the host's
}

// Import makes an image with one layer of a tar stream, which may be compressed.
func (e *Engine) Import(ctx context.Context, r io.Reader, o ImportOptions) (digest.Digest, error) {
	names, err := imageRef(o.Ref)
	if err != nil {
		return "", err
	}
	epoch, err := sourceEpoch()
	if err != nil {
		return "", err
	}
	config := image.Config{}
	config.Platform = image.HostPlatform()
	if o.Platform != nil {
		config.Platform = *o.Platform
	}
	config.Created = madeAt(epoch)
	config.History = []v1.History{{Created: config.Created, Comment: o.Message}}
	for _, c := range o.Changes {
		if err := applyInstruction(&config.Config, c); err != nil {
			return "", err
		}
	}
	img, err := e.Store.Add(ctx, store.AddOptions{Config: config, Names: names, Layer: func(w io.Writer) (bool, error) {
		dec, err := layer.Decompress(r, "")
		if err != nil {
			return false, err
		}
		defer dec.Close()
		_, err = io.Copy(w, dec)
		return true, err
	}})
	if err != nil {
		return "", fmt.Errorf("import: %w", err)
	}
	return img.ID, nil
}
