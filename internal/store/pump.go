package store

import (
	"io"
	"sync"
)

const chunkSize = 128 << 10

// chunks is the one package variable: a free list of 128 KiB buffers, shared by all pumps.
var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

type chunk struct {
	buf *[chunkSize]byte
	n   int
	err error
}

// pump reads ahead from r in a goroutine of its own, hands every chunk to tee there (hash, write to a file) and gives
// the bytes to its reader. So network, hashing, decompression and file creation overlap.
type pump struct {
	ch   chan chunk
	stop chan struct{}
	once sync.Once
	cur  chunk
	off  int
	err  error // that ended run, io.EOF included; valid after Close
}

func newPump(r io.Reader, tee func([]byte) error) *pump {
	p := &pump{ch: make(chan chunk, 4), stop: make(chan struct{})}
	go p.run(r, tee)
	return p
}

func (p *pump) run(r io.Reader, tee func([]byte) error) {
	defer close(p.ch)
	for p.err == nil {
		c := chunk{buf: chunks.Get().(*[chunkSize]byte)}
		for c.n < chunkSize && c.err == nil {
			var n int
			n, c.err = r.Read(c.buf[c.n:])
			c.n += n
		}
		if c.n > 0 {
			if err := tee(c.buf[:c.n]); err != nil {
				c.err = err
			}
		}
		p.err = c.err
		select {
		case p.ch <- c:
		case <-p.stop:
			chunks.Put(c.buf)
			return
		}
	}
}

func (p *pump) Read(b []byte) (int, error) {
	for p.cur.buf == nil || p.off == p.cur.n {
		if p.cur.buf != nil {
			chunks.Put(p.cur.buf)
			p.cur.buf = nil
		}
		if p.cur.err != nil {
			return 0, p.cur.err
		}
		c, ok := <-p.ch
		if !ok {
			p.cur.err = io.ErrClosedPipe
			return 0, p.cur.err
		}
		p.cur, p.off = c, 0
	}
	n := copy(b, p.cur.buf[p.off:p.cur.n])
	p.off += n
	return n, nil
}

// Close stops the goroutine and waits for it; r's Read must return (end it first).
func (p *pump) Close() {
	p.once.Do(func() { close(p.stop) })
	for c := range p.ch {
		chunks.Put(c.buf)
	}
}
