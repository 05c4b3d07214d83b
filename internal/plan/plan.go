package plan

import "syscall"

// Doer says who executes an op.
type Doer uint8

const (
	Parent Doer = iota // vitrun, before the clone
	Sync               // vitrun, after the clone
	Stub               // the container's first process
)

// Kind is the kind of an op.
type Kind uint8

const (
	Syscall Kind = iota // one system call
	Test                // load Width bytes at Args[0], and with Args[1], compare with Args[2]
	Copy                // copy Width bytes (1, 2, 4, 8) from Args[1] to Args[0]
	Call                // parent only: Go code named by Name (a hook, a state record)
	Clone               // parent only: start the stub as Program.Clone says
)

// Slot names a 64-bit result cell. Zero is no slot.
type Slot uint16

// Slots that the launcher fills.
const (
	SlotChan Slot = 1 // the stub's end of the record channel
	SlotPID  Slot = 2 // pid of the container's first process, as the parent sees it
	firstOwn Slot = 3
)

// ArgKind says how an operand is made at run time.
type ArgKind uint8

const (
	Imm      ArgKind = iota // V itself
	SlotVal                 // the value of slot V
	SlotAddr                // the address of slot V
	RO                      // the address of Data[V:V+Len]
	RW                      // the address of Buf[V:V+Len]
	ErrFD                   // the address of the word that holds the stub's record channel (a Copy to it switches the channel)
	Decimal                 // parent only: the address of the value of slot V in decimal; the next operand is its length
)

// Arg is one operand.
type Arg struct {
	Kind ArgKind
	Len  uint32
	V    uint64
}

// Case is what to do on an errno: skip Skip ops, or [Retry]. Two bytes each: a start has hundreds of ops, and a page of them costs a page fault.
type Case struct{ Errno, Skip uint16 }

const (
	Retry     uint16        = 0xffff // Case.Skip: do the op again, Op.Retries times at the most
	AnyErrno  syscall.Errno = 0xffff // Case.Errno: every errno
	MaxCases                = 6
	MaxSkip                 = 0x7fff
	RecordLen               = 16 // bytes of a record {op uint32, errno int32, value uint64} on the channel
)

// Op is one step.
type Op struct {
	Kind    Kind
	Do      Doer
	Width   uint8 // Test, Copy
	NArgs   uint8
	NCases  uint8
	Expects bool // the result must equal Expect, else EIO (or EPIPE where it is 0: the other side is gone)
	Result  Slot
	OnOK    uint16 // ops to skip on success (Test: when equal)
	Retries uint16
	Nr      uint32 // Syscall: number; Test: the errno of a failed comparison without a case
	Expect  uint64
	Args    [6]Arg
	Cases   [MaxCases]Case

	Name   string // Call: what
	Field  string // where it comes from in config.json: "mounts[2]", or the flag or rule
	Object string // what it is done to: a path, a name
	What   string // the step in words: "mount devpts"
	Msg    string // error text in place of "Field (Object): What: errno"; %e is the errno's text
}

// IDMap is one line of a uid or gid map (user_namespaces(7)).
type IDMap struct{ Inside, Outside, Size uint32 }

// CloneSpec says how the stub is started.
type CloneSpec struct {
	Flags     uintptr // CLONE_NEW*
	CgroupFD  Slot    // CLONE_INTO_CGROUP, v2
	UIDs      []IDMap // written by the parent between clone and execve
	GIDs      []IDMap
	Setgroups bool // false writes "deny" to /proc/PID/setgroups
	Root      bool // become 0:0 inside before execve
	Late      bool // the maps are written by an "idmap" call after the stub has unshared, not at the clone
	Comm      string
}

// Program is a container start (or an exec, or a hook run) as a whole.
type Program struct {
	Ops    []Op
	Data   []byte  // read-only operands
	Buf    uint32  // bytes of writable memory, zero at the start
	Relocs []Reloc // pointers inside Data
	NSlots Slot
	Keep   []Slot // fds that the stub inherits under the same number
	KeepFD []int  // fds of the caller that the stub inherits
	Clone  CloneSpec
}

// Reloc says that the 8 bytes of Data at At are to be the address of Data[To], or of Buf[To].
type Reloc struct {
	At, To uint32
	Buf    bool
}

// Int is an immediate operand.
func Int[T ~int | ~int64 | ~uint64 | ~uint32 | ~uintptr | ~int32](v T) Arg { return Arg{V: uint64(v)} }

// Val is the value of s.
func Val(s Slot) Arg { return Arg{Kind: SlotVal, V: uint64(s)} }

// Addr is the address of s, for calls that write a result there.
func Addr(s Slot) Arg { return Arg{Kind: SlotAddr, V: uint64(s), Len: 8} }

// Dec is the value of s in decimal digits, for writes to /proc and cgroupfs by the parent. The length is its own operand,
// so it takes two places.
func Dec(s Slot) Arg { return Arg{Kind: Decimal, V: uint64(s)} }

// At is a with n bytes added to its address.
func (a Arg) At(n int) Arg { a.V += uint64(n); a.Len -= min(a.Len, uint32(n)); return a }

// To names the slot that takes the result.
func (o *Op) To(s Slot) *Op { o.Result = s; return o }

// Ok skips n ops on success.
func (o *Op) Ok(n int) *Op { o.OnOK = uint16(n); return o }

// On skips n ops on e.
func (o *Op) On(e syscall.Errno, n int) *Op {
	o.Cases[o.NCases] = Case{uint16(e), uint16(n)}
	o.NCases++
	return o
}

// Tolerate goes on after any of es.
func (o *Op) Tolerate(es ...syscall.Errno) *Op {
	for _, e := range es {
		o.On(e, 0)
	}
	return o
}

// Again repeats the op up to n times on e.
func (o *Op) Again(e syscall.Errno, n int) *Op {
	o.Retries = uint16(n)
	return o.On(e, int(Retry))
}

// Want fails the op unless its result is v.
func (o *Op) Want(v uint64) *Op { o.Expects, o.Expect = true, v; return o }

// Err sets the text of the op's failure.
func (o *Op) Err(msg string) *Op { o.Msg = msg; return o }

// As says the step in words.
func (o *Op) As(what string) *Op { o.What = what; return o }
