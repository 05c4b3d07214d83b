package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Request is a client's only message. Its files follow the order stdout, stderr.
type Request struct {
	Exec   []byte // no attachment: Config.Exec is called with it
	Stdout bool   // a file is given for it; with a terminal everything comes there
	Stderr bool
	Stdin  bool   // the client wants the container's input
	Start  []byte // for the one that starts the container: what Config.Start is called with
}

// Message is what the monitor sends.
type Message struct {
	Event string // Started, Failed, Exited or Refused
	PID   int    `json:",omitempty"` // Started
	Input bool   `json:",omitempty"` // Started: a file comes with it
	Code  int    `json:",omitempty"` // Exited: exit status; Failed: 125, 126 or 127
	Error string `json:",omitempty"` // Failed
}

// Events.
const (
	Started = "started"
	Failed  = "failed"
	Exited  = "exited"
	Refused = "refused" // this monitor does not exec
)

// maxMessage bounds a packet; a request carries folder names of layers.
const maxMessage = 128 << 10

// conn is a SOCK_SEQPACKET socket that carries JSON and files.
type conn struct{ c *net.UnixConn }

func newConn(f *os.File) (*conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("not a unix socket")
	}
	return &conn{u}, nil
}

func (c *conn) send(v any, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return fmt.Errorf("message of %d bytes is too long", len(b))
	}
	var oob []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, fdOf(f))
		}
		oob = unix.UnixRights(fds...)
	}
	_, _, err = c.c.WriteMsgUnix(b, oob, nil)
	return err
}

// receive decodes one packet into v. io.EOF: the other side is gone.
func (c *conn) receive(v any) (files []*os.File, err error) {
	b, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := c.c.ReadMsgUnix(b, oob)
	if n == 0 && err == nil || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) {
		err = io.EOF
	}
	if err != nil {
		return nil, err
	}
	if files, err = parseFiles(oob[:oobn]); err != nil {
		return nil, err
	}
	if err = json.Unmarshal(b[:n], v); err != nil {
		closeAll(files)
	}
	return files, err
}

// Client is the other end of an attachment.
type Client struct{ c *conn }

// NewClient takes over f, one end of a socketpair.
func NewClient(f *os.File) (*Client, error) {
	c, err := newConn(f)
	return &Client{c}, err
}

// Dial attaches to a running monitor by its socket.
func Dial(path string) (*Client, error) {
	short, done, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: short, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	return &Client{&conn{c}}, nil
}

// Send sends the request; stdout and stderr may be nil.
func (c *Client) Send(r Request, stdout, stderr *os.File) error {
	var files []*os.File
	if r.Stdout = stdout != nil; r.Stdout {
		files = append(files, stdout)
	}
	if r.Stderr = stderr != nil; r.Stderr {
		files = append(files, stderr)
	}
	return c.c.send(r, files...)
}

// Next waits for a message; input is the container's, if it comes with this one.
func (c *Client) Next() (m Message, input *os.File, err error) {
	files, err := c.c.receive(&m)
	if err == io.EOF {
		err = errors.New("the container's monitor died")
	}
	if len(files) > 0 {
		input = files[0]
	}
	return m, input, err
}

// Close detaches.
func (c *Client) Close() error { return c.c.c.Close() }
