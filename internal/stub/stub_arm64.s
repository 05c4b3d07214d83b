#include "textflag.h"

// The interpreter: see layout.go for offsets. R19 header, R20 op, R21 retries left. No stack, no calls.
TEXT ·interp(SB), NOSPLIT|NOFRAME, $0
	MOVD $0x10000000, R19
	MOVD 0(R19), R20
next:
	MOVHU 40(R20), R21
again:
	MOVBU 0(R20), R9
	MOVBU 1(R20), R10
	MOVW 8(R20), R0
	MOVW 12(R20), R1
	MOVW 16(R20), R2
	MOVW 20(R20), R3
	MOVW 24(R20), R4
	MOVW 28(R20), R5
	TBZ $0, R10, a1
	MOVD (R0), R0
a1:
	TBZ $1, R10, a2
	MOVD (R1), R1
a2:
	TBZ $2, R10, a3
	MOVD (R2), R2
a3:
	TBZ $3, R10, a4
	MOVD (R3), R3
a4:
	TBZ $4, R10, a5
	MOVD (R4), R4
a5:
	TBZ $5, R10, a6
	MOVD (R5), R5
a6:
	CMPW $1, R9
	BEQ test
	BHI copy
	MOVWU 4(R20), R8
	SVC
	CMN $4095, R0
	BHS failed
	MOVWU 32(R20), R9
	CBZ R9, stored
	MOVD R0, (R9)
stored:
	MOVD R0, 24(R19)
	MOVBU 3(R20), R9
	TBZ $0, R9, ok
	MOVW 44(R20), R9
	CMP R9, R0
	BEQ ok
	MOVD $5, R9           // EIO
	CBNZ R0, find
	MOVD $32, R9          // EPIPE: the other side is gone
	B find
ok:
	MOVHU 38(R20), R9
advance:
	ADD $1, R9
	MOVD $72, R10
	MADD R10, R20, R9, R20
	B next

test:
	MOVBU 2(R20), R9
	CMPW $1, R9
	BEQ load1
	CMPW $2, R9
	BEQ load2
	CMPW $4, R9
	BEQ load4
	MOVD (R0), R9
	B compare
load1:
	MOVBU (R0), R9
	B compare
load2:
	MOVHU (R0), R9
	B compare
load4:
	MOVWU (R0), R9
compare:
	MOVD R9, 24(R19)
	AND R1, R9, R9
	CMP R2, R9
	BEQ ok
	MOVWU 4(R20), R9
	B find

copy:
	MOVBU 2(R20), R9
	CMPW $1, R9
	BEQ copy1
	CMPW $2, R9
	BEQ copy2
	CMPW $4, R9
	BEQ copy4
	MOVD (R1), R9
	MOVD R9, (R0)
	B ok
copy1:
	MOVBU (R1), R9
	MOVB R9, (R0)
	B ok
copy2:
	MOVHU (R1), R9
	MOVH R9, (R0)
	B ok
copy4:
	MOVWU (R1), R9
	MOVW R9, (R0)
	B ok

failed:
	MOVD ZR, 24(R19)
	NEG R0, R9
find:                         // errno in R9
	ADD $48, R20, R11
	MOVD $6, R12
scan:
	MOVHU 0(R11), R13
	CBZ R13, report
	MOVD $0xffff, R14
	CMP R14, R13
	BEQ hit
	CMP R9, R13
	BEQ hit
	ADD $4, R11
	SUB $1, R12
	CBNZ R12, scan
report:
	MOVHU 36(R20), R10
	MOVW R10, 16(R19)
	MOVW R9, 20(R19)
	MOVD 8(R19), R0
	ADD $16, R19, R1
	MOVD $16, R2
	MOVD $64, R8          // write
	SVC
	MOVD $1, R0
	MOVD $94, R8          // exit_group
	SVC
	UNDEF                 // a filter may have refused exit_group
hit:
	MOVHU 2(R11), R9
	MOVD $0xffff, R14
	CMP R14, R9
	BEQ retry
	B advance
retry:
	CBZ R21, report2
	SUB $1, R21
	B again
report2:                      // the errno was overwritten by the skip: load it again
	MOVHU 0(R11), R9
	B report

TEXT ·interpEnd(SB), NOSPLIT|NOFRAME, $0
	RET

// func code() (start, end uintptr)
TEXT ·code(SB), NOSPLIT, $0-16
	MOVD $·interp(SB), R0
	MOVD R0, start+0(FP)
	MOVD $·interpEnd(SB), R0
	MOVD R0, end+8(FP)
	RET
