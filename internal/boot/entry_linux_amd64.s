#include "textflag.h"

DATA oneProcessor<>+0(SB)/8, $"GOMAXPRO"
DATA oneProcessor<>+8(SB)/8, $"CS=1\x00\x00\x00\x00"
GLOBL oneProcessor<>(SB), RODATA, $16

// Entry is called by the kernel: SP points at argc, argv, 0, envp, 0, auxv (System V ABI, 3.4.1). All of it is copied below
// itself with one more string in envp.
TEXT ·Entry(SB), NOSPLIT|NOFRAME, $0
	MOVQ $157, AX                   // prctl
	MOVQ $30, DI                    // PR_GET_TIMERSLACK
	SYSCALL
	MOVQ AX, ·slack(SB)
	MOVQ $157, AX
	MOVQ $29, DI                    // PR_SET_TIMERSLACK
	MOVQ $10000000, SI
	SYSCALL
	MOVQ ·profileRate(SB), AX
	MOVQ $0, 0(AX)
	MOVQ $·mmap(SB), AX
	MOVQ AX, _cgo_mmap(SB)

	MOVQ $runtime·text(SB), DI      // up to the end of the function table
	MOVQ $runtime·epclntab(SB), SI
	ANDQ $~4095, DI
	SUBQ DI, SI
	CMPQ SI, $(8<<20)
	JHI  data
	ADDQ $4095, SI
	ANDQ $~4095, SI
	MOVQ $22, DX                    // MADV_POPULATE_READ
	MOVQ $28, AX                    // madvise
	SYSCALL
data:
	MOVQ $runtime·noptrdata(SB), DI // data and bss
	MOVQ $runtime·end(SB), SI
	ANDQ $~4095, DI
	SUBQ DI, SI
	CMPQ SI, $(1<<20)
	JHI  arguments
	ADDQ $4095, SI
	ANDQ $~4095, SI
	MOVQ $23, DX                    // MADV_POPULATE_WRITE
	MOVQ $28, AX
	SYSCALL

arguments:
	MOVQ SP, SI                     // from here
	MOVQ 0(SI), CX
	LEAQ 16(SI)(CX*8), BX           // envp
envs:
	MOVQ 0(BX), AX
	ADDQ $8, BX
	TESTQ AX, AX
	JNZ  envs
	MOVQ BX, DX                     // auxv
auxs:
	MOVQ 0(DX), AX
	ADDQ $16, DX
	TESTQ AX, AX
	JNZ  auxs                       // until DX
	SUBQ $8, BX                     // envp's last 0

	MOVQ SI, R8
	SUBQ DX, R8
	LEAQ -8(SI)(R8*1), R8
	ANDQ $~15, R8                   // to here
	MOVQ R8, DI
copyenv:
	MOVQ 0(SI), AX
	MOVQ AX, 0(DI)
	ADDQ $8, SI
	ADDQ $8, DI
	CMPQ SI, BX
	JNE  copyenv
	MOVQ $oneProcessor<>(SB), AX
	MOVQ AX, 0(DI)
	ADDQ $8, DI
copyaux:
	MOVQ 0(SI), AX
	MOVQ AX, 0(DI)
	ADDQ $8, SI
	ADDQ $8, DI
	CMPQ SI, DX
	JNE  copyaux
	MOVQ R8, SP
	JMP  _rt0_amd64_linux(SB)

// mmap is called by the runtime in place of its own system call, with C's calling convention: DI addr, SI n, DX prot, CX flags,
// R8 fd, R9 offset; an errno comes back as a number below 4096.
TEXT ·mmap(SB), NOSPLIT|NOFRAME, $0
	MOVQ CX, R10
	CMPQ DX, $3                     // PROT_READ|PROT_WRITE
	JNE  call
	CMPQ SI, $(64<<10)
	JHI  call
	ORQ  $0x8000, R10               // MAP_POPULATE
call:
	MOVQ $9, AX                     // mmap
	SYSCALL
	CMPQ AX, $0xfffffffffffff001
	JCC  failed
	CMPQ DX, $3
	JNE  done
	MOVQ AX, R9
	MOVQ $0xc000000000, CX          // the heap's first arena
	CMPQ AX, CX
	JEQ  heap
	CMPQ SI, $(256<<10)             // the runtime's own records
	JNE  done
	MOVQ AX, DI
	MOVQ $(64<<10), SI
	MOVQ $23, DX                    // MADV_POPULATE_WRITE
	JMP  advise
heap:
	MOVQ AX, DI
	MOVQ $(4<<20), SI
	MOVQ $14, DX                    // MADV_HUGEPAGE
advise:
	MOVQ $28, AX                    // madvise
	SYSCALL
	MOVQ R9, AX
done:
	RET
failed:
	NEGQ AX
	RET

// func code() (from, to uintptr)
TEXT ·code(SB), NOSPLIT, $0-16
	MOVQ $runtime·text(SB), AX
	MOVQ AX, from+0(FP)
	MOVQ $runtime·epclntab(SB), AX
	MOVQ AX, to+8(FP)
	RET
