package network

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Errors that callers test for.
var (
	ErrNotFound = errors.New("no such network")
	ErrInUse    = errors.New("network has active endpoints")
	ErrExists   = errors.New("already exists")
)

const (
	defaultRoot    = "/var/lib/vitro"
	defaultRunRoot = "/run/vitro"
	defaultTable   = "vitro"
)

// Options say where the records are.
type Options struct {
	Root    string // networks/ is below; "" is /var/lib/vitro
	RunRoot string // network/ is below; "" is /run/vitro
	// Table is the name of the nftables table. "" is vitro for the default Root, else vitro-<hash of Root>, so that two
	// roots on one host do not undo each other's work. It also marks the links that are ours.
	Table string
}

// Manager is the door to the networks of one root, in the network namespace of the calling thread.
type Manager struct {
	opt    Options
	inject func(step string) error // tests make steps fail
}

// Open makes the folders. It holds nothing open, so there is no Close.
func Open(opt Options) (*Manager, error) {
	opt.Root = cmp.Or(opt.Root, defaultRoot)
	opt.RunRoot = cmp.Or(opt.RunRoot, defaultRunRoot)
	if opt.Table == "" {
		opt.Table = tableOf(opt.Root)
	}
	m := &Manager{opt: opt}
	for _, dir := range []string{m.root(), m.run("endpoints"), m.run("leases"), m.run("ports")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("network: %w", err)
		}
	}
	return m, nil
}

func tableOf(root string) string {
	if root = filepath.Clean(root); root != defaultRoot {
		return defaultTable + "-" + hash(root)[:8]
	}
	return defaultTable
}

// Table is the name of the table of family inet that holds all rules.
func (m *Manager) Table() string { return m.opt.Table }

func (m *Manager) root(elem ...string) string {
	return filepath.Join(append([]string{m.opt.Root, "networks"}, elem...)...)
}

func (m *Manager) run(elem ...string) string {
	return filepath.Join(append([]string{m.opt.RunRoot, "network"}, elem...)...)
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func newID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// defaultLink is the bridge of the network `bridge`: vitro0, or with another table a name of its own.
func (m *Manager) defaultLink() string {
	if m.opt.Table == defaultTable {
		return "vitro0"
	}
	return "vitro" + hash(m.opt.Table)[:8]
}

// Create defines a network and, for a bridge, makes its link and rules.
func (m *Manager) Create(ctx context.Context, o CreateOptions) (*Network, error) {
	unlock, err := m.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	nets, err := m.predefine()
	if err != nil {
		return nil, err
	}
	n, err := m.create(o, nets)
	if err != nil {
		return nil, fmt.Errorf("network create %s: %w", o.Name, err)
	}
	return n, nil
}

func (m *Manager) create(o CreateOptions, nets []*Network) (*Network, error) {
	n, err := m.define(o, nets)
	if err != nil {
		return nil, err
	}
	var t txn
	t.inject = m.inject
	defer t.rollback()
	if err := t.do("definition", func() error { return m.writeNetwork(n) }, func() { os.Remove(m.root(n.ID + ".json")) }); err != nil {
		return nil, err
	}
	if n.Driver == DriverBridge {
		if _, err := m.ensure(&t, n, false); err != nil {
			return nil, err
		}
	}
	t.commit()
	return n, nil
}

// define checks the options and fills in what was not given; nets are those that there are.
func (m *Manager) define(o CreateOptions, nets []*Network) (*Network, error) {
	n := &Network{
		ID: newID(), Name: o.Name, Driver: cmp.Or(o.Driver, DriverBridge), IPv6: o.IPv6, Internal: o.Internal, Attachable: o.Attachable,
		Options: maps.Clone(o.Options), Labels: maps.Clone(o.Labels), Created: time.Now().UTC(),
	}
	if err := checkName(n.Name); err != nil {
		return nil, err
	}
	for _, other := range nets {
		if other.Name == n.Name {
			return nil, fmt.Errorf("network with name %s %w", n.Name, ErrExists)
		}
	}
	if err := checkOptions(n); err != nil {
		return nil, err
	}
	switch n.Driver {
	case DriverBridge:
		n.Link = cmp.Or(n.Options[OptBridgeName], "br-"+n.ID[:12])
		if n.Name == DefaultNetwork {
			n.Link = m.defaultLink()
		}
	case DriverMacvlan, DriverIPvlan:
		n.Link = n.Options[OptParent]
		if l, err := linkByName(n.Link); err != nil {
			return nil, err
		} else if l == nil {
			return nil, fmt.Errorf("--opt parent=%s: there is no such link", n.Link)
		}
	}
	for _, other := range nets {
		if n.Driver == DriverBridge && other.Driver == DriverBridge && other.Link == n.Link {
			return nil, fmt.Errorf("%s: link %s is used by network %s", OptBridgeName, n.Link, other.Name)
		}
	}
	subnets, err := m.chooseSubnets(n, o.Subnets, nets)
	n.Subnets = subnets
	return n, err
}

// Get finds a network by name, ID, or a unique start of an ID.
func (m *Manager) Get(ctx context.Context, ref string) (*Network, error) {
	nets, err := m.List(ctx)
	if err != nil {
		return nil, err
	}
	return find(nets, ref)
}

func find(nets []*Network, ref string) (*Network, error) {
	var found *Network
	for _, n := range nets {
		if n.Name == ref || n.ID == ref {
			return n, nil
		}
	}
	for _, n := range nets {
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			if found != nil {
				return nil, fmt.Errorf("network %s is ambiguous: %s and %s", ref, found.Name, n.Name)
			}
			found = n
		}
	}
	if found == nil {
		return nil, fmt.Errorf("network %s not found: %w", ref, ErrNotFound)
	}
	return found, nil
}

// List gives all networks by name.
func (m *Manager) List(ctx context.Context) ([]*Network, error) {
	nets, err := m.networks()
	if err != nil || hasPredefined(nets) {
		return nets, err
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return m.predefine()
}

func hasPredefined(nets []*Network) bool {
	k := 0
	for _, n := range nets {
		if predefined(n.Name) {
			k++
		}
	}
	return k == 3
}

func predefined(name string) bool {
	return name == DefaultNetwork || name == HostNetwork || name == NoneNetwork
}

// predefine writes the records of the three networks that are always there. It wants the lock.
func (m *Manager) predefine() ([]*Network, error) {
	nets, err := m.networks()
	if err != nil {
		return nil, err
	}
	for _, o := range []CreateOptions{
		{Name: DefaultNetwork, Driver: DriverBridge},
		{Name: HostNetwork, Driver: DriverHost},
		{Name: NoneNetwork, Driver: DriverNone},
	} {
		if slices.ContainsFunc(nets, func(n *Network) bool { return n.Name == o.Name }) {
			continue
		}
		n, err := m.define(o, nets)
		if err != nil {
			return nil, fmt.Errorf("network %s: %w", o.Name, err)
		}
		if err := m.writeNetwork(n); err != nil {
			return nil, err
		}
		nets = append(nets, n)
	}
	sortNetworks(nets)
	return nets, nil
}

func sortNetworks(nets []*Network) {
	slices.SortFunc(nets, func(a, b *Network) int { return cmp.Compare(a.Name, b.Name) })
}

// Remove removes a network that has no endpoints. The three that are always there are refused.
func (m *Manager) Remove(ctx context.Context, ref string) error {
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	nets, err := m.predefine()
	if err != nil {
		return err
	}
	n, err := find(nets, ref)
	if err != nil {
		return err
	}
	if predefined(n.Name) {
		return fmt.Errorf("network rm %s: %s is a pre-defined network and cannot be removed", ref, n.Name)
	}
	used, err := m.users(n)
	if err != nil {
		return err
	}
	if len(used) > 0 {
		return fmt.Errorf("network rm %s: %w: %s", n.Name, ErrInUse, used[0].label())
	}
	return m.remove(n)
}

// users are the live endpoints on a network; the dead ones are cleaned up.
func (m *Manager) users(n *Network) ([]*Endpoint, error) {
	eps, err := m.endpoints(Filter{Network: n.ID})
	if err != nil {
		return nil, err
	}
	var live []*Endpoint
	for _, e := range eps {
		if e.State == Attached && e.Alive() {
			live = append(live, e)
		} else if err := m.detach(e); err != nil {
			return nil, err
		}
	}
	return live, nil
}

// remove takes the definition last: what a kill leaves is still a network, which can be removed again.
func (m *Manager) remove(n *Network) error {
	if n.Driver == DriverBridge {
		if err := m.removeRules(networkElements(n)); err != nil {
			return fmt.Errorf("network rm %s: %w", n.Name, err)
		}
		if err := m.removeBridge(n); err != nil {
			return fmt.Errorf("network rm %s: %w", n.Name, err)
		}
	}
	if err := os.RemoveAll(m.run("leases", n.ID[:12])); err != nil {
		return fmt.Errorf("network rm %s: %w", n.Name, err)
	}
	if err := os.Remove(m.root(n.ID + ".json")); err != nil {
		return fmt.Errorf("network rm %s: %w", n.Name, err)
	}
	return syncDir(m.root())
}

// Prune removes the networks that have no endpoints and that keep (may be nil) does not want, and gives their names.
func (m *Manager) Prune(ctx context.Context, keep func(*Network) bool) ([]string, error) {
	unlock, err := m.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	nets, err := m.networks()
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, n := range nets {
		if predefined(n.Name) || (keep != nil && keep(n)) {
			continue
		}
		used, err := m.users(n)
		if err != nil {
			return gone, err
		}
		if len(used) > 0 {
			continue
		}
		if err := m.remove(n); err != nil {
			return gone, err
		}
		gone = append(gone, n.Name)
	}
	return gone, m.leave()
}
