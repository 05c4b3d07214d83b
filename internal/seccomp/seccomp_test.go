package seccomp

import (
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	dockerseccomp "github.com/moby/profiles/seccomp"
)

const auditX8664 = 0xc000003e

func dockerProfile(tb testing.TB) *specs.LinuxSeccomp {
	tb.Helper()
	p, err := dockerseccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func ptr[T any](v T) *T { return &v }

// rules is an entry of the tests' profiles.
func rules(act specs.LinuxSeccompAction, name string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: []string{name}, Action: act, Args: args}
}

func mustCompile(t *testing.T, s *specs.LinuxSeccomp) *Filter {
	t.Helper()
	f, err := Compile(s, specs.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func mustRun(t *testing.T, f *Filter, d Data) uint32 {
	t.Helper()
	got, err := Run(f.Prog, d)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Each operator against Go's own comparison of 64-bit values, and of their low words on a 32-bit architecture.
func TestOperators(t *testing.T) {
	ops := map[specs.LinuxSeccompOperator]func(arg, val, val2 uint64) bool{
		specs.OpNotEqual:     func(arg, val, _ uint64) bool { return arg != val },
		specs.OpLessThan:     func(arg, val, _ uint64) bool { return arg < val },
		specs.OpLessEqual:    func(arg, val, _ uint64) bool { return arg <= val },
		specs.OpEqualTo:      func(arg, val, _ uint64) bool { return arg == val },
		specs.OpGreaterEqual: func(arg, val, _ uint64) bool { return arg >= val },
		specs.OpGreaterThan:  func(arg, val, _ uint64) bool { return arg > val },
		specs.OpMaskedEqual:  func(arg, val, val2 uint64) bool { return arg&val == val2&val },
	}
	if len(ops) != len(Operators()) {
		t.Fatal("an operator is missing")
	}
	for op, want := range ops {
		for _, val := range testValues {
			for _, val2 := range []uint64{0, 1, val, val & 0xff00000003, ^uint64(0)} {
				f := mustCompile(t, &specs.LinuxSeccomp{
					DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86},
					Syscalls: []specs.LinuxSyscall{
						rules(specs.ActErrno, "write", specs.LinuxSeccompArg{Index: 5, Value: val, ValueTwo: val2, Op: op}),
					},
				})
				for _, arg := range testValues {
					got := mustRun(t, f, Data{Nr: 1, Arch: auditX8664, Args: [6]uint64{5: arg}}) == retErrno|ePERM
					if got != want(arg, val, val2) {
						t.Errorf("%#x %s %#x %#x: %v", arg, op, val, val2, got)
					}
					got = mustRun(t, f, Data{Nr: 4, Arch: 0x40000003, Args: [6]uint64{5: arg}}) == retErrno|ePERM
					if got != want(uint64(uint32(arg)), uint64(uint32(val)), uint64(uint32(val2))) {
						t.Errorf("x86: %#x %s %#x %#x: %v", arg, op, val, val2, got)
					}
				}
			}
		}
	}
}

func TestActions(t *testing.T) {
	for act, want := range map[specs.LinuxSeccompAction]uint32{
		specs.ActKill: 0, specs.ActKillThread: 0, specs.ActKillProcess: 0x80000000, specs.ActTrap: 0x30000,
		specs.ActErrno: 0x50001, specs.ActTrace: 0x7ff00001, specs.ActLog: 0x7ffc0000, specs.ActAllow: 0x7fff0000,
	} {
		s := &specs.LinuxSeccomp{DefaultAction: act, Syscalls: []specs.LinuxSyscall{rules(specs.ActErrno, "close_range")}}
		s.Syscalls[0].ErrnoRet = ptr(uint(99))
		f := mustCompile(t, s)
		if got := mustRun(t, f, Data{Nr: 1, Arch: auditX8664}); got != want {
			t.Errorf("%s as default: %#x, want %#x", act, got, want)
		}
		if got := mustRun(t, f, Data{Nr: 436, Arch: auditX8664}); got != retErrno|99 {
			t.Errorf("errnoRet: %#x", got)
		}
		if !slices.Contains(Actions(), string(act)) {
			t.Errorf("Actions does not have %s", act)
		}
	}
}

func TestENOSYS(t *testing.T) {
	for _, tt := range []struct {
		def   specs.LinuxSeccompAction
		errno *uint
		want  uint32
	}{
		{specs.ActErrno, nil, retENOSYS},
		{specs.ActErrno, ptr(uint(13)), retENOSYS},
		{specs.ActErrno, ptr(uint(38)), retENOSYS},
		{specs.ActKillProcess, nil, retENOSYS},
		{specs.ActAllow, nil, retAllow},
		{specs.ActLog, nil, retLog},
		{specs.ActTrace, nil, retTrace | ePERM},
	} {
		s := &specs.LinuxSeccomp{
			DefaultAction: tt.def, DefaultErrnoRet: tt.errno,
			Syscalls: []specs.LinuxSyscall{rules(specs.ActTrap, "close_range"), rules(tt.def, "faccessat2")},
		}
		s.Syscalls[1].ErrnoRet = tt.errno
		f := mustCompile(t, s)
		if got := mustRun(t, f, Data{Nr: 440, Arch: auditX8664}); got != tt.want {
			t.Errorf("default %s: a new call gets %#x, want %#x", tt.def, got, tt.want)
		}
		def, _ := parseAction(tt.def, tt.errno, 0)
		if got := mustRun(t, f, Data{Nr: 439, Arch: auditX8664}); got != def {
			t.Errorf("default %s: faccessat2, which is named, gets %#x, want %#x", tt.def, got, def)
		}
	}
}

func TestArchitectures(t *testing.T) {
	s := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86, specs.ArchX32},
		Syscalls: []specs.LinuxSyscall{rules(specs.ActAllow, "socket"), rules(specs.ActAllow, "mseal")},
	}
	f := mustCompile(t, s)
	s.Architectures = nil
	alone := mustCompile(t, s)
	for _, tt := range []struct {
		name        string
		d           Data
		want, alone uint32
	}{
		{"x86_64 socket", Data{Nr: 41, Arch: auditX8664}, retAllow, retAllow},
		{"x86 socket", Data{Nr: 359, Arch: 0x40000003}, retAllow, retKillThread},
		{"x86 socketcall socket", Data{Nr: 102, Arch: 0x40000003, Args: [6]uint64{1}}, retAllow, retKillThread},
		{"x86 socketcall bind", Data{Nr: 102, Arch: 0x40000003, Args: [6]uint64{2}}, retErrno | ePERM, retKillThread},
		{"x32 socket", Data{Nr: x32Bit + 41, Arch: auditX8664}, retAllow, retKillThread},
		{"x32 bind", Data{Nr: x32Bit + 49, Arch: auditX8664}, retErrno | ePERM, retKillThread},
		{"x86_64 mseal", Data{Nr: 462, Arch: auditX8664}, retAllow, retAllow},
		{"x86_64 setxattrat", Data{Nr: 463, Arch: auditX8664}, retENOSYS, retENOSYS},
		{"x32 setxattrat", Data{Nr: x32Bit + 463, Arch: auditX8664}, retENOSYS, retKillThread},
		{"arm", Data{Nr: 1, Arch: 0x40000028}, retKillThread, retKillThread},
		{"skipped by a tracer", Data{Nr: -1, Arch: auditX8664}, retENOSYS, retErrno | ePERM},
	} {
		if got := mustRun(t, f, tt.d); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.name, got, tt.want)
		}
		if got := mustRun(t, alone, tt.d); got != tt.alone {
			t.Errorf("%s without sub-architectures: %#x, want %#x", tt.name, got, tt.alone)
		}
	}
	for _, name := range Archs() {
		a, ok := lookupArch(specs.Arch(name))
		if !ok || len(a.calls) < 250 {
			t.Errorf("%s has %d calls", name, len(a.calls))
		}
	}
}

func TestErrors(t *testing.T) {
	arg := specs.LinuxSeccompArg{Op: specs.OpEqualTo}
	entry := func(change func(*specs.LinuxSyscall)) specs.LinuxSeccomp {
		c := rules(specs.ActAllow, "read")
		change(&c)
		return specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{rules(specs.ActAllow, "exit"), c}}
	}
	for want, s := range map[string]specs.LinuxSeccomp{
		`linux.seccomp.defaultAction: SCMP_ACT_NOTIFY is not supported`: {DefaultAction: specs.ActNotify},
		`linux.seccomp.defaultAction: unknown action "ALLOW"`:           {DefaultAction: "ALLOW"},
		`linux.seccomp.defaultAction: unknown action ""`:                {Syscalls: []specs.LinuxSyscall{{}}},
		`linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW takes no errno`: {
			DefaultAction: specs.ActAllow, DefaultErrnoRet: ptr(uint(1)),
		},
		`linux.seccomp.listenerPath: SCMP_ACT_NOTIFY is not supported`: {DefaultAction: specs.ActAllow, ListenerPath: "/x"},
		`linux.seccomp.listenerMetadata: SCMP_ACT_NOTIFY is not supported`: {
			DefaultAction: specs.ActAllow, ListenerMetadata: "x",
		},
		`linux.seccomp.architectures[1]: unknown architecture "SCMP_ARCH_VAX"`: {
			DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86, "SCMP_ARCH_VAX"},
		},
		`linux.seccomp.architectures[0]: SCMP_ARCH_S390X has another byte order than SCMP_ARCH_X86_64`: {
			DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchS390X},
		},
		`linux.seccomp.flags[0]: unknown flag "SECCOMP_FILTER_FLAG_NEW_LISTENER"`: {
			DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_NEW_LISTENER"},
		},
		`linux.seccomp.syscalls[1].action: SCMP_ACT_NOTIFY is not supported`: entry(func(c *specs.LinuxSyscall) {
			c.Action = specs.ActNotify
		}),
		`linux.seccomp.syscalls[1].errnoRet: SCMP_ACT_KILL takes no errno`: entry(func(c *specs.LinuxSyscall) {
			c.Action, c.ErrnoRet = specs.ActKill, ptr(uint(0))
		}),
		`linux.seccomp.syscalls[1].errnoRet: 65536 is above 65535`: entry(func(c *specs.LinuxSyscall) {
			c.Action, c.ErrnoRet = specs.ActErrno, ptr(uint(65536))
		}),
		`linux.seccomp.syscalls[1].names[1]: is empty`: entry(func(c *specs.LinuxSyscall) { c.Names = []string{"read", ""} }),
		`linux.seccomp.syscalls[1].args[0].index: 6 is above 5`: entry(func(c *specs.LinuxSyscall) {
			c.Args = []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}
		}),
		`linux.seccomp.syscalls[1].args[1].op: unknown operator "=="`: entry(func(c *specs.LinuxSyscall) {
			c.Args = []specs.LinuxSeccompArg{arg, {Index: 1, Op: "=="}}
		}),
		`linux.seccomp.syscalls[1].args: another action for the same arguments as syscalls[0]`: {
			DefaultAction: specs.ActErrno,
			Syscalls:      []specs.LinuxSyscall{rules(specs.ActAllow, "read", arg), rules(specs.ActTrap, "read", arg)},
		},
	} {
		f, err := Compile(&s, specs.ArchX86_64)
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if f != nil {
			t.Errorf("%s: a filter nevertheless", want)
		}
	}
	many := specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range 3000 {
		many.Syscalls = append(many.Syscalls, rules(specs.ActAllow, "read", specs.LinuxSeccompArg{Value: uint64(i) << 31, Op: specs.OpGreaterThan}))
	}
	if _, err := Compile(&many, specs.ArchX86_64); err == nil || !strings.HasSuffix(err.Error(), "instructions, the kernel takes 4096") {
		t.Errorf("too long: %v", err)
	}
}

func TestNoFilter(t *testing.T) {
	for _, s := range []*specs.LinuxSeccomp{nil, {}} {
		if f, err := Compile(s, specs.ArchX86_64); f != nil || err != nil {
			t.Errorf("%v, %v", f, err)
		}
	}
}

func TestFlags(t *testing.T) {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	for _, f := range Flags() {
		s.Flags = append(s.Flags, specs.LinuxSeccompFlag(f))
	}
	if f := mustCompile(t, s); f.Flags != flagTsync|flagLog|flagSpecAllow {
		t.Errorf("flags %#x", f.Flags)
	}
}

func TestRunRefuses(t *testing.T) {
	for want, prog := range map[string][]Insn{
		"seccomp: program without a return at its end":  {{Code: insnLoad}},
		"seccomp: load outside of seccomp_data":         {{Code: insnLoad, K: 64}},
		"seccomp: jump over the program's end":          {{Code: insnJA, K: 1 << 31}},
		"seccomp: unknown instruction":                  {{Code: 0x87}},
		"seccomp: program without a return at its end ": {{Code: insnJEQ, Jf: 9, Jt: 9}, {Code: insnRet}},
	} {
		if _, err := Run(prog, Data{Arch: auditX8664}); err == nil || err.Error() != strings.TrimSpace(want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestBytes(t *testing.T) {
	f := Filter{Prog: []Insn{{0x15, 2, 3, 0x04030201}}}
	if got := f.Bytes(); !slices.Equal(got, []byte{0x15, 0, 2, 3, 1, 2, 3, 4}) {
		t.Errorf("% x", got)
	}
}

func TestTables(t *testing.T) {
	for i := range nameCount {
		if got := lookupName(nameAt(i)); got != i {
			t.Errorf("%s: index %d, want %d", nameAt(i), got, i)
		}
	}
	for _, name := range []string{"", "no_such_call", "READ"} {
		if lookupName(name) >= 0 {
			t.Errorf("%q is known", name)
		}
	}
}

// Docker's profile has to be short, and each of its decisions near.
func TestDockerSize(t *testing.T) {
	f, err := Compile(dockerProfile(t), Native())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(f.Prog))
	if len(f.Prog) > 500 {
		t.Errorf("Docker's profile is %d instructions", len(f.Prog))
	}
}

// FuzzCompile checks that what Compile makes is a valid program with an answer for every call.
func FuzzCompile(f *testing.F) {
	f.Add([]byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"))
	f.Fuzz(func(t *testing.T, in []byte) {
		at := 0
		next := func(n int) int {
			if at++; at > len(in) || n == 0 {
				return 0
			}
			return int(in[at-1]) % n
		}
		archs := testNatives[next(len(testNatives))]
		s := &specs.LinuxSeccomp{DefaultAction: testActions[next(len(testActions))], Architectures: archs}
		for at < len(in) && len(s.Syscalls) < 500 {
			c := rules(testActions[next(len(testActions))], nameAt(next(256)+next(nameCount-255)))
			for range next(4) {
				c.Args = append(c.Args, specs.LinuxSeccompArg{
					Index: uint(next(7)), Op: testOps[next(len(testOps))],
					Value: testValues[next(len(testValues))], ValueTwo: testValues[next(len(testValues))],
				})
			}
			s.Syscalls = append(s.Syscalls, c)
		}
		filter, err := Compile(s, archs[0])
		if err != nil {
			return
		}
		checkProgram(t, filter.Prog)
		for nr := range int32(600) {
			if _, err := Run(filter.Prog, Data{Nr: nr, Arch: auditX8664, Args: [6]uint64{uint64(nr)}}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// checkProgram does what the kernel's bpf_check_classic does.
func checkProgram(t *testing.T, prog []Insn) {
	t.Helper()
	for i, in := range prog {
		far := i
		switch in.Code {
		case insnJA:
			far += 1 + int(in.K)
		case insnJEQ, insnJGT, insnJGE, insnJSET:
			far += 1 + int(max(in.Jt, in.Jf))
		}
		if far >= len(prog) {
			t.Fatalf("instruction %d of %d jumps to %d", i, len(prog), far)
		}
	}
	if len(prog) == 0 || prog[len(prog)-1].Code != insnRet {
		t.Fatal("no return at the end")
	}
}

func BenchmarkCompile(b *testing.B) {
	p := dockerProfile(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(p, Native()); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRefused(t *testing.T) {
	f := mustCompile(t, &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		rules(specs.ActAllow, "execve"), rules(specs.ActLog, "write"), rules(specs.ActKillProcess, "capset"),
	}})
	got := Refused(f.Bytes(), "execve", "write", "capset", "exit_group", "no such call")
	if Native() == specs.ArchX86_64 && !slices.Equal(got, []string{"capset", "exit_group"}) {
		t.Error(got)
	}
}
