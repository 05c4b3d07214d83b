package main

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
)

// readLinks asks rtnetlink(7) twice: links, then addresses. A failure (a seccomp profile may forbid it) is an empty list.
func readLinks() []link {
	var links []link
	index := map[uint32]int{}
	dump(syscall.RTM_GETLINK, syscall.RTM_NEWLINK, func(body []byte, attrs []syscall.NetlinkRouteAttr) {
		if len(body) < syscall.SizeofIfInfomsg {
			return
		}
		l := link{up: binary.NativeEndian.Uint32(body[8:])&syscall.IFF_UP != 0}
		for _, a := range attrs {
			switch a.Attr.Type {
			case syscall.IFLA_IFNAME:
				l.name = strings.TrimRight(string(a.Value), "\x00")
			case syscall.IFLA_ADDRESS:
				l.mac = macString(a.Value)
			case syscall.IFLA_MTU:
				l.mtu = binary.NativeEndian.Uint32(a.Value)
			}
		}
		index[binary.NativeEndian.Uint32(body[4:])] = len(links)
		links = append(links, l)
	})
	dump(syscall.RTM_GETADDR, syscall.RTM_NEWADDR, func(body []byte, attrs []syscall.NetlinkRouteAttr) {
		if len(body) < syscall.SizeofIfAddrmsg {
			return
		}
		i, ok := index[binary.NativeEndian.Uint32(body[4:])]
		if addr := address(attrs); ok && addr.IsValid() {
			links[i].addrs = append(links[i].addrs, addr.String()+"/"+strconv.Itoa(int(body[1])))
		}
	})
	return links
}

// address prefers IFA_LOCAL: on a point-to-point link IFA_ADDRESS is the peer's.
func address(attrs []syscall.NetlinkRouteAttr) netip.Addr {
	var addr netip.Addr
	for _, a := range attrs {
		switch got, ok := netip.AddrFromSlice(a.Value); {
		case a.Attr.Type == syscall.IFA_LOCAL && ok:
			return got
		case a.Attr.Type == syscall.IFA_ADDRESS && ok:
			addr = got
		}
	}
	return addr
}

func dump(request int, reply uint16, each func(body []byte, attrs []syscall.NetlinkRouteAttr)) {
	rib, err := syscall.NetlinkRIB(request, syscall.AF_UNSPEC)
	if err != nil {
		return
	}
	msgs, err := syscall.ParseNetlinkMessage(rib)
	if err != nil {
		return
	}
	for i := range msgs {
		if msgs[i].Header.Type != reply {
			continue
		}
		if attrs, err := syscall.ParseNetlinkRouteAttr(&msgs[i]); err == nil {
			each(msgs[i].Data, attrs)
		}
	}
}

func macString(b []byte) string {
	const hex = "0123456789abcdef"
	var s []byte
	for i, c := range b {
		if i > 0 {
			s = append(s, ':')
		}
		s = append(s, hex[c>>4], hex[c&15])
	}
	return string(s)
}
