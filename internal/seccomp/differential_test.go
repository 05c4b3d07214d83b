package seccomp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// peer is a process that compiles profiles with libseccomp.
type peer struct {
	in  io.Writer
	out *bufio.Reader
}

func startPeer(t *testing.T) *peer {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "peer")
	if out, err := exec.Command("gcc", "-w", "-o", bin, "testdata/peer.c", "-lseccomp").CombinedOutput(); err != nil {
		if os.Getenv("MUST_WORK") != "" {
			t.Fatalf("gcc with libseccomp-dev: %v: %s", err, out)
		}
		t.Skipf("gcc with libseccomp-dev is needed: %v", err)
	}
	cmd := exec.Command(bin)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return &peer{in, bufio.NewReader(out)}
}

// token returns libseccomp's number of an architecture: AUDIT_ARCH_*, but for x32 a made-up one.
func token(name specs.Arch) uint32 {
	if name == specs.ArchX32 {
		return 0x4000003e
	}
	a, _ := lookupArch(name)
	return a.audit
}

// compile does what runc does with a profile, its ENOSYS stub excepted. It returns nil where libseccomp refuses.
func (p *peer) compile(t *testing.T, s *specs.LinuxSeccomp, native specs.Arch) []Insn {
	out := p.ask(t, s, native, "E\n")
	if out == nil {
		return nil
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if a, _ := lookupArch(native); a.bigEndian() {
		order = binary.BigEndian
	}
	prog := make([]Insn, len(out)/8)
	if _, err := binary.Decode(out, order, prog); err != nil {
		t.Fatal(err)
	}
	return prog
}

// ask hands a profile to libseccomp, and returns its answer to a command.
func (p *peer) ask(t *testing.T, s *specs.LinuxSeccomp, native specs.Arch, command string) []byte {
	var b strings.Builder
	def, err := parseAction(s.DefaultAction, s.DefaultErrnoRet, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "P %d\n", def)
	if native != specs.ArchX86_64 {
		fmt.Fprintf(&b, "N %d\n", token(native))
	}
	for i, a := range s.Architectures {
		if a != native && !slices.Contains(s.Architectures[:i], a) {
			fmt.Fprintf(&b, "A %d\n", token(a))
		}
	}
	for _, r := range s.Syscalls {
		act, err := parseAction(r.Action, r.ErrnoRet, 0)
		if err != nil {
			t.Fatal(err)
		}
		if act == def {
			continue
		}
		for _, name := range r.Names {
			for _, args := range alternatives(r.Args) {
				fmt.Fprintf(&b, "R %d %s %d", act, name, len(args))
				for _, a := range args {
					fmt.Fprintf(&b, " %d %d %d %d", a.Index, parseOperator(a.Op), a.Value, a.ValueTwo)
				}
				b.WriteByte('\n')
			}
		}
	}
	b.WriteString(command)
	if _, err := io.WriteString(p.in, b.String()); err != nil {
		t.Fatal(err)
	}
	var size uint32
	if err := binary.Read(p.out, binary.LittleEndian, &size); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if size == ^uint32(0) {
		return nil
	}
	out := make([]byte, size)
	if _, err := io.ReadFull(p.out, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// alternatives is runc's rule for conditions that share an argument.
func alternatives(args []specs.LinuxSeccompArg) [][]specs.LinuxSeccompArg {
	count := map[uint]int{}
	split := false
	for _, a := range args {
		count[a.Index]++
		split = split || count[a.Index] > 1
	}
	if !split {
		return [][]specs.LinuxSeccompArg{args}
	}
	var all [][]specs.LinuxSeccompArg
	for _, a := range args {
		all = append(all, []specs.LinuxSeccompArg{a})
	}
	return all
}

// lastNamed is the largest number that a profile names on an architecture, socketcall and ipc for what they carry.
func lastNamed(s *specs.LinuxSeccomp, name specs.Arch) uint32 {
	a, _ := lookupArch(name)
	last := uint32(0)
	for _, c := range a.calls {
		for _, r := range s.Syscalls {
			for _, name := range r.Names {
				id := lookupName(name)
				if id == int(c.name) || id >= 0 && c.name == nameSocketcall && nameMux[id] != 0 && nameMux[id]&muxIPC == 0 ||
					id >= 0 && c.name == nameIPC && nameMux[id]&muxIPC != 0 {
					last = max(last, a.number(c))
				}
			}
		}
	}
	return last
}

// runcENOSYS returns runc's stub in front of the filter: it reports whether it answers a call.
func runcENOSYS(s *specs.LinuxSeccomp, native specs.Arch) func(Data) bool {
	last := map[specs.Arch]uint32{native: lastNamed(s, native)}
	for _, name := range s.Architectures {
		last[name] = lastNamed(s, name)
	}
	return func(d Data) bool { return answersENOSYS(s, last, d) }
}

func answersENOSYS(s *specs.LinuxSeccomp, lasts map[specs.Arch]uint32, d Data) bool {
	switch s.DefaultAction {
	case specs.ActAllow, specs.ActLog, specs.ActTrace:
		return false
	}
	if s.DefaultErrnoRet != nil && *s.DefaultErrnoRet == 38 {
		return false
	}
	for name, last := range lasts {
		a, _ := lookupArch(name)
		if a.audit != d.Arch {
			continue
		}
		if a.audit == 0xc000003e && (name == specs.ArchX32) != (uint32(d.Nr)&x32Bit != 0) {
			continue
		}
		if last == 0 {
			continue
		}
		if (name == specs.ArchS390 || name == specs.ArchS390X) && d.Nr == 0 {
			return true
		}
		return uint32(d.Nr) > last
	}
	return false
}

var (
	testNames = []string{
		"read", "write", "socket", "connect", "accept", "accept4", "semop", "shmat", "clone", "personality", "ioctl",
		"kill", "chown32", "socketcall", "ipc", "openat2", "close_range", "arch_prctl", "set_tls", "breakpoint",
		"restart_syscall", "exit", "no_such_call", "execve", "fadvise64_64", "arm_fadvise64_64", "io_setup",
	}
	testValues = []uint64{
		0, 1, 2, 3, 5, 7, 8, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, 0x1_00000000, 0x1_00000001, 0x1_00000002,
		0x1_ffffffff, 0x2_00000000, 0xff_00000003, 0x7fffffff_ffffffff, 0x80000000_00000000, 0xffffffff_00000000,
		0xffffffff_ffffffff, 0xffffffff_fffffffe, 0x7e020000,
	}
	testActions = []specs.LinuxSeccompAction{
		specs.ActAllow, specs.ActErrno, specs.ActLog, specs.ActTrap, specs.ActKillProcess, specs.ActKill, specs.ActTrace,
	}
	testOps = []specs.LinuxSeccompOperator{
		specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual,
		specs.OpGreaterThan, specs.OpMaskedEqual,
	}
	// testNatives are sets of architectures, the native one first.
	testNatives = [][]specs.Arch{
		{specs.ArchX86_64},
		{specs.ArchX86_64, specs.ArchX86},
		{specs.ArchX86_64, specs.ArchX86, specs.ArchX32},
		{specs.ArchX86_64, specs.ArchX32, specs.ArchX86_64},
		{specs.ArchX86, specs.ArchX32},
		{specs.ArchAARCH64, specs.ArchARM},
		{specs.ArchAARCH64},
		{specs.ArchMIPSEL64, specs.ArchMIPSEL, specs.ArchMIPSEL64N32},
		{specs.ArchMIPS64, specs.ArchMIPS, specs.ArchMIPS64N32},
		{specs.ArchPPC64LE},
		{specs.ArchPPC64, specs.ArchPPC},
		{specs.ArchS390X, specs.ArchS390},
		{specs.ArchRISCV64},
		{specs.ArchPARISC64, specs.ArchPARISC},
	}
)

// peerNames are the names that libseccomp 2.5 knows: those up to Linux 6.6, whose last numbers are the same everywhere.
func peerNames() []string {
	var names []string
	for i := range nameCount {
		newer := slices.ContainsFunc(callsARM64[:], func(c call) bool { return int(c.name) == i && c.nr > 453 })
		if name := nameAt(i); !newer && !slices.Contains([]string{"uretprobe", "uprobe", "riscv_hwprobe"}, name) {
			names = append(names, name)
		}
	}
	return names
}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// randomProfile makes a profile of few names and values, so that rules meet. mixed profiles have rules with different
// actions; others have one, so that the order of conditions does not matter.
func randomProfile(
	r *rand.Rand, archs []specs.Arch, size int, mixed bool, ops []specs.LinuxSeccompOperator,
) *specs.LinuxSeccomp {
	s := &specs.LinuxSeccomp{DefaultAction: pick(r, testActions), Architectures: archs}
	if r.IntN(4) == 0 && s.DefaultAction == specs.ActErrno {
		e := pick(r, []uint{38, 1, 13, 4095})
		s.DefaultErrnoRet = &e
	}
	act := pick(r, testActions)
	for range 1 + r.IntN(size) {
		if mixed {
			act = pick(r, testActions)
		}
		call := specs.LinuxSyscall{Action: act}
		for range 1 + r.IntN(3) {
			name := pick(r, testNames)
			if size > 8 && r.IntN(2) == 0 {
				name = pick(r, peerNames())
			}
			call.Names = append(call.Names, name)
		}
		for range r.IntN(4) {
			call.Args = append(call.Args, specs.LinuxSeccompArg{
				Index: uint(r.IntN(3)), Value: pick(r, testValues), ValueTwo: pick(r, testValues), Op: pick(r, ops),
			})
		}
		s.Syscalls = append(s.Syscalls, call)
	}
	return s
}

// randomCall makes a call of a name in the profile or the test's pool, or of a number at some limit.
func randomCall(r *rand.Rand, s *specs.LinuxSeccomp, archs []specs.Arch) Data {
	a, _ := lookupArch(pick(r, archs))
	d := Data{Arch: a.audit, IP: 0x12345678_9abcdef0}
	name := pick(r, testNames)
	if len(s.Syscalls) > 0 && r.IntN(2) == 0 {
		name = append(pick(r, s.Syscalls).Names, name)[0]
	}
	for _, c := range a.calls {
		if nameAt(int(c.name)) == name {
			d.Nr = int32(a.number(c))
		}
	}
	switch r.IntN(6) {
	case 0:
		d.Nr += int32(r.IntN(5) - 2)
	case 1:
		d.Nr = int32(pick(r, []uint32{
			0, 1, 500, 1023, x32Bit, x32Bit + 1, x32Bit - 1, x32Bit + 600, 0x7fffffff, 0x80000000, 0xbfffffff, 0xc0000000,
			0xfffffffe, 0xffffffff, 0xf0002, 0xf0007, 4999, 5999, 6999,
		}))
	}
	if r.IntN(50) == 0 {
		d.Arch ^= 1
	}
	for i := range d.Args {
		d.Args[i] = pick(r, testValues)
		switch r.IntN(8) {
		case 0:
			d.Args[i]++
		case 1:
			d.Args[i]--
		case 2:
			d.Args[i] = uint64(1 + r.IntN(24)) // what socketcall and ipc look at
		}
	}
	return d
}

// hasLE reports whether a profile has SCMP_CMP_LE, which libseccomp 2.5 gets wrong on 32-bit architectures.
func hasLE(s *specs.LinuxSeccomp) bool {
	for _, c := range s.Syscalls {
		for _, a := range c.Args {
			if a.Op == specs.OpLessEqual {
				return true
			}
		}
	}
	return false
}

// oracle answers for libseccomp.
type oracle func(Data) (uint32, error)

// program asks libseccomp's program. It is wrong in three known ways, which the tests avoid: the accumulator holds the
// wrong word after some comparisons that fail in the middle of a rule, if another rule of the call follows; it is not
// loaded at all when x86_64 and x32 both start with the same unknown call; and LE on 32-bit architectures.
func (p *peer) program(t *testing.T, s *specs.LinuxSeccomp, native specs.Arch) oracle {
	prog := p.compile(t, s, native)
	if prog == nil {
		return nil
	}
	return func(d Data) (uint32, error) { return Run(prog, d) }
}

// compare reports false for a profile that libseccomp refuses: it finds more conflicts than we do.
func compare(t *testing.T, p *peer, ask func(*testing.T, *specs.LinuxSeccomp, specs.Arch) oracle, r *rand.Rand,
	s *specs.LinuxSeccomp, archs []specs.Arch, calls int,
) bool {
	t.Helper()
	theirs := ask(t, s, archs[0])
	if theirs == nil {
		return false
	}
	ours, err := Compile(s, archs[0])
	if err != nil {
		t.Fatalf("%v\n%s", err, show(s))
	}
	answers := func(stub func(Data) bool, ours *Filter, theirs oracle, d Data) (got, want uint32) {
		want, err := theirs(d)
		if errors.Is(err, errSkip) {
			return 0, 0
		}
		if err != nil {
			t.Fatal(err)
		}
		if stub(d) {
			want = retENOSYS
		}
		got, err = Run(ours.Prog, d)
		if err != nil {
			t.Fatalf("%v\n%s", err, show(s))
		}
		return got, want
	}
	stub := runcENOSYS(s, archs[0])
	for range calls {
		d := randomCall(r, s, archs)
		if hasLE(s) && slices.ContainsFunc(archs, func(n specs.Arch) bool {
			a, _ := lookupArch(n)
			return a.audit == d.Arch && !a.wide
		}) {
			continue
		}
		if got, want := answers(stub, ours, theirs, d); got != want {
			s = shrink(s, func(s *specs.LinuxSeccomp) bool {
				theirs := ask(t, s, archs[0])
				ours, err := Compile(s, archs[0])
				if theirs == nil || err != nil {
					return false
				}
				got, want := answers(runcENOSYS(s, archs[0]), ours, theirs, d)
				return got != want
			})
			t.Fatalf("%+x (nr %d)\n got %#x\nwant %#x\n%s", d, d.Nr, got, want, show(s))
		}
	}
	return true
}

// shrink takes out of a profile what is not needed for its difference from libseccomp.
func shrink(s *specs.LinuxSeccomp, differs func(*specs.LinuxSeccomp) bool) *specs.LinuxSeccomp {
	for {
		var smaller []*specs.LinuxSeccomp
		change := func(i int, calls ...specs.LinuxSyscall) {
			c := *s
			c.Syscalls = slices.Concat(s.Syscalls[:i], calls, s.Syscalls[i+1:])
			smaller = append(smaller, &c)
		}
		for i, call := range s.Syscalls {
			change(i)
			for j := range call.Args {
				c := call
				c.Args = slices.Concat(call.Args[:j], call.Args[j+1:])
				change(i, c)
			}
			for j := range call.Names {
				c := call
				c.Names = slices.Concat(call.Names[:j], call.Names[j+1:])
				change(i, c)
			}
		}
		i := slices.IndexFunc(smaller, differs)
		if i < 0 {
			return s
		}
		s = smaller[i]
	}
}

func show(s *specs.LinuxSeccomp) string {
	var b strings.Builder
	fmt.Fprintf(&b, "default %s %v\n", s.DefaultAction, s.Architectures)
	for i, c := range s.Syscalls {
		fmt.Fprintf(&b, "%d %v %s\n", i, c.Names, c.Action)
		for _, a := range c.Args {
			fmt.Fprintf(&b, "    arg %d %s %#x %#x\n", a.Index, a.Op, a.Value, a.ValueTwo)
		}
	}
	return b.String()
}

// oneRuleEach leaves only the first entry of each name, and only names that the architecture has.
func oneRuleEach(s *specs.LinuxSeccomp, native specs.Arch) {
	a, _ := lookupArch(native)
	seen := map[string]bool{}
	for i := range s.Syscalls {
		c := &s.Syscalls[i]
		c.Args = alternatives(c.Args)[0]
		c.Names = slices.DeleteFunc(c.Names, func(name string) bool {
			id := lookupName(name)
			known := slices.ContainsFunc(a.calls, func(c call) bool { return int(c.name) == id })
			drop := seen[name] || !known || id >= 0 && (nameMux[id] != 0 || name == "ipc" || name == "socketcall")
			seen[name] = true
			return drop
		})
	}
}

// TestDifferential compares with libseccomp's programs (one rule a call, for its bugs) and with its pseudo code, which
// says what the programs should do (many rules a call), both behind a model of runc's ENOSYS stub.
func TestDifferential(t *testing.T) {
	const profiles = 140
	p := startPeer(t)
	masks := []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpMaskedEqual}
	// With different actions these can't be mixed: libseccomp may merge parts of overlapping NE, less and greater rules.
	greater := []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpMaskedEqual, specs.OpGreaterThan}
	less := []specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpMaskedEqual, specs.OpLessThan}
	for _, kind := range []struct {
		name           string
		program, mixed bool
		size           int
		ops            []specs.LinuxSeccompOperator
	}{
		{"program", true, true, 8, testOps},
		{"pseudo code, one action", false, false, 8, testOps},
		{"pseudo code, long programs", false, false, 100, testOps},
		{"pseudo code, masks", false, true, 8, masks},
		{"pseudo code, greater", false, true, 8, greater},
		{"pseudo code, less", false, true, 8, less},
	} {
		t.Run(kind.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			used, longest := 0, 0
			for i := range profiles {
				archs := testNatives[i%len(testNatives)]
				s := randomProfile(r, archs, kind.size, kind.mixed, kind.ops)
				ask := p.pseudoCode
				if kind.program {
					ask = p.program
					oneRuleEach(s, archs[0])
				}
				if f, err := Compile(s, archs[0]); err == nil {
					longest = max(longest, len(f.Prog))
				}
				if compare(t, p, ask, r, s, archs, 200) {
					used++
				}
			}
			t.Logf("%d of %d profiles compared, programs of up to %d instructions", used, profiles, longest)
			if used < profiles/2 {
				t.Error("too few")
			}
		})
	}
}

// TestDifferentialDocker compares Docker's default profile.
func TestDifferentialDocker(t *testing.T) {
	p := startPeer(t)
	archs := []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
	r := rand.New(rand.NewPCG(3, 4))
	if !compare(t, p, p.program, r, dockerProfile(t), archs, 20000) {
		t.Fatal("libseccomp refuses Docker's profile")
	}
}
