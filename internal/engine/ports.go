package engine

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"vitro/internal/network"
)

// setPorts takes the ports that are published and exposed.
func (c *Container) setPorts(image map[string]struct{}, o CreateOptions) error {
	expose := func(p network.Port) {
		if c.Config.ExposedPorts == nil {
			c.Config.ExposedPorts = map[string]struct{}{}
		}
		c.Config.ExposedPorts[PortKey(p)] = struct{}{}
	}
	for _, arg := range slices.AppendSeq(slices.Clone(o.Expose), maps.Keys(image)) {
		ports, err := network.ParseExpose(arg)
		if err != nil {
			return err
		}
		for _, p := range ports {
			expose(p)
		}
	}
	h := &c.HostConfig
	for _, arg := range o.Publish {
		ports, err := network.ParsePorts(arg)
		if err != nil {
			return err
		}
		for _, p := range ports {
			expose(p)
			if h.PortBindings == nil {
				h.PortBindings = map[string][]PortBinding{}
			}
			h.PortBindings[PortKey(p)] = append(h.PortBindings[PortKey(p)], newBinding(p))
		}
	}
	return nil
}

// PortKey is Docker's name of a container's port: 80/tcp.
func PortKey(p network.Port) string { return strconv.Itoa(int(p.Port)) + "/" + p.Proto }

func newBinding(p network.Port) PortBinding {
	b := PortBinding{}
	if p.HostIP.IsValid() {
		b.HostIP = p.HostIP.String()
	}
	if p.HostPort != 0 {
		b.HostPort = strconv.Itoa(int(p.HostPort))
	}
	if p.HostEnd != 0 {
		b.HostPort += "-" + strconv.Itoa(int(p.HostEnd))
	}
	return b
}

// ports are those to publish, in the order of their numbers.
func (c *Container) ports() (out []network.Port, err error) {
	h := &c.HostConfig
	for key, bindings := range h.PortBindings {
		for _, b := range bindings {
			arg := b.HostPort + ":" + key
			if strings.Contains(b.HostIP, ":") {
				arg = "[" + b.HostIP + "]:" + arg
			} else if b.HostIP != "" {
				arg = b.HostIP + ":" + arg
			}
			p, err := network.ParsePorts(strings.TrimPrefix(arg, ":"))
			if err != nil {
				return nil, err
			}
			out = append(out, p...)
		}
	}
	for key := range c.Config.ExposedPorts {
		if _, bound := h.PortBindings[key]; bound || !h.PublishAllPorts {
			continue
		}
		p, err := network.ParseExpose(key)
		if err != nil {
			return nil, err
		}
		out = append(out, p...)
	}
	slices.SortStableFunc(out, func(a, b network.Port) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.HostPort, b.HostPort))
	})
	return out, nil
}
