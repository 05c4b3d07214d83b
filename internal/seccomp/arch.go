package seccomp

import (
	"runtime"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// x32Bit is __X32_SYSCALL_BIT: x32 calls share AUDIT_ARCH_X86_64 and differ by this bit of the number.
const x32Bit = 0x40000000

// auditLE is __AUDIT_ARCH_LE of linux/audit.h.
const auditLE = 0x40000000

// arch says how system calls look on one architecture.
type arch struct {
	name  specs.Arch
	audit uint32 // AUDIT_ARCH_*, seccomp_data.arch
	wide  bool   // arguments are 64 bits; otherwise only the low word is looked at, as libseccomp does
	calls []call // sorted by number
}

func (a *arch) bigEndian() bool { return a.audit&auditLE == 0 }

// number decodes a row of the table: 0xf000 and up are ARM's private calls from 0xf0000.
func (a *arch) number(c call) uint32 {
	nr := uint32(c.nr)
	switch {
	case a.name == specs.ArchX32:
		return nr | x32Bit
	case nr >= 0xf000:
		return 0xf0000 + nr&0xfff
	}
	return nr
}

// lookupArch is a switch and not a table, so that nothing has to be initialised or relocated at start-up.
func lookupArch(name specs.Arch) (arch, bool) {
	switch name {
	case specs.ArchX86:
		return arch{name, 0x40000003, false, callsX86[:]}, true
	case specs.ArchX86_64:
		return arch{name, 0xc000003e, true, callsAMD64[:]}, true
	case specs.ArchX32:
		return arch{name, 0xc000003e, false, callsX32[:]}, true
	case specs.ArchARM:
		return arch{name, 0x40000028, false, callsARM[:]}, true
	case specs.ArchAARCH64:
		return arch{name, 0xc00000b7, true, callsARM64[:]}, true
	case specs.ArchMIPS:
		return arch{name, 0x00000008, false, callsMIPS[:]}, true
	case specs.ArchMIPSEL:
		return arch{name, 0x40000008, false, callsMIPS[:]}, true
	case specs.ArchMIPS64:
		return arch{name, 0x80000008, true, callsMIPS64[:]}, true
	case specs.ArchMIPSEL64:
		return arch{name, 0xc0000008, true, callsMIPS64[:]}, true
	case specs.ArchMIPS64N32:
		return arch{name, 0xa0000008, false, callsMIPSN32[:]}, true
	case specs.ArchMIPSEL64N32:
		return arch{name, 0xe0000008, false, callsMIPSN32[:]}, true
	case specs.ArchPPC:
		return arch{name, 0x00000014, false, callsPPC[:]}, true
	case specs.ArchPPC64:
		return arch{name, 0x80000015, true, callsPPC64[:]}, true
	case specs.ArchPPC64LE:
		return arch{name, 0xc0000015, true, callsPPC64[:]}, true
	case specs.ArchS390:
		return arch{name, 0x00000016, false, callsS390[:]}, true
	case specs.ArchS390X:
		return arch{name, 0x80000016, true, callsS390X[:]}, true
	case specs.ArchPARISC:
		return arch{name, 0x0000000f, false, callsPARISC[:]}, true
	case specs.ArchPARISC64:
		return arch{name, 0x8000000f, true, callsPARISC64[:]}, true
	case specs.ArchRISCV64:
		return arch{name, 0xc00000f3, true, callsRISCV64[:]}, true
	case specs.ArchLOONGARCH64:
		return arch{name, 0xc0000102, true, callsLoong64[:]}, true
	}
	return arch{}, false
}

// Native returns the architecture that this binary was built for, "" where vitrun has no stub.
func Native() specs.Arch {
	switch runtime.GOARCH {
	case "amd64":
		return specs.ArchX86_64
	case "arm64":
		return specs.ArchAARCH64
	}
	return ""
}

// Archs returns the architectures that Compile knows, sorted.
func Archs() []string {
	return []string{
		"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64",
		"SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PARISC",
		"SCMP_ARCH_PARISC64", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64",
		"SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64",
	}
}
