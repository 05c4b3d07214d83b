package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"vitro/internal/network"
)

// NetworkNotFoundError is network.ErrNotFound in Docker's words.
type NetworkNotFoundError struct{ Ref string }

func (e *NetworkNotFoundError) Error() string        { return "network " + e.Ref + " not found" }
func (e *NetworkNotFoundError) Is(target error) bool { return target == network.ErrNotFound }

// FindNetwork is Manager.Get in Docker's words.
func FindNetwork(ctx context.Context, m *network.Manager, ref string) (*network.Network, error) {
	n, err := m.Get(ctx, ref)
	if errors.Is(err, network.ErrNotFound) {
		return nil, &NetworkNotFoundError{ref}
	}
	return n, err
}

// netnsOf is the network namespace of a running container.
func (e *Engine) netnsOf(id string) (string, error) {
	l, err := e.Find(id)
	if err != nil {
		return "", err
	}
	if l.Status != Running {
		return "", fmt.Errorf("cannot join network of a non running container: %s", l.ID)
	}
	return fmt.Sprintf("/proc/%d/ns/net", l.PID), nil
}

// Connect puts a container on a further network: at once if it runs, else when it starts.
func (e *Engine) Connect(ctx context.Context, netRef, ref string, a Attachment) error {
	if err := a.check(); err != nil {
		return err
	}
	l, m, n, err := e.pair(ctx, netRef, ref)
	if err != nil {
		return err
	}
	switch {
	case n.Driver == network.DriverHost:
		return errors.New("container cannot be disconnected from host network or connected to host network")
	case n.Driver == network.DriverNone || l.HostConfig.NetworkMode == noneMode:
		return errors.New("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	case !l.HostConfig.wired():
		return errors.New("container sharing network namespace with another container or host cannot be connected to any other network")
	}
	a.Network = n.Name
	return e.editNetworks(l, func(l *Live, now []Attachment) ([]Attachment, error) {
		if slices.ContainsFunc(now, func(o Attachment) bool { return o.Network == n.Name }) {
			return nil, fmt.Errorf("endpoint with name %s already exists in network %s", l.Name, n.Name)
		}
		if l.Status == Running {
			if err := e.plug(ctx, m, l, n, a); err != nil && !e.ended(l) {
				return nil, err
			}
		}
		return append(now, a), nil
	})
}

// plug attaches a running container.
func (e *Engine) plug(ctx context.Context, m *network.Manager, l *Live, n *network.Network, a Attachment) error {
	ports, err := e.idlePorts(m, l.ID, n)
	if err != nil {
		return err
	}
	if err := m.Detach(ctx, l.ID, n.ID); err != nil { // what a connect has left that was killed
		return err
	}
	ifName, err := e.besidePlugins(m, l.ID)
	if err != nil {
		return err
	}
	ep, err := m.Attach(ctx, e.request(l.Container, l.PID, ifName, a, ports))
	if err != nil {
		return err
	}
	e.namesChanged()
	if err := e.editHosts(l.Container, nil, addresses(ep)); err != nil {
		return errors.Join(err, m.Detach(ctx, l.ID, n.ID))
	}
	return nil
}

// besidePlugins is the name for one more interface of a running container, of whose plugins' the manager does not know. Without plugins it is "",
// the manager's choice.
func (e *Engine) besidePlugins(m *network.Manager, id string) (string, error) {
	if len(e.cniResults(id)) == 0 {
		return "", nil
	}
	var used []string
	attached, err := e.cni().Attachments(id)
	for _, a := range attached {
		used = append(used, a.IfName)
	}
	eps, failed := m.Endpoints(network.Filter{Container: id})
	for _, ep := range eps {
		used = append(used, ep.IfName)
	}
	for i := 0; ; i++ {
		if name := "eth" + strconv.Itoa(i); !slices.Contains(used, name) {
			return name, errors.Join(err, failed)
		}
	}
}

// ended tells whether a container that ran when it was looked at has ended since: its monitor undoes what was made for it. One that is not
// reaped yet has no namespaces any more.
func (e *Engine) ended(l *Live) bool {
	if l.Status != Running {
		return false
	}
	run, err := readRunState(e.runDir(l.ID))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	_, err = os.Readlink(fmt.Sprintf("/proc/%d/ns/net", run.PID))
	return err != nil || !run.alive()
}

// idlePorts are the host ports of a running container that has lost the network which they were published on.
func (e *Engine) idlePorts(m *network.Manager, id string, to *network.Network) ([]network.Port, error) {
	if to.Driver != network.DriverBridge || to.Internal {
		return nil, nil
	}
	run, err := e.portsIdle(m, id)
	return slices.DeleteFunc(run, func(p network.Port) bool { return !to.Publishes(p) }), err
}

// portsIdle are the host ports of a running container if no endpoint has them.
func (e *Engine) portsIdle(m *network.Manager, id string) ([]network.Port, error) {
	run, err := readRunState(e.runDir(id))
	if err != nil || len(run.Ports) == 0 {
		return nil, err
	}
	for _, r := range e.cniResults(id) {
		if r.Publishes {
			return nil, nil
		}
	}
	eps, err := m.Endpoints(network.Filter{Container: id})
	if err != nil || slices.ContainsFunc(eps, func(ep *network.Endpoint) bool { return len(ep.Ports) > 0 }) {
		return nil, err
	}
	return run.Ports, nil
}

// movePorts publishes the ports of a running container, which has lost the network that they were on, through another one. The
// interface is made again with the same addresses: connections survive that as a moment without a carrier.
func (e *Engine) movePorts(ctx context.Context, m *network.Manager, l *Live) error {
	eps, err := m.Endpoints(network.Filter{Container: l.ID})
	for _, ep := range eps {
		n, err := m.Get(ctx, ep.Network)
		if err != nil {
			return err
		}
		ports, err := e.idlePorts(m, l.ID, n)
		if err != nil || len(ports) == 0 {
			continue
		}
		r := network.Request{
			Container: l.ID, Name: l.Name, Network: n.ID, PID: l.PID, IfName: ep.IfName, MAC: ep.MAC, IP4: ep.IP4.Addr(), IP6: ep.IP6.Addr(),
			Aliases: ep.Aliases, Ports: ports, Reserved: true, Again: true,
		}
		if err := m.Detach(ctx, l.ID, n.ID); err != nil {
			return err
		}
		if _, err = m.Attach(ctx, r); err != nil {
			r.Ports, r.Reserved = nil, false
			_, again := m.Attach(ctx, r)
			return errors.Join(err, again)
		}
		return nil
	}
	return err
}

// Disconnect takes a container off a network. With force, a container that is not there is no error if it has an endpoint.
func (e *Engine) Disconnect(ctx context.Context, netRef, ref string, force bool) error {
	l, m, n, err := e.pair(ctx, netRef, ref)
	if force && errors.Is(err, ErrNotFound) && n != nil {
		return disconnectLost(ctx, m, n, ref, err)
	}
	if err != nil {
		return err
	}
	if n.Driver == network.DriverHost {
		return errors.New("container cannot be disconnected from host network or connected to host network")
	}
	return e.editNetworks(l, func(l *Live, now []Attachment) ([]Attachment, error) {
		i := slices.IndexFunc(now, func(o Attachment) bool { return o.Network == n.Name })
		eps, err := m.Endpoints(network.Filter{Container: l.ID, Network: n.ID})
		if i < 0 && len(eps) == 0 {
			return nil, errors.Join(err, fmt.Errorf("container %s is not connected to network %s", l.ID, n.Name))
		}
		left := now
		if i >= 0 { // else a connect was killed before it was noted
			left = slices.Delete(slices.Clone(now), i, i+1)
		}
		if err == nil { // noted first: what a kill leaves undone is Reconcile's to do
			err = e.noteNetworks(l.Container, left)
		}
		if err != nil {
			return nil, err
		}
		if err := e.unplug(ctx, m, l, n.ID, eps); err != nil && !e.ended(l) {
			if eps, failed := m.Endpoints(network.Filter{Container: l.ID, Network: n.ID}); failed != nil || len(eps) > 0 {
				err = errors.Join(err, e.noteNetworks(l.Container, now))
			}
			return nil, err
		}
		return left, nil
	})
}

// unplug detaches a container, which may run, from the network of these endpoints.
func (e *Engine) unplug(ctx context.Context, m *network.Manager, l *Live, netID string, eps []*network.Endpoint) error {
	var gone []netip.Addr
	for _, ep := range eps {
		gone = append(gone, addresses(ep)...)
	}
	running := l.Status == Running
	if running { // first: who is killed later on has left no line
		if err := e.editHosts(l.Container, gone, nil); err != nil {
			return err
		}
	}
	err := m.Detach(ctx, l.ID, netID)
	e.namesChanged()
	if err != nil && running {
		return errors.Join(err, e.editHosts(l.Container, nil, gone))
	}
	if err == nil && running {
		err = e.movePorts(ctx, m, l)
	}
	return err
}

// disconnectLost removes an endpoint whose container has no record.
func disconnectLost(ctx context.Context, m *network.Manager, n *network.Network, ref string, missing error) error {
	eps, err := m.Endpoints(network.Filter{Network: n.ID})
	if err != nil {
		return err
	}
	for _, ep := range eps {
		if ep.Name == ref || strings.HasPrefix(ep.Container, ref) {
			return m.Detach(ctx, ep.Container, n.ID)
		}
	}
	return missing
}

// pair finds both sides; the network also when there is no such container.
func (e *Engine) pair(ctx context.Context, netRef, ref string) (*Live, *network.Manager, *network.Network, error) {
	m, err := e.Networks()
	if err != nil {
		return nil, nil, nil, err
	}
	n, err := FindNetwork(ctx, m, netRef)
	if err != nil {
		return nil, nil, nil, err
	}
	l, err := e.Find(ref)
	return l, m, n, err
}

// lockNetworks is for who changes the networks of a container, in its record or in the kernel: its monitor from the reading of the record to the note that
// it runs, connect, disconnect, and who removes it. The lock is its folder's.
func (e *Engine) lockNetworks(c *Container, wait time.Duration) (*os.File, error) {
	lock, err := flock(e.dir(c.ID), syscall.LOCK_EX, wait)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{c.Name}
	}
	return lock, err
}

// networksWait is what a plugin may take while a container starts.
const networksWait = 2 * time.Minute

// editNetworks changes what a container is on: networks.json beside the record, which its monitor may write any time. f has the container as it is
// under the lock: it does not start meanwhile.
func (e *Engine) editNetworks(l *Live, f func(*Live, []Attachment) ([]Attachment, error)) error {
	c := l.Container
	lock, err := e.lockNetworks(c, networksWait)
	if err != nil {
		return err
	}
	defer lock.Close()
	gone := func(err error) error {
		if _, look := e.look(c.ID); errors.Is(look, ErrNotFound) {
			return &NotFoundError{c.Name}
		}
		return err
	}
	if l, err = e.look(c.ID); err != nil {
		return gone(err)
	}
	nets, err := f(l, e.networksOf(c))
	if err != nil {
		return gone(err)
	}
	if err := e.noteNetworks(c, nets); err != nil {
		return gone(err)
	}
	return nil
}

func (e *Engine) noteNetworks(c *Container, nets []Attachment) error {
	b, err := json.Marshal(nets)
	if err != nil {
		return err
	}
	return replaceFile(e.dir(c.ID, networksFile), append(b, '\n'), !c.HostConfig.AutoRemove)
}
