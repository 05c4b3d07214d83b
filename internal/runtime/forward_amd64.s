#include "textflag.h"

// void handler(int sig): registers are the kernel's to restore, the stack is the thread's signal stack.
TEXT handler<>(SB), NOSPLIT|NOFRAME, $0
	MOVL DI, SI              // sig
	LEAL -1(SI), CX
	LOCK
	BTSQ CX, ·fwdPending(SB)
	MOVQ ·fwdTarget(SB), DI
	TESTQ DI, DI
	JLT  done
	LOCK
	BTRQ CX, ·fwdPending(SB)
	JCC  done                // forwarder.to has taken it
	XORL DX, DX
	XORL R10, R10
	MOVL $424, AX            // pidfd_send_signal(target, sig, 0, 0)
	SYSCALL
done:
	RET

TEXT sigreturn<>(SB), NOSPLIT|NOFRAME, $0
	MOVL $15, AX
	SYSCALL
	INT $3

// func fwdHandler() uintptr
TEXT ·fwdHandler(SB), NOSPLIT, $0-8
	LEAQ handler<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func fwdReturn() uintptr
TEXT ·fwdReturn(SB), NOSPLIT, $0-8
	LEAQ sigreturn<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET
