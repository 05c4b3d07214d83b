package plan

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Builder appends to a Program.
type Builder struct {
	*Program
	field, object string
	empty         Arg
}

// NewBuilder makes an empty program with room for n ops.
func NewBuilder(n int) *Builder {
	p := &Program{Ops: make([]Op, 0, n), Data: make([]byte, 0, n*48), NSlots: firstOwn}
	b := &Builder{Program: p}
	b.empty = b.Bytes([]byte{0})
	return b
}

// Field sets the config field and the object that the next ops come from.
func (b *Builder) Field(field, object string) { b.field, b.object = field, object }

// Slot makes a new slot.
func (b *Builder) Slot() Slot { s := b.NSlots; b.NSlots++; return s }

// Str lays s and a NUL into Data.
func (b *Builder) Str(s string) Arg {
	if s == "" && b.empty.Len != 0 {
		return b.empty
	}
	at := len(b.Data)
	b.Data = append(b.Data, s...)
	b.Data = append(b.Data, 0)
	return Arg{Kind: RO, Len: uint32(len(s) + 1), V: uint64(at)}
}

// Bytes lays p into Data, aligned to 8.
func (b *Builder) Bytes(p []byte) Arg {
	b.align()
	at := len(b.Data)
	b.Data = append(b.Data, p...)
	return Arg{Kind: RO, Len: uint32(len(p)), V: uint64(at)}
}

// Words lays 64-bit words into Data: a struct of them, as most kernel interfaces are.
func (b *Builder) Words(ws ...uint64) Arg {
	b.align()
	at := len(b.Data)
	for _, w := range ws {
		b.Data = le64(b.Data, w)
	}
	return Arg{Kind: RO, Len: uint32(8 * len(ws)), V: uint64(at)}
}

// U32s lays 32-bit words into Data.
func (b *Builder) U32s(ws ...uint32) Arg {
	b.align()
	at := len(b.Data)
	for _, w := range ws {
		b.Data = append(b.Data, byte(w), byte(w>>8), byte(w>>16), byte(w>>24))
	}
	return Arg{Kind: RO, Len: uint32(4 * len(ws)), V: uint64(at)}
}

// Vec lays a NULL-terminated vector of strings into Data: argv, envp.
func (b *Builder) Vec(ss []string) Arg {
	b.align()
	at := len(b.Data)
	b.Data = append(b.Data, make([]byte, 8*(len(ss)+1))...)
	for i, s := range ss {
		b.Relocs = append(b.Relocs, Reloc{At: uint32(at + 8*i), To: uint32(len(b.Data))})
		b.Data = append(b.Data, s...)
		b.Data = append(b.Data, 0)
	}
	return Arg{Kind: RO, Len: uint32(8 * (len(ss) + 1)), V: uint64(at)}
}

// Ptr makes the word of struct a at byte off the address of t, in Data or Buf.
func (b *Builder) Ptr(a Arg, off int, t Arg) {
	b.Relocs = append(b.Relocs, Reloc{At: uint32(a.V) + uint32(off), To: uint32(t.V), Buf: t.Kind == RW})
}

// Scratch reserves n bytes of writable memory, aligned to 8.
func (b *Builder) Scratch(n int) Arg {
	at := b.Buf
	b.Buf += uint32(n+7) &^ 7
	return Arg{Kind: RW, Len: uint32(n), V: uint64(at)}
}

// Sys appends a system call.
func (b *Builder) Sys(do Doer, nr int, args ...Arg) *Op {
	o := b.add(Syscall, do, args)
	o.Nr = uint32(nr)
	return o
}

// Test appends a comparison: (load width bytes at addr) & mask == want, else e. On and AnyErrno make it a branch.
func (b *Builder) Test(do Doer, addr Arg, width int, mask, want uint64, e syscall.Errno) *Op {
	o := b.add(Test, do, []Arg{addr, {V: mask}, {V: want}})
	o.Width, o.Nr = uint8(width), uint32(e)
	return o
}

// Skip appends an unconditional forward jump over n ops.
func (b *Builder) Skip(do Doer, n int) *Op {
	return b.Test(do, Arg{Kind: SlotAddr, V: uint64(SlotChan)}, 8, 0, 0, 0).Ok(n)
}

// Copy appends a copy of width bytes.
func (b *Builder) Copy(do Doer, dst, src Arg, width int) *Op {
	o := b.add(Copy, do, []Arg{dst, src})
	o.Width = uint8(width)
	return o
}

// Call appends Go code of the parent, by name, with up to six immediate operands.
func (b *Builder) Call(do Doer, name string, args ...Arg) *Op {
	o := b.add(Call, do, args)
	o.Name = name
	return o
}

// CloneOp marks the place where the stub is started.
func (b *Builder) CloneOp() *Op { return b.add(Clone, Parent, nil) }

// Tell appends what sends a record of life for the parent's "await" call. value is 0 or a slot.
func (b *Builder) Tell(value Slot) {
	rec := b.Scratch(RecordLen)
	b.Copy(Stub, rec, b.U32s(uint32(len(b.Ops)), 0), 8)
	if value != 0 {
		b.Copy(Stub, rec.At(8), Addr(value), 8)
	}
	b.Sys(Stub, unix.SYS_WRITE, Val(SlotChan), rec, Int(RecordLen)).Want(RecordLen).As("tell vitrun")
}

// Fork appends what goes on as a child that is born in the joined or new pid namespace; the half that stays tells its pid (for "await" with
// operand 1) and ends. CLONE_PARENT makes the child vitrun's.
func (b *Builder) Fork() {
	pid := b.Slot()
	b.Sys(Stub, unix.SYS_CLONE, Int(unix.CLONE_PARENT|int(unix.SIGCHLD)), Int(0), Int(0), Int(0), Int(0)).To(pid)
	b.Test(Stub, Addr(pid), 8, ^uint64(0), 0, 0)
	test := len(b.Ops) - 1
	b.Ops[test].On(AnyErrno, 0)
	b.Tell(pid)
	b.Sys(Stub, unix.SYS_EXIT_GROUP, Int(0))
	b.OkTo(test)
	b.Sys(Stub, unix.SYS_SETSID).As("a session of its own, for the terminal")
}

// Here is the index of the next op, for [Builder.SkipTo].
func (b *Builder) Here() int { return len(b.Ops) }

// OkTo makes op i skip on success to the next op to be appended.
func (b *Builder) OkTo(i int) { b.Ops[i].OnOK = b.dist(i) }

// OnTo makes op i skip on e to the next op to be appended.
func (b *Builder) OnTo(i int, e syscall.Errno) { b.Ops[i].On(e, int(b.dist(i))) }

func (b *Builder) dist(i int) (n uint16) {
	for _, o := range b.Ops[i+1:] {
		if sameDoer(o.Do, b.Ops[i].Do) {
			n++
		}
	}
	return n
}

// sameDoer tells whether two ops are in one sequence: the parent's (before and after the clone) or the stub's.
func sameDoer(a, b Doer) bool { return (a == Stub) == (b == Stub) }

func (b *Builder) add(k Kind, do Doer, args []Arg) *Op {
	b.Ops = append(b.Ops, Op{Kind: k, Do: do, NArgs: uint8(len(args)), Field: b.field, Object: b.object})
	o := &b.Ops[len(b.Ops)-1]
	copy(o.Args[:], args)
	return o
}

func (b *Builder) align() {
	for len(b.Data)%8 != 0 {
		b.Data = append(b.Data, 0)
	}
}

func le64(p []byte, w uint64) []byte {
	return append(p, byte(w), byte(w>>8), byte(w>>16), byte(w>>24), byte(w>>32), byte(w>>40), byte(w>>48), byte(w>>56))
}
