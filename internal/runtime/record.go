package runtime

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"vitro/internal/cgroup"
	"vitro/internal/compile"
	"vitro/internal/plan"
	"vitro/internal/spec"
	"vitro/internal/spec/jsonx"
	"vitro/internal/stub"
	"vitro/internal/sys"
)

// Files of a state folder.
const (
	stateFile   = "/state.json"
	configFile  = "/config.json" // the config that the container was made of, normalised
	seccompFile = "/seccomp.bpf" // flags (4 bytes), then the filter
	execFIFO    = "/exec.fifo"   // init reads its go from it
	errorFIFO   = "/error.fifo"  // init writes a failed start to it
)

// record is state.json: facts that do not change, and no status. Names are runc's where it has one.
type record struct {
	id          string
	version     string // of the config's spec
	init        process
	created     string
	bundle      string
	rootfs      string
	annotations map[string]string
	cgroups     []cgroup.Path
	stub        string        // stub.ExeID of a waiting init
	privatePID  bool          // init's death ends every process
	noKeyring   bool          // --no-new-keyring
	ready       bool          // create has ended well
	texts       []failureText // of the ops behind the wait, for start
}

// failureText is the text of a failure of one op, with %e for the errno's.
type failureText struct {
	op   int
	text string
}

// waitStart is how compile calls the op that waits for start.
const waitStart = "wait for start"

// failureTexts collects the texts of the stub's ops of p from its wait on.
func failureTexts(p *plan.Program) (out []failureText) {
	from := len(p.Ops)
	for i := range p.Ops {
		if p.Ops[i].What == waitStart {
			from = i
		}
	}
	for i := from; i < len(p.Ops); i++ {
		o := &p.Ops[i]
		if o.Do != plan.Stub {
			continue
		}
		t := o.Msg
		if t == "" {
			t = strings.TrimSuffix((&stub.OpError{Op: o, Errno: unix.EPERM}).Error(), unix.EPERM.Error()) + "%e"
		}
		out = append(out, failureText{i, t})
	}
	return out
}

func (c *record) encode() []byte {
	var w jsonx.Writer
	w.Grow(1024)
	w.BeginObject()
	str := func(k, v string) { w.Key(k); w.String(v) }
	str("id", c.id)
	str("oci_version", c.version)
	w.Key("init_process_pid")
	w.Int(int64(c.init.pid))
	w.Key("init_process_start")
	w.Uint(c.init.start)
	str("created", c.created)
	str("bundle", c.bundle)
	str("rootfs", c.rootfs)
	if len(c.annotations) > 0 {
		w.Key("annotations")
		w.BeginObject()
		for k, v := range c.annotations {
			str(k, v)
		}
		w.EndObject()
	}
	w.Key("cgroup_paths")
	w.BeginObject()
	for _, p := range c.cgroups {
		str(p.Controller, p.Path)
	}
	w.EndObject()
	str("stub", c.stub)
	w.Key("private_pid")
	w.Bool(c.privatePID)
	w.Key("no_new_keyring")
	w.Bool(c.noKeyring)
	w.Key("ready")
	w.Bool(c.ready)
	w.Key("start_texts")
	w.BeginArray()
	for _, t := range c.texts {
		w.BeginObject()
		w.Key("op")
		w.Int(int64(t.op))
		str("text", t.text)
		w.EndObject()
	}
	w.EndArray()
	w.EndObject()
	return w.Bytes()
}

func decodeRecord(b []byte) (*record, error) {
	c := new(record)
	s := jsonx.NewScanner(b)
	for name := range s.Object {
		switch name {
		case "id":
			c.id = s.String()
		case "oci_version":
			c.version = s.String()
		case "init_process_pid":
			c.init.pid = int(s.Int(32))
		case "init_process_start":
			c.init.start = s.Uint(64)
		case "created":
			c.created = s.String()
		case "bundle":
			c.bundle = s.String()
		case "rootfs":
			c.rootfs = s.String()
		case "annotations":
			c.annotations = map[string]string{}
			for k := range s.Object {
				c.annotations[k] = s.String()
			}
		case "cgroup_paths":
			for k := range s.Object {
				c.cgroups = append(c.cgroups, cgroup.Path{Controller: k, Path: s.String()})
			}
		case "stub":
			c.stub = s.String()
		case "private_pid":
			c.privatePID = s.Bool()
		case "no_new_keyring":
			c.noKeyring = s.Bool()
		case "ready":
			c.ready = s.Bool()
		case "start_texts":
			for range s.Array {
				c.texts = append(c.texts, decodeText(s))
			}
		}
	}
	return c, s.End()
}

func decodeText(s *jsonx.Scanner) (t failureText) {
	for name := range s.Object {
		switch name {
		case "op":
			t.op = int(s.Int(32))
		case "text":
			t.text = s.String()
		}
	}
	return t
}

// startError decodes a record from error.fifo.
func (c *record) startError(b []byte) error {
	e, err := stub.ParseRecord(&plan.Program{}, b)
	if oe, ok := err.(*stub.OpError); ok {
		e = oe
	}
	if e == nil {
		return err
	}
	for _, t := range c.texts {
		if t.op == e.Index {
			return &startFailure{strings.Replace(t.text, "%e", e.Errno.Error(), 1), e.Errno}
		}
	}
	return &startFailure{"op " + sys.Itoa(e.Index) + ": " + e.Errno.Error(), e.Errno}
}

type startFailure struct {
	text  string
	errno error
}

func (e *startFailure) Error() string { return e.text }
func (e *startFailure) Unwrap() error { return e.errno }

// store writes state.json: a reader sees the old one or the new one.
func (c *record) store(dir string) error {
	return writeFile(dir+stateFile, c.encode(), 0o600)
}

// writeNew writes a file of a folder that nobody reads yet: the record that is stored last makes it valid.
func writeNew(path string, content []byte) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return wrap("open "+path, err)
	}
	err = sys.WriteAll(fd, content)
	unix.Close(fd)
	return wrap("write "+path, err)
}

// writeFile writes path by way of a temporary file in the same folder.
func writeFile(path string, content []byte, mode uint32) error {
	tmp := tempName(path)
	fd, err := unix.Open(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, mode)
	if err != nil {
		return wrap("open "+tmp, err)
	}
	err = sys.WriteAll(fd, content)
	unix.Close(fd)
	if err == nil {
		err = unix.Rename(tmp, path)
	}
	if err != nil {
		_ = unix.Unlink(tmp)
		return wrap("write "+path, err)
	}
	return nil
}

// tempName is FOLDER/.NAME, as runc's.
func tempName(path string) string {
	i := strings.LastIndexByte(path, '/') + 1
	return path[:i] + "." + path[i:]
}

// loadConfig reads the config that the container was made of.
func loadConfig(dir string) (*specs.Spec, error) {
	b, err := sys.ReadFile(dir + configFile)
	if err != nil {
		return nil, wrap("read "+dir+configFile, err)
	}
	s, _, err := spec.Decode(b)
	return s, wrap(dir+configFile, err)
}

func le32(n uint32) []byte { return []byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)} }

// loadFilter reads the container's seccomp filter, nil where it has none.
func loadFilter(dir string) (*compile.Facts, error) {
	b, err := sys.ReadFile(dir + seccompFile)
	switch {
	case err == unix.ENOENT:
		return nil, nil
	case err != nil:
		return nil, wrap("read "+dir+seccompFile, err)
	case len(b) < 4:
		return nil, text(dir + seccompFile + ": too short")
	}
	flags := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
	return &compile.Facts{Program: b[4:], SecFlags: flags}, nil
}
