#include "textflag.h"

DATA oneProcessor<>+0(SB)/8, $"GOMAXPRO"
DATA oneProcessor<>+8(SB)/8, $"CS=1\x00\x00\x00\x00"
GLOBL oneProcessor<>(SB), RODATA, $16

// Entry: see entry_linux_amd64.s.
TEXT ·Entry(SB), NOSPLIT|NOFRAME, $0
	MOVD $167, R8                   // prctl
	MOVD $30, R0                    // PR_GET_TIMERSLACK
	SVC
	MOVD R0, ·slack(SB)
	MOVD $29, R0                    // PR_SET_TIMERSLACK
	MOVD $10000000, R1
	SVC
	MOVD ·profileRate(SB), R0
	MOVD ZR, (R0)
	MOVD $·mmap(SB), R0
	MOVD R0, _cgo_mmap(SB)

	MOVD $runtime·text(SB), R0      // up to the end of the function table
	MOVD $runtime·epclntab(SB), R1
	AND  $~4095, R0
	SUB  R0, R1
	MOVD $(8<<20), R2
	CMP  R2, R1
	BHI  data
	ADD  $4095, R1
	AND  $~4095, R1
	MOVD $22, R2                    // MADV_POPULATE_READ
	MOVD $233, R8                   // madvise
	SVC
data:
	MOVD $runtime·noptrdata(SB), R0 // data and bss
	MOVD $runtime·end(SB), R1
	AND  $~4095, R0
	SUB  R0, R1
	MOVD $(1<<20), R2
	CMP  R2, R1
	BHI  arguments
	ADD  $4095, R1
	AND  $~4095, R1
	MOVD $23, R2                    // MADV_POPULATE_WRITE
	MOVD $233, R8
	SVC

arguments:
	MOVD RSP, R1                    // from here
	MOVD (R1), R2
	ADD  $16, R1, R3
	ADD  R2<<3, R3                  // envp
envs:
	MOVD.P 8(R3), R0
	CBNZ R0, envs
	MOVD R3, R4                     // auxv
auxs:
	MOVD.P 16(R4), R0
	CBNZ R0, auxs                   // until R4
	SUB  $8, R3                     // envp's last 0

	SUB  R4, R1, R5
	ADD  R1, R5
	SUB  $8, R5
	AND  $~15, R5                   // to here
	MOVD R5, R6
copyenv:
	MOVD.P 8(R1), R0
	MOVD.P R0, 8(R6)
	CMP  R1, R3
	BNE  copyenv
	MOVD $oneProcessor<>(SB), R0
	MOVD.P R0, 8(R6)
copyaux:
	MOVD.P 8(R1), R0
	MOVD.P R0, 8(R6)
	CMP  R1, R4
	BNE  copyaux
	MOVD R5, RSP
	JMP  _rt0_arm64_linux(SB)

// mmap: see entry_linux_amd64.s; here R0 to R5.
TEXT ·mmap(SB), NOSPLIT|NOFRAME, $0
	MOVD $(64<<10), R9
	CMP  $3, R2                     // PROT_READ|PROT_WRITE
	BNE  call
	CMP  R9, R1
	BHI  call
	ORR  $0x8000, R3                // MAP_POPULATE
call:
	MOVD $222, R8                   // mmap
	SVC
	CMN  $4095, R0
	BCS  failed
	CMP  $3, R2
	BNE  done
	MOVD R0, R10
	MOVD $0x4000000000, R11         // the heap's first arena
	CMP  R11, R0
	BEQ  heap
	CMP  R9<<2, R1                  // the runtime's own records
	BNE  done
	MOVD R9, R1
	MOVD $23, R2                    // MADV_POPULATE_WRITE
	B    advise
heap:
	MOVD $(4<<20), R1
	MOVD $14, R2                    // MADV_HUGEPAGE
advise:
	MOVD $233, R8                   // madvise
	SVC
	MOVD R10, R0
done:
	RET
failed:
	NEG  R0, R0
	RET

// func code() (from, to uintptr)
TEXT ·code(SB), NOSPLIT, $0-16
	MOVD $runtime·text(SB), R0
	MOVD R0, from+0(FP)
	MOVD $runtime·epclntab(SB), R0
	MOVD R0, to+8(FP)
	RET
