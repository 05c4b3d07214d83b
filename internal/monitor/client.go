package monitor

import (
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// client is one that is attached. What it has not read waits in a queue, which a writer of its own moves on: nothing
// else is ever blocked in a write to a pipe or a terminal that takes nothing.
type client struct {
	c      *conn
	hup    unix.PollFd
	broken func(stream int) // called when nobody reads what the client stands for; nil: the container goes on
	stays  bool             // until the container ends, whatever breaks

	mu      sync.Mutex
	changed sync.Cond   // size, writing, ending, gone
	out     [2]*os.File // stdout, stderr; nil: not wanted, or gone
	queue   []chunk
	size    int         // bytes in the queue
	writing bool        // write runs
	ending  bool        // the container has ended: put does not wait
	gone    bool        // the connection has ended
	told    bool        // has its exit status
	epipe   *time.Timer // after EPIPE: tells the client, unless the container ends before
}

// chunk is output of one stream.
type chunk struct {
	stream int
	b      []byte
}

const forever = time.Duration(math.MaxInt64)

// queueSize is where a client that does not read holds the container up.
const queueSize = 64 << 10

// put queues output.
func (c *client) put(stream int, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.size >= queueSize && !c.ending && !c.gone {
		c.changed.Wait()
	}
	if c.gone || c.out[stream] == nil {
		return
	}
	c.size += len(b)
	if last := len(c.queue) - 1; last >= 0 && c.queue[last].stream == stream {
		c.queue[last].b = append(c.queue[last].b, b...)
	} else {
		c.queue = append(c.queue, chunk{stream, append([]byte(nil), b...)})
	}
	if !c.writing {
		c.writing = true
		go c.write()
	}
}

// write empties the queue.
func (c *client) write() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 && !c.gone {
		next := &c.queue[0]
		stream, b, f := next.stream, next.b, c.out[next.stream]
		n := len(b) // without a file it is dropped
		if f != nil {
			c.mu.Unlock()
			var err error
			if n, err = c.writePiece(f, b); err == unix.EPIPE {
				c.tellBroken(stream)
			}
			c.mu.Lock()
			if err != nil {
				f.Close()
				c.out[stream] = nil
			}
		}
		c.size -= n
		if next = &c.queue[0]; n == len(next.b) { // put may have moved the queue and added to it
			c.queue = c.queue[1:]
		} else {
			next.b = next.b[n:]
		}
		c.changed.Broadcast()
	}
	c.writing = false
	c.changed.Broadcast()
	if c.gone {
		c.close()
	}
}

// writePiece writes a page at most: what a pipe that polls writable takes without blocking. It gives up when the client
// goes away.
func (c *client) writePiece(f *os.File, b []byte) (int, error) {
	p := []unix.PollFd{{Fd: int32(fdOf(f)), Events: unix.POLLOUT}, c.hup}
	if _, err := unix.Poll(p, -1); err == unix.EINTR {
		return 0, nil
	}
	if p[1].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLRDHUP) != 0 {
		return 0, unix.ECONNRESET
	}
	n, err := unix.Write(int(p[0].Fd), b[:min(len(b), 4096)])
	if err == unix.EINTR || err == unix.EAGAIN {
		err = nil
	}
	return max(n, 0), err
}

// tellBroken: the client ends as a writer to the broken pipe would, with the container if that ends soon.
func (c *client) tellBroken(stream int) {
	var wait time.Duration
	if c.broken != nil {
		c.broken(stream)
		wait = patience
	}
	if c.stays {
		wait = forever
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epipe == nil {
		c.epipe = time.AfterFunc(wait, func() { c.tell(0) })
	}
}

// tell sends the exit status, once.
func (c *client) tell(exit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told {
		return
	}
	c.told = true
	if c.epipe != nil {
		c.epipe.Stop()
		exit = 128 + int(unix.SIGPIPE)
	}
	_ = c.c.send(Message{Event: Exited, Code: exit})
}

// end: the container has ended.
func (c *client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	c.changed.Broadcast()
}

// finish waits until the client has read everything, for ever unless the container was killed, and tells it the exit status.
// Who waits for the end of a client's output must not wait for the client.
func (c *client) finish(exit int, killed bool) {
	c.mu.Lock()
	for left, since := c.size, time.Now(); c.writing; {
		if !killed {
			c.changed.Wait()
			continue
		}
		c.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		c.mu.Lock()
		if c.size != left {
			left, since = c.size, time.Now()
		} else if time.Since(since) > patience {
			break
		}
	}
	if !c.writing {
		closeAll(c.out[:])
		c.out = [2]*os.File{}
	}
	c.mu.Unlock()
	c.tell(exit)
}

// leave drops a client whose connection has ended.
func (c *client) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	c.changed.Broadcast()
	if !c.writing {
		c.close()
	}
}

// close is not for a moment when write uses the files.
func (c *client) close() {
	closeAll(c.out[:])
	c.out = [2]*os.File{}
	c.queue, c.told = nil, true
	c.c.c.Close()
}
