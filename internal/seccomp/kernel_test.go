package seccomp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	prSetNoNewPrivs = 38
	setModeFilter   = 1
	sysSeccompAMD64 = 317
	sysSeccompARM64 = 277
	childEnv        = "VITRO_SECCOMP_CHILD"
	sysMseal        = 462 // these are the same on all architectures
	sysStatmount    = 457
	sysFileSetattr  = 469
)

// kernelProfile kills getppid(2), fails sethostname(2) with EACCES and mseal(2) for one length, and allows the rest.
func kernelProfile() *specs.LinuxSeccomp {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: ptr(uint(syscall.EXDEV))}
	for i := range nameCount {
		switch name := nameAt(i); name {
		case "getppid":
			p.Syscalls = append(p.Syscalls, rules(specs.ActKillProcess, name))
		case "sethostname":
			p.Syscalls = append(p.Syscalls, rules(specs.ActErrno, name))
			p.Syscalls[len(p.Syscalls)-1].ErrnoRet = ptr(uint(syscall.EACCES))
		case "mseal":
			p.Syscalls = append(p.Syscalls, rules(specs.ActAllow, name,
				specs.LinuxSeccompArg{Index: 1, Value: 0x1_00000000, Op: specs.OpGreaterEqual}))
		case "listmount", "statmount":
		default:
			if !strings.HasSuffix(name, "xattrat") && !strings.HasPrefix(name, "file_") && name != "open_tree_attr" {
				p.Syscalls = append(p.Syscalls, rules(specs.ActAllow, name))
			}
		}
	}
	return p
}

// TestKernelChild is the child of TestKernel: it loads the filter and makes the calls.
func TestKernelChild(t *testing.T) {
	mode := os.Getenv(childEnv)
	if mode == "" {
		return // only TestKernel runs it for real
	}
	profile := kernelProfile()
	if mode == "docker" {
		profile = dockerProfile(t)
	}
	f, err := Compile(profile, Native())
	if err != nil {
		t.Fatal(err)
	}
	b := f.Bytes()
	prog := struct {
		len  uint16
		prog *byte
	}{uint16(len(f.Prog)), &b[0]}
	nr := uintptr(sysSeccompAMD64)
	if runtime.GOARCH == "arm64" {
		nr = sysSeccompARM64
	}
	runtime.LockOSThread()
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0); errno != 0 {
		t.Fatal(errno)
	}
	if r, _, errno := syscall.RawSyscall(nr, setModeFilter, uintptr(f.Flags|flagTsync), uintptr(unsafe.Pointer(&prog))); errno != 0 || r != 0 {
		t.Fatal(r, errno)
	}
	for _, c := range []struct {
		name string
		nr   uintptr
		args [2]uintptr
	}{
		{"getuid", syscall.SYS_GETUID, [2]uintptr{}},
		{"sethostname", syscall.SYS_SETHOSTNAME, [2]uintptr{0, 1 << 20}},
		{"mseal short", sysMseal, [2]uintptr{1, 1}},
		{"mseal long", sysMseal, [2]uintptr{1, 1 << 32}},
		{"statmount", sysStatmount, [2]uintptr{}},
		{"file_setattr", sysFileSetattr, [2]uintptr{}},
		{"getppid", syscall.SYS_GETPPID, [2]uintptr{}},
	} {
		_, _, errno := syscall.RawSyscall(c.nr, c.args[0], c.args[1], 0)
		fmt.Printf("%s: %d\n", c.name, errno)
	}
	os.Exit(0)
}

// TestKernel loads filters into a real kernel.
func TestKernel(t *testing.T) {
	if Native() == "" {
		t.Skip("no native architecture")
	}
	run := func(mode string) (string, error) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKernelChild$")
		cmd.Env = append(os.Environ(), childEnv+"="+mode)
		out, err := cmd.Output()
		return string(out), err
	}
	out, err := run("own")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGSYS {
		t.Errorf("%v, want death by SIGSYS", err)
	}
	long := syscall.EINVAL
	if strings.Contains(out, "mseal long: 38") {
		long = syscall.ENOSYS // a kernel before 6.10
	}
	want := fmt.Sprintf("getuid: 0\nsethostname: %d\nmseal short: %d\nmseal long: %d\nstatmount: %d\nfile_setattr: %d\n",
		syscall.EACCES, syscall.EXDEV, long, syscall.EXDEV, syscall.ENOSYS)
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	out, err = run("docker")
	if err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(out, fmt.Sprintf("getuid: 0\nsethostname: %d\n", syscall.EPERM)) {
		t.Errorf("Docker's profile: %s", out)
	}
}
