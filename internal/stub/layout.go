package stub

import "vitro/internal/plan"

// Binary form of an op, as the interpreter in stub_*.s reads it. The assembly has the same numbers as literals.
const (
	opSize    = 112
	offKind   = 0  // u8: 0 syscall, 1 test, 2 copy
	offSlots  = 1  // u8: bit i: operand i is loaded through its address
	offWidth  = 2  // u8
	offFlags  = 3  // u8: bit 0: compare the result with offExpect
	offNr     = 4  // u32: system call; test: errno of a mismatch
	offArgs   = 8  // 6 × u64
	offResult = 56 // u64: address for the result, 0 for none
	offIndex  = 64 // u32: index in plan.Program.Ops
	offOnOK   = 68 // u16
	offRetry  = 70 // u16
	offExpect = 72 // u64
	offCases  = 80 // 8 × {errno u16, skip u16}, errno 0 ends
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
