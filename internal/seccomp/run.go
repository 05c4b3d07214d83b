package seccomp

import "errors"

// Insn is struct sock_filter of linux/filter.h.
type Insn struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

// Codes of the instructions that Compile and libseccomp emit (linux/bpf_common.h).
const (
	insnLoad = 0x20 // BPF_LD  | BPF_W   | BPF_ABS
	insnAnd  = 0x54 // BPF_ALU | BPF_AND | BPF_K
	insnJA   = 0x05 // BPF_JMP | BPF_JA
	insnJEQ  = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	insnJGT  = 0x25 // BPF_JMP | BPF_JGT | BPF_K
	insnJGE  = 0x35 // BPF_JMP | BPF_JGE | BPF_K
	insnJSET = 0x45 // BPF_JMP | BPF_JSET | BPF_K
	insnRet  = 0x06 // BPF_RET | BPF_K
)

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

// Data is struct seccomp_data of linux/seccomp.h: one system call.
type Data struct {
	Nr   int32
	Arch uint32 // AUDIT_ARCH_*
	IP   uint64
	Args [maxArgs]uint64
}

// word returns the 32 bits at a byte offset, in the byte order of the call's architecture.
func (d *Data) word(off uint32) (uint32, bool) {
	if off%4 != 0 {
		return 0, false
	}
	wide := d.IP
	switch {
	case off == offNr:
		return uint32(d.Nr), true
	case off == offArch:
		return d.Arch, true
	case off >= offArgs+8*maxArgs:
		return 0, false
	case off >= offArgs:
		wide = d.Args[(off-offArgs)/8]
	}
	if high := off%8 != 0; high == (d.Arch&auditLE != 0) {
		return uint32(wide >> 32), true
	}
	return uint32(wide), true
}

// Run interprets a filter for one system call and returns its SECCOMP_RET_* value. It knows the instructions that
// Compile and libseccomp emit, and is for tests and explanations; the kernel runs the filter itself.
func Run(prog []Insn, d Data) (uint32, error) {
	acc := uint32(0)
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		taken := false
		switch in.Code {
		case insnRet:
			return in.K, nil
		case insnLoad:
			w, ok := d.word(in.K)
			if !ok {
				return 0, errors.New("seccomp: load outside of seccomp_data")
			}
			acc = w
			continue
		case insnAnd:
			acc &= in.K
			continue
		case insnJA:
			if uint64(pc)+uint64(in.K) >= uint64(len(prog)) {
				return 0, errors.New("seccomp: jump over the program's end")
			}
			pc += int(in.K)
			continue
		case insnJEQ:
			taken = acc == in.K
		case insnJGT:
			taken = acc > in.K
		case insnJGE:
			taken = acc >= in.K
		case insnJSET:
			taken = acc&in.K != 0
		default:
			return 0, errors.New("seccomp: unknown instruction")
		}
		if taken {
			pc += int(in.Jt)
		} else {
			pc += int(in.Jf)
		}
	}
	return 0, errors.New("seccomp: program without a return at its end")
}
