package stub

import "vitro/internal/plan"

// Binary form of an op, as the interpreter in stub_*.s reads it. The assembly has the same numbers as literals.
const (
	opSize    = 72
	offKind   = 0  // u8: 0 syscall, 1 test, 2 copy
	offSlots  = 1  // u8: bit i: operand i is an address, and the 8 bytes there are meant
	offWidth  = 2  // u8
	offFlags  = 3  // u8: bit 0: compare the result with offExpect
	offNr     = 4  // u32: system call; test: errno of a mismatch
	offArgs   = 8  // 6 × i32, sign-extended; all addresses are below 2 GiB, a wider immediate lies in memory (offSlots)
	offResult = 32 // u32: address for the result, 0 for none
	offIndex  = 36 // u16: index in plan.Program.Ops
	offOnOK   = 38 // u16
	offRetry  = 40 // u16
	offExpect = 44 // i32
	offCases  = 48 // 6 × {errno u16, skip u16}, errno 0 ends
)

// Header at dataBase.
const (
	hdrFirst  = 0  // u64: address of the first op
	hdrErrFD  = 8  // u64: fd for records
	hdrRecord = 16 // 16 bytes
	hdrSize   = 32

	codeBase = 0x400000
	dataBase = 0x10000000
)

// slotAddr is the address of slot s in the stub.
func slotAddr(s plan.Slot) uint64 { return dataBase + hdrSize + 8*uint64(s) }
