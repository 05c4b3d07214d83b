package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/opencontainers/image-spec/specs-go/v1"

	"vitro/internal/layer"
)

// layer brings layer i into the staging folder: its blob when the store lacks it, its unpacked folder when that is missing.
func (im *importer) layer(ctx context.Context, i int) error {
	l := im.manifest.Layers[i]
	wrap := func(err error) error {
		if err != nil {
			err = fmt.Errorf("layer %s: %w", l.Digest, err)
		}
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	src, out, err := im.openBlob(ctx, i)
	if err != nil {
		return wrap(err)
	}
	defer src.Close()
	t := &transfer{im: im, i: i, desc: l, out: out, sum: sha256.New()}
	if exists(im.s.layerDir(im.chains[i])) {
		err = t.copy(src)
	} else {
		err = t.unpack(ctx, cancel, src)
	}
	if out != nil {
		if e := out.Close(); err == nil {
			err = e
		}
	}
	if err == nil {
		im.notify(Event{Layer: i, State: PullComplete, Current: l.Size})
	}
	return wrap(err)
}

// openBlob opens the blob in the store or, from an earlier layer of this import, in the staging folder. Otherwise it
// starts the download and returns the file to write it to as well.
func (im *importer) openBlob(ctx context.Context, i int) (src io.ReadCloser, out *os.File, err error) {
	l := im.manifest.Layers[i]
	for j := range i { // the same blob in a lower layer is fetched there
		if im.manifest.Layers[j].Digest == l.Digest {
			if err := im.wait(ctx, j); err != nil {
				return nil, nil, err
			}
		}
	}
	staged := im.path("blobs", l.Digest.Encoded())
	for _, p := range []string{im.s.BlobPath(l.Digest), staged} {
		if f, err := os.Open(p); err == nil {
			return f, nil, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, nil, err
		}
	}
	src, err = im.opts.Blobs.Fetch(ctx, l, func(e Event) {
		e.Layer = i
		im.notify(e)
	})
	if err != nil {
		return nil, nil, err
	}
	if out, err = os.OpenFile(staged, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
		src.Close()
		return nil, nil, err
	}
	return src, out, nil
}

// transfer is one blob on its way: source → hash and file → decompression → hash → files of the layer.
type transfer struct {
	im   *importer
	i    int
	desc v1.Descriptor
	out  *os.File // nil when the blob is there already
	sum  hash.Hash
	n    int64
}

// take sees every byte of the blob in order.
func (t *transfer) take(b []byte) error {
	t.n += int64(len(b))
	if t.n > t.desc.Size {
		return fmt.Errorf("size: more than the %d bytes that the manifest says", t.desc.Size)
	}
	t.sum.Write(b)
	state := Extracting
	if t.out != nil {
		if _, err := t.out.Write(b); err != nil {
			return err
		}
		state = Downloading
	}
	t.im.notify(Event{Layer: t.i, State: state, Current: t.n})
	if t.out != nil && t.n == t.desc.Size {
		t.im.notify(Event{Layer: t.i, State: DownloadComplete, Current: t.n})
		t.im.notify(Event{Layer: t.i, State: Extracting, Current: t.n})
	}
	return nil
}

// verify checks size and digest once all bytes are taken.
func (t *transfer) verify() error {
	if t.n != t.desc.Size {
		return fmt.Errorf("size: got %d bytes, the manifest says %d", t.n, t.desc.Size)
	}
	if got := fmt.Sprintf("sha256:%x", t.sum.Sum(nil)); got != t.desc.Digest.String() {
		return fmt.Errorf("digest mismatch: content has %s", got)
	}
	return nil
}

// Write makes transfer the sink of copy.
func (t *transfer) Write(b []byte) (int, error) { return len(b), t.take(b) }

func (t *transfer) copy(src io.Reader) error {
	if _, err := io.Copy(t, src); err != nil {
		return err
	}
	return t.verify()
}

func (t *transfer) unpack(ctx context.Context, cancel func(), src io.Reader) error {
	dir := t.im.path("layers", t.im.chains[t.i].Encoded())
	if err := os.MkdirAll(dir+"/fs", 0o755); err != nil {
		return err
	}
	down := newPump(src, t.take)
	diff := sha256.New()
	stats, err := t.apply(ctx, down, diff, dir+"/fs")
	if ctx.Err() == nil { // what follows the tar belongs to the digest; and a wrong digest explains any other error
		_, _ = io.Copy(io.Discard, down)
	}
	cancel()
	down.Close()
	if cause := down.err; cause != nil && cause != io.EOF {
		return cause
	}
	if e := t.verify(); e != nil && ctxDone(err) == nil {
		return e
	}
	if err != nil {
		return err
	}
	want := t.im.config.RootFS.DiffIDs[t.i]
	if got := fmt.Sprintf("sha256:%x", diff.Sum(nil)); got != want.String() {
		return fmt.Errorf("diff ID mismatch: unpacked content has %s, config.rootfs.diff_ids[%d] says %s", got, t.i, want)
	}
	size, err := diskUsage(dir + "/fs") // not stats.Bytes: an entry may be overwritten, a file copied up from below
	if err != nil {
		return err
	}
	return t.im.writeRecord(t.i, size, int64(stats.Entries))
}

func ctxDone(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// apply decompresses r and unpacks the tar into dir; diff gets the uncompressed bytes.
func (t *transfer) apply(ctx context.Context, r io.Reader, diff hash.Hash, dir string) (st layer.Stats, err error) {
	dec, err := layer.Decompress(r, t.desc.MediaType)
	if err != nil {
		return st, err
	}
	defer dec.Close()
	up := newPump(dec, func(b []byte) error { diff.Write(b); return nil })
	defer up.Close()
	st, err = layer.Apply(ctx, up, dir, layer.ApplyOptions{
		Lowers:    func(ctx context.Context) ([]string, error) { return t.im.lowers(ctx, t.i) },
		UserXattr: os.Geteuid() != 0,
	})
	if err != nil {
		return st, err
	}
	if _, err := io.Copy(io.Discard, up); err != nil { // padding after the end marker belongs to the diff ID
		return st, err
	}
	return st, nil
}
