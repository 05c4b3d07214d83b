package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"vitro/internal/network"
)

// Reconcile notes the ends of containers that nobody looks after, makes the kernel agree with the records of networks, and has
// plugins undo what they made for containers that do not run.
func (e *Engine) Reconcile(ctx context.Context) (network.Report, error) {
	list, err := e.List()
	if err != nil {
		return network.Report{}, err
	}
	m, err := e.Networks()
	if err != nil {
		return network.Report{}, err
	}
	dropped, err := e.dropUnnoted(ctx, m, list)
	r, failed := m.Reconcile(ctx)
	added, again := e.addNoted(ctx, m, list)
	r.Changes, failed = append(append(dropped, r.Changes...), added...), errors.Join(err, failed, again)
	if _, err := os.Stat(e.cniDir()); err != nil {
		return r, failed
	}
	attached, err := e.cni().Attachments("")
	failed = errors.Join(failed, err)
	for _, a := range attached {
		l, err := e.look(a.Container)
		if err == nil && l.Status == Running {
			r.Kept++
			continue
		}
		lock, err := e.lock(a.Container, 0)
		if errors.Is(err, errBusy) { // it is being started
			r.Kept++
			continue
		}
		if err == nil {
			defer lock.Close()
		}
		if err := e.detach(a.Container); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		r.Changes = append(r.Changes, fmt.Sprintf("endpoint %s on cni:%s: removed, its owner is gone", shortID(a.Container), a.Network))
	}
	return r, failed
}

// dropUnnoted detaches containers from networks that they are not noted to be on: a connect or disconnect was killed in between.
func (e *Engine) dropUnnoted(ctx context.Context, m *network.Manager, list []*Live) (changes []string, failed error) {
	unnoted := func(l *Live, now []Attachment) ([]*network.Endpoint, error) {
		eps, err := m.Endpoints(network.Filter{Container: l.ID})
		return slices.DeleteFunc(eps, func(ep *network.Endpoint) bool {
			return slices.ContainsFunc(now, func(a Attachment) bool { return a.Network == ep.NetworkName })
		}), err
	}
	for _, l := range list {
		if l.Status != Running || !l.HostConfig.wired() {
			continue
		}
		if eps, err := unnoted(l, e.networksOf(l.Container)); err != nil || len(eps) == 0 {
			failed = errors.Join(failed, err)
			continue
		}
		err := e.editNetworks(l, func(l *Live, now []Attachment) ([]Attachment, error) { // once more: it may be one that goes on
			eps, err := unnoted(l, now)
			for _, ep := range eps {
				err = errors.Join(err, e.unplug(ctx, m, l, ep.Network, []*network.Endpoint{ep}))
				changes = append(changes, fmt.Sprintf("endpoint %s on %s: removed, it is not noted to be on it", l.Name, ep.NetworkName))
			}
			return now, err
		})
		failed = errors.Join(failed, err)
	}
	return changes, failed
}

// addNoted attaches running containers to networks that they are noted to be on, and publishes ports again that no endpoint has: a disconnect
// was killed while the ports moved to another network.
func (e *Engine) addNoted(ctx context.Context, m *network.Manager, list []*Live) (changes []string, failed error) {
	missing := func(l *Live, now []Attachment) (out []*network.Network, as []Attachment, err error) {
		eps, err := m.Endpoints(network.Filter{Container: l.ID})
		for _, a := range now {
			on := func(ep *network.Endpoint) bool { return ep.NetworkName == a.Network }
			if strings.HasPrefix(a.Network, cniPrefix) || slices.ContainsFunc(eps, on) {
				continue
			}
			if n, err := m.Get(ctx, a.Network); err == nil { // else the next start says that it is not there
				out, as = append(out, n), append(as, a)
			}
		}
		return out, as, err
	}
	for _, l := range list {
		if l.Status != Running || !l.HostConfig.wired() {
			continue
		}
		nets, _, err := missing(l, e.networksOf(l.Container))
		idle, portErr := e.portsIdle(m, l.ID)
		if err = errors.Join(err, portErr); err != nil || len(nets)+len(idle) == 0 {
			if err != nil && !e.ended(l) {
				failed = errors.Join(failed, err)
			}
			continue
		}
		err = e.editNetworks(l, func(l *Live, now []Attachment) ([]Attachment, error) {
			if l.Status != Running {
				return now, nil
			}
			nets, as, err := missing(l, now)
			for i, n := range nets {
				if err = errors.Join(err, e.plug(ctx, m, l, n, as[i])); err == nil {
					changes = append(changes, fmt.Sprintf("endpoint %s on %s: attached again", l.Name, n.Name))
				}
			}
			if err == nil {
				err = e.dropLostHosts(l)
			}
			if idle, portErr := e.portsIdle(m, l.ID); err == nil && len(idle) > 0 {
				err = errors.Join(portErr, e.movePorts(ctx, m, l))
				if left, _ := e.portsIdle(m, l.ID); err == nil && len(left) == 0 {
					changes = append(changes, fmt.Sprintf("ports of %s: published again", l.Name))
				}
			}
			if err != nil && e.ended(l) {
				err = nil
			}
			return now, err
		})
		failed = errors.Join(failed, err)
	}
	return changes, failed
}
