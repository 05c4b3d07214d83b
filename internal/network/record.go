package network

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vitro/internal/sys"

	"golang.org/x/sys/unix"
)

// lock takes the lock of all that changes. It is held for milliseconds, so waiting is a short sleep: flock(2) itself
// cannot be cancelled.
func (m *Manager) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(m.run("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 2*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return nil, fmt.Errorf("flock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("network: waiting for %s: %w", f.Name(), ctx.Err())
		case <-time.After(wait):
		}
	}
}

// replaceFile writes by a staged file and a rename; durable also flushes file and folder.
func replaceFile(path string, v any, durable bool) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil && durable {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	if durable {
		return syncDir(filepath.Dir(path))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (m *Manager) writeNetwork(n *Network) error {
	if err := replaceFile(m.root(n.ID+".json"), n, true); err != nil {
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	return nil
}

// networks reads the definitions, by name.
func (m *Manager) networks() ([]*Network, error) {
	names, err := records(m.root())
	if err != nil {
		return nil, err
	}
	var nets []*Network
	for _, name := range names {
		n := &Network{}
		err := readRecord(m.root(name), n)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err == nil && (len(n.ID) != 64 || name != n.ID+".json") {
			err = fmt.Errorf("its Id %q is not its name", n.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("network: %s: %w", m.root(name), err)
		}
		nets = append(nets, n)
	}
	sortNetworks(nets)
	return nets, nil
}

// records lists the *.json of a folder; staged files begin with a dot.
func records(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("network: %s: %w", dir, err)
	}
	return slices.DeleteFunc(names, func(n string) bool { return n[0] == '.' || !strings.HasSuffix(n, ".json") }), nil
}

func readRecord(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func (m *Manager) endpointPath(container, network string) string {
	return m.run("endpoints", container, network+".json")
}

func (m *Manager) writeEndpoint(e *Endpoint) error {
	path := m.endpointPath(e.Container, e.Network)
	err := replaceFile(path, e, false)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.Mkdir(filepath.Dir(path), 0o700); err == nil {
			err = replaceFile(path, e, false)
		}
	}
	if err != nil {
		return fmt.Errorf("endpoint %s: %w", e.label(), err)
	}
	return nil
}

func (m *Manager) removeEndpoint(e *Endpoint) error {
	path := m.endpointPath(e.Container, e.Network)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	os.Remove(filepath.Dir(path)) // fails while the container has other endpoints
	return nil
}

// Endpoints lists what is attached, by container name and network. It takes no lock.
func (m *Manager) Endpoints(f Filter) ([]*Endpoint, error) {
	eps, err := m.endpoints(f)
	return slices.DeleteFunc(eps, func(e *Endpoint) bool { return e.State != Attached }), err
}

func (m *Manager) endpoints(f Filter) ([]*Endpoint, error) {
	containers := []string{f.Container}
	if f.Container == "" {
		dirs, err := os.ReadDir(m.run("endpoints"))
		if err != nil {
			return nil, fmt.Errorf("network: %w", err)
		}
		containers = containers[:0]
		for _, d := range dirs {
			containers = append(containers, d.Name())
		}
	}
	var eps []*Endpoint
	for _, c := range containers {
		names, err := records(m.run("endpoints", c))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if f.Network != "" && name != f.Network+".json" {
				continue
			}
			e := &Endpoint{}
			err := readRecord(m.run("endpoints", c, name), e)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil && (e.Container != c || name != e.Network+".json") {
				err = errors.New("its names do not match its path")
			}
			if err != nil {
				return nil, fmt.Errorf("network: %s: %w", m.run("endpoints", c, name), err)
			}
			eps = append(eps, e)
		}
	}
	slices.SortFunc(eps, func(a, b *Endpoint) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Container, b.Container), cmp.Compare(a.NetworkName, b.NetworkName))
	})
	return eps, nil
}

// label names an endpoint in messages.
func (e *Endpoint) label() string {
	return cmp.Or(e.Name, e.Container[:min(12, len(e.Container))]) + " on " + e.NetworkName
}

// Alive tells whether the endpoint's owner and namespace are there.
func (e *Endpoint) Alive() bool {
	if e.PID > 0 {
		if _, ok := sys.Lives(e.PID, e.Start); !ok {
			return false
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(e.NetNS.Path, &st); err != nil {
		return false
	}
	return st.Dev == e.NetNS.Dev && st.Ino == e.NetNS.Ino
}

var errName = errors.New("only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")

// checkName guards what becomes part of a path: network names and the ids of containers.
func checkName(s string) error {
	if s == "" {
		return errors.New("a name is needed")
	}
	for i, c := range []byte(s) {
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && (i == 0 || c != '_' && c != '.' && c != '-' && c != '+') || len(s) > 255 {
			return fmt.Errorf("invalid name %q: %w", s, errName)
		}
	}
	return nil
}
