package runtime

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// route is a netlink socket of one network namespace (rtnetlink(7)).
type route struct {
	fd  int
	seq uint32
	buf [32 << 10]byte // what the kernel fills at the most for a dump
}

// link is what a move needs to know of one.
type link struct {
	index int32
	flags uint32
	name  string
}

// address is an ifaddrmsg and the attributes that another namespace can take.
type address []byte

var ne = binary.NativeEndian

func openRoute() (*route, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	return &route{fd: fd}, nil
}

func (r *route) close() {
	if r != nil {
		unix.Close(r.fd)
	}
}

// link finds by index, or where that is 0 by name. ENODEV: it is not there.
func (r *route) link(index int32, name string) (l link, err error) {
	body := ifInfo(index, 0)
	if index == 0 {
		body = attr(body, unix.IFLA_IFNAME, name+"\x00")
	}
	err = r.do(unix.RTM_GETLINK, unix.NLM_F_ACK, body, func(m []byte) {
		if len(m) < unix.SizeofIfInfomsg {
			return
		}
		l.index, l.flags = int32(ne.Uint32(m[4:])), ne.Uint32(m[8:])
		eachAttr(m[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) {
			if typ == unix.IFLA_IFNAME {
				l.name = unix.ByteSliceToString(v)
			}
		})
	})
	return l, err
}

// free is the first index from i on that no link has.
func (r *route) free(i int32) (int32, error) {
	for ; ; i++ {
		switch _, err := r.link(i, ""); err {
		case nil:
		case unix.ENODEV:
			return i, nil
		default:
			return 0, err
		}
	}
}

// move puts a link into another namespace under a new name and index. It arrives there down and without addresses.
func (r *route) move(index int32, ns int, name string, newIndex int32) error {
	b := attr(ifInfo(index, 0), unix.IFLA_NET_NS_FD, word(uint32(ns)))
	b = attr(b, unix.IFLA_IFNAME, name+"\x00")
	b = attr(b, unix.IFLA_NEW_IFINDEX, word(uint32(newIndex))) // before Linux 5.13 not known, and the index kept where it is free
	return r.do(unix.RTM_NEWLINK, unix.NLM_F_ACK, b, nil)
}

func (r *route) up(index int32) error {
	return r.do(unix.RTM_NEWLINK, unix.NLM_F_ACK, ifInfo(index, unix.IFF_UP), nil)
}

// addresses are the permanent ones of global scope: the others were made by the host's side of things, or end with it.
func (r *route) addresses(index int32) (all []address, err error) {
	err = r.do(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg), func(m []byte) {
		if len(m) < unix.SizeofIfAddrmsg || int32(ne.Uint32(m[4:])) != index {
			return
		}
		flags := uint32(m[2])
		a := append(address{}, m[:unix.SizeofIfAddrmsg]...)
		eachAttr(m[unix.SizeofIfAddrmsg:], func(typ uint16, v []byte) {
			switch typ {
			case unix.IFA_FLAGS:
				flags = ne.Uint32(v)
			case unix.IFA_ADDRESS, unix.IFA_LOCAL, unix.IFA_BROADCAST, unix.IFA_RT_PRIORITY: // not the label, which has the old name
				a = attr(a, typ, string(v))
			}
		})
		if flags&unix.IFA_F_PERMANENT != 0 && m[3] == unix.RT_SCOPE_UNIVERSE {
			const kept = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN
			a[2] = 0
			all = append(all, attr(a, unix.IFA_FLAGS, word(flags&kept)))
		}
	})
	return all, err
}

func (r *route) add(index int32, a address) error {
	ne.PutUint32(a[4:], uint32(index))
	return r.do(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, a, nil)
}

// do sends one request and reads to its end; each gets the bodies of the answers.
func (r *route) do(typ, flags uint16, body []byte, each func([]byte)) error {
	r.seq++
	b := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(body))
	ne.PutUint32(b, uint32(unix.NLMSG_HDRLEN+len(body)))
	ne.PutUint16(b[4:], typ)
	ne.PutUint16(b[6:], flags|unix.NLM_F_REQUEST)
	ne.PutUint32(b[8:], r.seq)
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := again(func() error { return unix.Sendto(r.fd, append(b, body...), 0, kernel) }); err != nil {
		return err
	}
	for {
		n := 0
		if err := again(func() (err error) { n, _, err = unix.Recvfrom(r.fd, r.buf[:], 0); return err }); err != nil {
			return err
		}
		if done, err := r.answers(r.buf[:n], each); done || err != nil {
			return err
		}
	}
}

// answers walks over the messages of one read.
func (r *route) answers(b []byte, each func([]byte)) (done bool, err error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int(ne.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			return true, unix.EBADMSG
		}
		m := b[unix.NLMSG_HDRLEN:n]
		if ne.Uint32(b[8:]) == r.seq {
			switch ne.Uint16(b[4:]) {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				return true, answer(m, ne.Uint16(b[6:]))
			}
			if each != nil {
				each(m)
			}
		}
		b = b[min(align4(n), len(b)):]
	}
	return false, nil
}

// answer is the errno of an acknowledgement, with the kernel's own words where it has some (NLMSGERR_ATTR_MSG).
func answer(m []byte, flags uint16) error {
	if len(m) < 4 || int32(ne.Uint32(m)) == 0 {
		return nil
	}
	errno := unix.Errno(-int32(ne.Uint32(m)))
	said := ""
	if at := 4 + unix.NLMSG_HDRLEN; flags&unix.NLM_F_ACK_TLVS != 0 && len(m) >= at {
		if flags&unix.NLM_F_CAPPED == 0 {
			at = 4 + align4(int(ne.Uint32(m[4:])))
		}
		eachAttr(m[min(at, len(m)):], func(typ uint16, v []byte) {
			if typ == unix.NLMSGERR_ATTR_MSG {
				said = unix.ByteSliceToString(v)
			}
		})
	}
	if said == "" {
		return errno
	}
	return wrap(said, errno)
}

func ifInfo(index int32, flags uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg, 128)
	ne.PutUint32(b[4:], uint32(index))
	ne.PutUint32(b[8:], flags)
	ne.PutUint32(b[12:], flags) // the ones that change
	return b
}

func attr(b []byte, typ uint16, v string) []byte {
	b = ne.AppendUint16(b, uint16(4+len(v)))
	b = ne.AppendUint16(b, typ)
	b = append(b, v...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func word(v uint32) string { return string(ne.AppendUint32(nil, v)) }

func eachAttr(b []byte, f func(typ uint16, v []byte)) {
	for len(b) >= 4 {
		n := int(ne.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		f(ne.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:n])
		b = b[min(align4(n), len(b)):]
	}
}

func align4(n int) int { return (n + 3) &^ 3 }
