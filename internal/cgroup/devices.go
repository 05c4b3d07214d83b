package cgroup

import (
	"vitro/internal/plan"
	"vitro/internal/sys"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Access bits, as BPF_DEVCG_ACC_*.
const (
	accMknod = 1 << iota
	accRead
	accWrite
	accAll = accMknod | accRead | accWrite
)

const anyNumber = -1

// exception is a device that is treated unlike the rest.
type exception struct {
	kind         byte // 'b' or 'c'
	access       uint8
	major, minor int64 // or anyNumber
}

// ruleSet is a devices cgroup: a default, and exceptions from it.
type ruleSet struct {
	allow bool
	list  []exception
}

// defaults are what every container may use, behind the configured rules: runc's list (specconv.AllowedDevices).
var defaults = [...]exception{
	{'c', accMknod, anyNumber, anyNumber},
	{'b', accMknod, anyNumber, anyNumber},
	{'c', accAll, 1, 3},           // null
	{'c', accAll, 1, 8},           // random
	{'c', accAll, 1, 7},           // full
	{'c', accAll, 5, 0},           // tty
	{'c', accAll, 1, 5},           // zero
	{'c', accAll, 1, 9},           // urandom
	{'c', accAll, 136, anyNumber}, // pts, so the console, too
	{'c', accAll, 5, 2},           // ptmx
	{'c', accAll, 10, 200},        // tun
}

// rules applies the configured rules, then the defaults, to "deny all", in order.
func (p *planner) rules(devices []specs.LinuxDeviceCgroup) *ruleSet {
	s := &ruleSet{list: make([]exception, 0, len(defaults)+len(devices))}
	for i := range devices {
		d := &devices[i]
		field := "devices[" + sys.Itoa(i) + "]"
		e := exception{kind: 'a', major: number(d.Major), minor: number(d.Minor)}
		if d.Type != "" && d.Type != "a" && d.Type != "b" && d.Type != "c" {
			p.refuse(field+".type", "invalid device type \""+d.Type+"\"")
			continue
		}
		if d.Type != "" {
			e.kind = d.Type[0]
		}
		if e.major > 1<<31-1 || e.minor > 1<<31-1 || e.major < anyNumber || e.minor < anyNumber {
			p.refuse(field, "invalid device number")
		}
		var ok bool
		if e.access, ok = access(d.Access); !ok {
			p.refuse(field+".access", "invalid device access \""+d.Access+"\"")
		}
		// The kernel would take such a rule for one about everything.
		if e.kind == 'a' && (e.access != accAll || e.major != anyNumber || e.minor != anyNumber) {
			p.refuse(field, "a rule for all devices must have access \"rwm\" and no numbers")
		}
		if msg := s.apply(e, d.Allow); msg != "" {
			p.refuse(field, msg)
		}
	}
	for _, e := range defaults {
		if msg := s.apply(e, true); msg != "" {
			p.refuse("devices", msg)
		}
	}
	return s
}

func number(n *int64) int64 {
	if n == nil {
		return anyNumber
	}
	return *n
}

func access(s string) (a uint8, ok bool) {
	for i := range len(s) {
		switch s[i] {
		case 'r':
			a |= accRead
		case 'w':
			a |= accWrite
		case 'm':
			a |= accMknod
		default:
			return 0, false
		}
	}
	return a, a != 0
}

// apply changes the set by one rule, or says why it cannot.
func (s *ruleSet) apply(e exception, allow bool) string {
	if e.kind == 'a' {
		s.allow, s.list = allow, s.list[:0]
		return ""
	}
	at := -1
	for i := range s.list {
		x := &s.list[i]
		if x.kind == e.kind && x.major == e.major && x.minor == e.minor {
			at = i
			continue
		}
		// The v1 kernel ignores the removal of a part of a wildcard: the user would believe in a rule that is not there.
		if allow == s.allow && x.kind == e.kind && x.access&e.access != 0 &&
			(x.major == anyNumber || x.major == e.major) && (x.minor == anyNumber || x.minor == e.minor) {
			return "cannot punch a hole in the wildcard rule \"" + x.String() + "\""
		}
	}
	switch {
	case allow != s.allow && at >= 0:
		s.list[at].access |= e.access
	case allow != s.allow:
		s.list = append(s.list, e)
	case at >= 0:
		if s.list[at].access &^= e.access; s.list[at].access == 0 {
			s.list = append(s.list[:at], s.list[at+1:]...)
		}
	}
	return ""
}

// String is e as the v1 files have it: "c 1:3 rwm".
func (e *exception) String() string { return string(e.text(make([]byte, 0, 16))) }

func (e *exception) text(b []byte) []byte {
	b = append(b, e.kind, ' ')
	b = append(digits(b, e.major), ':')
	b = append(digits(b, e.minor), ' ')
	for i, c := range [...]byte{'r', 'w', 'm'} {
		if e.access&[...]uint8{accRead, accWrite, accMknod}[i] != 0 {
			b = append(b, c)
		}
	}
	return b
}

func digits(b []byte, n int64) []byte {
	if n == anyNumber {
		return append(b, '*')
	}
	return append(b, sys.Utoa(uint64(n))...)
}

// devicesV1 appends "a" to the file of the default, then each exception to the other file, one write(2) each.
func (p *planner) devicesV1(s *ruleSet) {
	if p.g.noDev {
		return
	}
	pl := p.g.find("devices")
	if pl == nil {
		p.refuse("devices", "no devices cgroup hierarchy is mounted")
		return
	}
	first, second := "/devices.deny", "/devices.allow"
	if s.allow {
		first, second = second, first
	}
	p.write("linux.resources.devices", pl.path+first, "a")
	if len(s.list) == 0 {
		return
	}
	p.Field("linux.resources.devices", pl.path+second)
	p.open(plan.Parent, pl.path+second)
	text := make([]byte, 0, 16*len(s.list))
	ends := make([]int, len(s.list))
	for i := range s.list {
		text = s.list[i].text(text)
		ends[i] = len(text)
	}
	all, from := p.Bytes(text), 0
	for _, end := range ends {
		rule := all.At(from)
		rule.Len = uint32(end - from)
		p.put(rule, end-from)
		from = end
	}
	p.close()
}

// devicesV2 appends the load of a program made of the rules, and its attachment to the folder.
func (p *planner) devicesV2(s *ruleSet) {
	if p.g.noDev || len(p.g.places) == 0 {
		return
	}
	prog := p.Slot()
	insns := p.Words(assemble(s)...)
	// union bpf_attr: prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags,
	// prog_name, prog_ifindex, expected_attach_type
	load := p.Words(unix.BPF_PROG_TYPE_CGROUP_DEVICE|uint64(insns.Len/8)<<32, 0, 0, 0, 0, 0, name("vitrun_d"), name("evices"), unix.BPF_CGROUP_DEVICE<<32)
	p.Ptr(load, 8, insns)
	p.Ptr(load, 16, p.Str("Apache-2.0"))
	p.Field("linux.resources.devices", p.g.places[0].path)
	p.Sys(plan.Parent, unix.SYS_BPF, plan.Int(unix.BPF_PROG_LOAD), load, plan.Int(load.Len)).To(prog).As("load the device program")

	// target_fd, attach_bpf_fd, attach_type, attach_flags
	attach := p.Scratch(16)
	p.Copy(plan.Parent, attach, plan.Addr(p.g.FD), 4)
	p.Copy(plan.Parent, attach.At(4), plan.Addr(prog), 4)
	p.Copy(plan.Parent, attach.At(8), p.Words(unix.BPF_CGROUP_DEVICE|unix.BPF_F_ALLOW_MULTI<<32), 8)
	p.Sys(plan.Parent, unix.SYS_BPF, plan.Int(unix.BPF_PROG_ATTACH), attach, plan.Int(16)).As("attach the device program")
	p.Sys(plan.Parent, unix.SYS_CLOSE, plan.Val(prog))
}

func name(s string) (w uint64) {
	for i := range len(s) {
		w |= uint64(s[i]) << (8 * i)
	}
	return w
}

// eBPF instruction codes (Documentation/bpf/standardization/instruction-set.rst).
const (
	ldxW  = 0x61
	mov   = 0xb7
	movX  = 0xbf
	and   = 0x57
	rsh   = 0x77
	jeq   = 0x15
	jne   = 0x55
	jset  = 0x45
	exit  = 0x95
	r0    = 0
	ctx   = 1 // struct bpf_cgroup_dev_ctx: access_type (type in the low half, access in the high one), major, minor
	kind  = 2
	acc   = 3
	major = 4
	minor = 5
	tmp   = 6
)

func insn(code, dst, src uint64, off int, imm uint64) uint64 {
	return code | dst<<8 | src<<12 | uint64(uint16(off))<<16 | imm<<32
}

// assemble makes the program: each exception is a block that ends it, or jumps to the next block.
// An allow needs all of the asked access in one exception, a deny any part of it, as in the v1 kernel.
func assemble(s *ruleSet) []uint64 {
	out := make([]uint64, 0, 8+7*len(s.list))
	out = append(out,
		insn(ldxW, kind, ctx, 0, 0),
		insn(movX, acc, kind, 0, 0),
		insn(and, kind, 0, 0, 0xffff),
		insn(rsh, acc, 0, 0, 16),
		insn(ldxW, major, ctx, 4, 0),
		insn(ldxW, minor, ctx, 8, 0))
	verdict := func(allow bool) {
		var v uint64
		if allow {
			v = 1
		}
		out = append(out, insn(mov, r0, 0, 0, v), insn(exit, 0, 0, 0, 0))
	}
	for i := range s.list {
		e := &s.list[i]
		block := len(out)
		dev := uint64(unix.BPF_DEVCG_DEV_CHAR)
		if e.kind == 'b' {
			dev = unix.BPF_DEVCG_DEV_BLOCK
		}
		out = append(out, insn(jne, kind, 0, 0, dev))
		switch {
		case e.access == accAll:
		case !s.allow:
			out = append(out, insn(jset, acc, 0, 0, uint64(accAll&^e.access)))
		default:
			out = append(out, insn(movX, tmp, acc, 0, 0), insn(and, tmp, 0, 0, uint64(e.access)), insn(jeq, tmp, 0, 0, 0))
		}
		if e.major != anyNumber {
			out = append(out, insn(jne, major, 0, 0, uint64(e.major)))
		}
		if e.minor != anyNumber {
			out = append(out, insn(jne, minor, 0, 0, uint64(e.minor)))
		}
		verdict(!s.allow)
		for j := block; j < len(out); j++ {
			if c := out[j] & 0xff; c == jne || c == jeq || c == jset {
				out[j] |= uint64(len(out)-j-1) << 16
			}
		}
	}
	verdict(s.allow)
	return out
}
