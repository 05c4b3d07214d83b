#include "textflag.h"

// The interpreter: see layout.go for offsets. R15 header, R12 op, R14 retries left. No stack, no calls.
TEXT ·interp(SB), NOSPLIT|NOFRAME, $0
	MOVL $0x10000000, R15
	MOVQ 0(R15), R12
next:
	MOVWLZX 40(R12), R14
again:
	MOVBLZX 0(R12), AX
	MOVBLZX 1(R12), BX
	MOVLQSX 8(R12), DI
	MOVLQSX 12(R12), SI
	MOVLQSX 16(R12), DX
	MOVLQSX 20(R12), R10
	MOVLQSX 24(R12), R8
	MOVLQSX 28(R12), R9
	TESTL $1, BX
	JEQ a1
	MOVQ (DI), DI
a1:
	TESTL $2, BX
	JEQ a2
	MOVQ (SI), SI
a2:
	TESTL $4, BX
	JEQ a3
	MOVQ (DX), DX
a3:
	TESTL $8, BX
	JEQ a4
	MOVQ (R10), R10
a4:
	TESTL $16, BX
	JEQ a5
	MOVQ (R8), R8
a5:
	TESTL $32, BX
	JEQ a6
	MOVQ (R9), R9
a6:
	CMPL AX, $1
	JEQ test
	JHI copy
	MOVL 4(R12), AX
	SYSCALL
	CMPQ AX, $-4095
	JCC failed
	MOVL 32(R12), CX
	TESTL CX, CX
	JEQ stored
	MOVQ AX, (CX)
stored:
	MOVQ AX, 24(R15)
	TESTB $1, 3(R12)
	JEQ ok
	MOVLQSX 44(R12), CX
	CMPQ AX, CX
	JEQ ok
	TESTQ AX, AX
	MOVL $5, AX          // EIO
	JNE find
	MOVL $32, AX         // EPIPE: the other side is gone
	JMP find
ok:
	MOVWLZX 38(R12), AX
advance:
	INCQ AX
	IMULQ $72, AX
	ADDQ AX, R12
	JMP next

test:
	MOVBLZX 2(R12), CX
	CMPL CX, $1
	JEQ load1
	CMPL CX, $2
	JEQ load2
	CMPL CX, $4
	JEQ load4
	MOVQ (DI), AX
	JMP compare
load1:
	MOVBLZX (DI), AX
	JMP compare
load2:
	MOVWLZX (DI), AX
	JMP compare
load4:
	MOVL (DI), AX
compare:
	MOVQ AX, 24(R15)
	ANDQ SI, AX
	CMPQ AX, DX
	JEQ ok
	MOVL 4(R12), AX
	JMP find

copy:
	MOVBLZX 2(R12), CX
	CMPL CX, $1
	JEQ copy1
	CMPL CX, $2
	JEQ copy2
	CMPL CX, $4
	JEQ copy4
	MOVQ (SI), AX
	MOVQ AX, (DI)
	JMP ok
copy1:
	MOVBLZX (SI), AX
	MOVB AX, (DI)
	JMP ok
copy2:
	MOVWLZX (SI), AX
	MOVW AX, (DI)
	JMP ok
copy4:
	MOVL (SI), AX
	MOVL AX, (DI)
	JMP ok

failed:
	MOVQ $0, 24(R15)
	NEGQ AX
find:
	LEAQ 48(R12), SI
	MOVL $6, CX
scan:
	MOVWLZX 0(SI), DX
	TESTL DX, DX
	JEQ report
	CMPL DX, $0xffff
	JEQ hit
	CMPL DX, AX
	JEQ hit
	ADDQ $4, SI
	DECL CX
	JNE scan
report:
	MOVWLZX 36(R12), BX
	MOVL BX, 16(R15)
	MOVL AX, 20(R15)
	MOVQ 8(R15), DI
	LEAQ 16(R15), SI
	MOVL $16, DX
	MOVL $1, AX          // write
	SYSCALL
	MOVL $1, DI
	MOVL $231, AX        // exit_group
	SYSCALL
	UD2                  // a filter may have refused exit_group
hit:
	MOVWLZX 2(SI), CX
	CMPL CX, $0xffff
	JEQ retry
	MOVQ CX, AX
	JMP advance
retry:
	TESTL R14, R14
	JEQ report
	DECL R14
	JMP again

TEXT ·interpEnd(SB), NOSPLIT|NOFRAME, $0
	RET

// func code() (start, end uintptr)
TEXT ·code(SB), NOSPLIT, $0-16
	LEAQ ·interp(SB), AX
	MOVQ AX, start+0(FP)
	LEAQ ·interpEnd(SB), AX
	MOVQ AX, end+8(FP)
	RET
