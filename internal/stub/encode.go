package stub

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"vitro/internal/plan"
)

var le = binary.LittleEndian

// code gives the bounds of the interpreter in this binary's text.
func code() (start, end uintptr)

func interpreter() []byte {
	start, end := code()
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&start))), end-start) // text, not heap: vet cannot know
}

const (
	ehdrSize = 64
	phdrSize = 56
	codeOff  = ehdrSize + 3*phdrSize + 8 // aligned to 16
)

// pageAlign is the alignment of segments: the largest page size of the architecture.
func pageAlign() int {
	if runtime.GOARCH == "arm64" {
		return 65536
	}
	return 4096
}

// Encode lays the stub's part of p out as an ELF executable. slots are the values at the clone, errFD is the number of
// the record channel in the stub.
func Encode(p *plan.Program, slots []uint64, errFD int) []byte {
	text := interpreter()
	opsOff := (codeOff + len(text) + 15) &^ 15
	nops := 0
	for i := range p.Ops {
		if p.Ops[i].Do == plan.Stub {
			nops++
		}
	}
	roOff := opsOff + (nops+1)*opSize
	roEnd := (roOff + len(p.Data) + 7) &^ 7
	e := encoder{p: p, ro: codeBase + uint64(roOff)}
	roEnd += 8 * e.countWide()
	e.wideAt = (roOff + len(p.Data) + 7) &^ 7
	rwOff := (roEnd + pageAlign() - 1) &^ (pageAlign() - 1)
	rwFile := hdrSize + 8*len(slots)
	out := make([]byte, rwOff+rwFile)

	elfHeader(out, roEnd, rwOff, rwFile, rwFile+int(p.Buf))
	copy(out[codeOff:], text)
	e.out, e.rw = out, dataBase+uint64(rwFile)
	at := opsOff
	for i := range p.Ops {
		if p.Ops[i].Do == plan.Stub {
			e.op(out[at:at+opSize], i)
			at += opSize
		}
	}
	e.end(out[at:at+opSize], len(p.Ops))
	copy(out[roOff:], p.Data)
	for _, r := range p.Relocs {
		to := e.ro
		if r.Buf {
			to = e.rw
		}
		le.PutUint64(out[roOff+int(r.At):], to+uint64(r.To))
	}
	le.PutUint64(out[rwOff+hdrFirst:], codeBase+uint64(opsOff))
	le.PutUint64(out[rwOff+hdrErrFD:], uint64(errFD))
	for i, v := range slots {
		le.PutUint64(out[rwOff+hdrSize+8*i:], v)
	}
	return out
}

type encoder struct {
	p      *plan.Program
	out    []byte
	ro, rw uint64
	wideAt int // where the next immediate of more than 32 bits goes
}

// wide tells immediates that do not fit a sign-extended 32-bit operand.
func wide(a plan.Arg) bool { return a.Kind == plan.Imm && int64(a.V) != int64(int32(a.V)) }

func (e *encoder) countWide() (n int) {
	for i := range e.p.Ops {
		o := &e.p.Ops[i]
		if o.Do != plan.Stub {
			continue
		}
		for _, a := range o.Args[:o.NArgs] {
			if wide(a) {
				n++
			}
		}
	}
	return n
}

func (e *encoder) op(b []byte, index int) {
	o := &e.p.Ops[index]
	b[offKind], b[offWidth] = byte(o.Kind), o.Width
	if o.Expects {
		b[offFlags] = 1
	}
	le.PutUint32(b[offNr:], o.Nr)
	for i := range int(o.NArgs) {
		v, load := e.arg(o.Args[i])
		if load {
			b[offSlots] |= 1 << i
		}
		le.PutUint32(b[offArgs+4*i:], uint32(v))
	}
	if o.Result != 0 {
		le.PutUint32(b[offResult:], uint32(slotAddr(o.Result)))
	}
	le.PutUint16(b[offIndex:], uint16(index))
	le.PutUint16(b[offOnOK:], o.OnOK)
	le.PutUint16(b[offRetry:], o.Retries)
	le.PutUint32(b[offExpect:], uint32(o.Expect))
	for i, c := range o.Cases[:o.NCases] {
		le.PutUint16(b[offCases+4*i:], c.Errno)
		le.PutUint16(b[offCases+4*i+2:], c.Skip)
	}
}

// arg is the operand's word and whether the interpreter loads it through that address.
func (e *encoder) arg(a plan.Arg) (uint64, bool) {
	switch a.Kind {
	case plan.SlotVal:
		return slotAddr(plan.Slot(a.V)), true
	case plan.SlotAddr:
		return slotAddr(plan.Slot(a.V)), false
	case plan.RO:
		return e.ro + a.V, false
	case plan.RW:
		return e.rw + a.V, false
	case plan.ErrFD:
		return dataBase + hdrErrFD, false
	}
	if wide(a) {
		at := e.wideAt
		le.PutUint64(e.out[at:], a.V)
		e.wideAt += 8
		return codeBase + uint64(at), true
	}
	return a.V, false
}

// end is the op behind the last one: a program that runs off its list fails with ENOSYS at that index.
func (e *encoder) end(b []byte, index int) {
	b[offKind], b[offWidth] = byte(plan.Test), 8
	le.PutUint32(b[offArgs:], dataBase)
	le.PutUint32(b[offNr:], 38)
	le.PutUint16(b[offIndex:], uint16(index))
	le.PutUint32(b[offArgs+8:], 1) // (x & 0) == 1 never holds
}

func elfHeader(b []byte, roEnd, rwOff, rwFile, rwMem int) {
	copy(b, "\x7fELF\x02\x01\x01")
	machine := uint16(62)
	if runtime.GOARCH == "arm64" {
		machine = 183
	}
	le.PutUint16(b[16:], 2) // ET_EXEC
	le.PutUint16(b[18:], machine)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], codeBase+codeOff)
	le.PutUint64(b[32:], ehdrSize)
	le.PutUint16(b[52:], ehdrSize)
	le.PutUint16(b[54:], phdrSize)
	le.PutUint16(b[56:], 3)
	le.PutUint16(b[58:], 64)
	align := pageAlign()
	phdr(b[ehdrSize:], 1, 5, 0, codeBase, roEnd, roEnd, align)
	phdr(b[ehdrSize+phdrSize:], 1, 6, rwOff, dataBase, rwFile, rwMem, align)
	phdr(b[ehdrSize+2*phdrSize:], 0x6474e551, 6, 0, 0, 0, 0, 16) // PT_GNU_STACK, not executable
}

func phdr(b []byte, typ, flags uint32, off, vaddr, filesz, memsz, align int) {
	le.PutUint32(b, typ)
	le.PutUint32(b[4:], flags)
	for i, v := range []int{off, vaddr, vaddr, filesz, memsz, align} {
		le.PutUint64(b[8+8*i:], uint64(v))
	}
}
