package network

import (
	"context"
	"errors"
)

var errUnbuilt = errors.New("not built yet")

// Errors that callers test for.
var (
	ErrNotFound = errors.New("no such network")
	ErrInUse    = errors.New("network has active endpoints")
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
type Manager struct{ opt Options }

// Open makes the folders. It holds nothing open, so there is no Close.
func Open(opt Options) (*Manager, error) { return nil, errUnbuilt }

// Create defines a network and, for a bridge, makes its link and rules.
func (m *Manager) Create(ctx context.Context, o CreateOptions) (*Network, error) {
	return nil, errUnbuilt
}

// Get finds a network by name, ID, or a unique start of an ID.
func (m *Manager) Get(ctx context.Context, ref string) (*Network, error) { return nil, errUnbuilt }

// List gives all networks by name.
func (m *Manager) List(ctx context.Context) ([]*Network, error) { return nil, errUnbuilt }

// Remove removes a network that has no endpoints. The three that are always there are refused.
func (m *Manager) Remove(ctx context.Context, ref string) error { return errUnbuilt }

// Prune removes the networks that have no endpoints and that keep (may be nil) does not want, and gives their names.
func (m *Manager) Prune(ctx context.Context, keep func(*Network) bool) ([]string, error) {
	return nil, errUnbuilt
}

// Attach gives a namespace an interface on a network: addresses, routes, published ports. After an error nothing is left.
// Networks none and host are refused: they are a choice of namespace, made when a container starts.
func (m *Manager) Attach(ctx context.Context, r Request) (*Endpoint, error) { return nil, errUnbuilt }

// Detach undoes Attach, whether the namespace is still there or not. No such endpoint is no error.
func (m *Manager) Detach(ctx context.Context, container, network string) error { return errUnbuilt }

// DetachAll is Detach from every network.
func (m *Manager) DetachAll(ctx context.Context, container string) error { return errUnbuilt }

// Endpoints lists what is attached, by container name and network. It takes no lock.
func (m *Manager) Endpoints(f Filter) ([]*Endpoint, error) { return nil, errUnbuilt }

// Alive tells whether the endpoint's owner and namespace are there.
func (e *Endpoint) Alive() bool { return false }

// Reconcile makes the kernel agree with the records: it removes endpoints whose owner is gone, and makes again what
// somebody flushed or deleted: bridges, addresses, veths (if their container lives), rules.
func (m *Manager) Reconcile(ctx context.Context) (Report, error) { return Report{}, errUnbuilt }
