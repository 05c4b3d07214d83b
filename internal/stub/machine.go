package stub

import (
	"runtime"
	"syscall"
	"unsafe"

	"vitro/internal/plan"
	"vitro/internal/sys"
)

// machine executes the parent's ops: the same rules as the assembly, in Go.
type machine struct {
	p     *plan.Program
	slots []uint64
	buf   []byte
	dec   [6][20]byte // Decimal operands
}

func newMachine(p *plan.Program) *machine {
	m := &machine{p: p, slots: make([]uint64, p.NSlots), buf: make([]byte, p.Buf)}
	for _, r := range p.Relocs {
		to := sys.AddrOf(p.Data)
		if r.Buf {
			to = sys.AddrOf(m.buf)
		}
		le.PutUint64(p.Data[r.At:], uint64(to)+uint64(r.To))
	}
	return m
}

// step does op i and says how many of the parent's ops to skip after it.
func (m *machine) step(i int) (skip int, err error) {
	o := &m.p.Ops[i]
	for tries := int(o.Retries); ; tries-- {
		e, val := m.do(o)
		if e == 0 {
			return int(o.OnOK), nil
		}
		next, found := matchCase(o, e)
		if !found || next == plan.Retry && tries == 0 {
			return 0, &OpError{Index: i, Op: o, Errno: e, Value: val}
		}
		if next != plan.Retry {
			return int(next), nil
		}
	}
}

func matchCase(o *plan.Op, e syscall.Errno) (uint16, bool) {
	for _, c := range o.Cases[:o.NCases] {
		if c.Errno == uint16(e) || c.Errno == uint16(plan.AnyErrno) {
			return c.Skip, true
		}
	}
	return 0, false
}

func (m *machine) do(o *plan.Op) (syscall.Errno, uint64) {
	var a [6]uintptr
	for i := range int(o.NArgs) {
		a[i] = m.arg(o, i)
	}
	switch o.Kind {
	case plan.Test:
		v := load(a[0], o.Width)
		if v&o.Args[1].V == o.Args[2].V {
			return 0, v
		}
		return syscall.Errno(o.Nr), v
	case plan.Copy:
		store(a[0], o.Width, load(a[1], o.Width))
		return 0, 0
	}
	r, e := sys.Call(uintptr(o.Nr), a)
	runtime.KeepAlive(m)
	if e != 0 {
		return e, 0
	}
	if o.Result != 0 {
		m.slots[o.Result] = uint64(r)
	}
	if o.Expects && uint64(r) != o.Expect {
		if r == 0 {
			return syscall.EPIPE, uint64(r)
		}
		return syscall.EIO, uint64(r)
	}
	return 0, uint64(r)
}

func (m *machine) arg(o *plan.Op, i int) uintptr {
	a := o.Args[i]
	switch a.Kind {
	case plan.SlotVal:
		return uintptr(m.slots[a.V])
	case plan.SlotAddr:
		return uintptr(unsafe.Pointer(&m.slots[a.V]))
	case plan.RO:
		return sys.AddrOf(m.p.Data) + uintptr(a.V)
	case plan.RW:
		return sys.AddrOf(m.buf) + uintptr(a.V)
	case plan.Decimal:
		n := copy(m.dec[i][:], sys.Utoa(m.slots[a.V]))
		o.Args[i+1].V = uint64(n)
		return uintptr(unsafe.Pointer(&m.dec[i]))
	}
	return uintptr(a.V)
}

func load(addr uintptr, width uint8) uint64 {
	p := *(*unsafe.Pointer)(unsafe.Pointer(&addr)) // the address came from this process's own memory, see arg
	switch width {
	case 1:
		return uint64(*(*uint8)(p))
	case 2:
		return uint64(*(*uint16)(p))
	case 4:
		return uint64(*(*uint32)(p))
	}
	return *(*uint64)(p)
}

func store(addr uintptr, width uint8, v uint64) {
	p := *(*unsafe.Pointer)(unsafe.Pointer(&addr))
	switch width {
	case 1:
		*(*uint8)(p) = uint8(v)
	case 2:
		*(*uint16)(p) = uint16(v)
	case 4:
		*(*uint32)(p) = uint32(v)
	default:
		*(*uint64)(p) = v
	}
}
