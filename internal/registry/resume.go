package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"vitro/internal/store"
)

// maxRetries bounds how often one blob's broken transfer is taken up again.
const maxRetries = 5

// source is the store.BlobSource of a repository.
type source struct {
	c        *client
	backoff  time.Duration
	patience time.Duration
}

// Fetch starts the transfer of a blob. The reader survives broken connections.
func (s *source) Fetch(ctx context.Context, d v1.Descriptor, notify func(store.Event)) (io.ReadCloser, error) {
	r := &resumer{ctx: ctx, s: s, d: d, notify: notify}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

// resumer reads a blob and, when the connection breaks, goes on from the same byte with a new request.
type resumer struct {
	ctx    context.Context // of the one transfer that this is
	s      *source
	d      v1.Descriptor
	notify func(store.Event)
	rc     io.ReadCloser
	off    int64
	tries  int
}

// open requests the blob from r.off on.
func (r *resumer) open() error {
	rc, err := r.s.c.repo.Blobs().Fetch(r.ctx, r.d)
	if err != nil {
		return err
	}
	if r.off > 0 {
		if sk, ok := rc.(io.Seeker); ok {
			_, err = sk.Seek(r.off, io.SeekStart)
		} else { // no Range there: read over what is known
			_, err = io.CopyN(io.Discard, rc, r.off)
		}
	}
	if err != nil {
		rc.Close()
		return err
	}
	r.rc = rc
	return nil
}

func (r *resumer) Read(b []byte) (int, error) {
	for {
		if r.off == r.d.Size {
			return r.end(b)
		}
		var n int
		var err error
		if r.rc == nil {
			err = r.open()
		} else {
			n, err = (&patientReader{r.rc, r.s.patience}).Read(b)
			r.off += int64(n)
		}
		if err == nil && n > 0 {
			return n, nil
		}
		if err != nil {
			if err := r.broken(err); err != nil {
				return n, err
			}
			if n > 0 {
				return n, nil
			}
		}
	}
}

// end looks for bytes past the size, which the store then refuses.
func (r *resumer) end(b []byte) (int, error) {
	if r.rc == nil {
		return 0, io.EOF
	}
	n, err := (&patientReader{r.rc, r.s.patience}).Read(b)
	if err != nil && n == 0 {
		err = io.EOF
	}
	return n, err
}

// broken decides whether a broken transfer goes on, and waits. It returns the final error if not.
func (r *resumer) broken(cause error) error {
	if r.rc != nil {
		r.rc.Close()
		r.rc = nil
	}
	if r.off == r.d.Size {
		return nil
	}
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	if errors.Is(cause, io.EOF) {
		cause = io.ErrUnexpectedEOF
	}
	var resp *errcode.ErrorResponse
	final := errors.Is(cause, errdef.ErrNotFound) || errors.As(cause, &resp) && resp.StatusCode < http.StatusInternalServerError
	if final || r.tries == maxRetries {
		return fmt.Errorf("broken off at byte %d of %d after %d retries: %w", r.off, r.d.Size, r.tries, cause)
	}
	r.notify(store.Event{State: store.Retrying, Current: r.off, Err: cause})
	wait := r.s.backoff << r.tries
	r.tries++
	select {
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	case <-time.After(wait):
		return nil
	}
}

func (r *resumer) Close() error {
	if r.rc == nil {
		return nil
	}
	return r.rc.Close()
}

// patientReader fails a Read that gets nothing for as long as patience: a registry that hangs is as good as gone.
type patientReader struct {
	rc       io.ReadCloser
	patience time.Duration
}

func (p *patientReader) Read(b []byte) (int, error) {
	var late atomic.Bool
	t := time.AfterFunc(p.patience, func() { late.Store(true); p.rc.Close() })
	n, err := p.rc.Read(b)
	t.Stop()
	if n == 0 && err != nil && late.Load() {
		err = fmt.Errorf("nothing came for %s", p.patience)
	}
	return n, err
}
