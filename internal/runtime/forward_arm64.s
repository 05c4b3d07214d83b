#include "textflag.h"

// void handler(int sig): registers are the kernel's to restore, the stack is the thread's signal stack.
TEXT handler<>(SB), NOSPLIT|NOFRAME, $0
	MOVW R0, R1              // sig
	SUB  $1, R1, R2
	MOVD $1, R3
	LSL  R2, R3, R3          // its bit
	MOVD $·fwdPending(SB), R4
set:
	LDAXR (R4), R5
	ORR  R3, R5, R6
	STLXR R6, (R4), R7
	CBNZW R7, set
	MOVD $·fwdTarget(SB), R8
	LDAR (R8), R0
	TBNZ $63, R0, done
take:
	LDAXR (R4), R5
	BIC  R3, R5, R6
	STLXR R6, (R4), R7
	CBNZW R7, take
	AND  R3, R5, R5
	CBZ  R5, done            // forwarder.to has taken it
	MOVD $0, R2
	MOVD $0, R3
	MOVD $424, R8            // pidfd_send_signal(target, sig, 0, 0)
	SVC
done:
	RET

TEXT sigreturn<>(SB), NOSPLIT|NOFRAME, $0
	MOVD $139, R8
	SVC
	BRK

// func fwdHandler() uintptr
TEXT ·fwdHandler(SB), NOSPLIT, $0-8
	MOVD $handler<>(SB), R0
	MOVD R0, ret+0(FP)
	RET

// func fwdReturn() uintptr
TEXT ·fwdReturn(SB), NOSPLIT, $0-8
	MOVD $sigreturn<>(SB), R0
	MOVD R0, ret+0(FP)
	RET
