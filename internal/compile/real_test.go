package compile

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"vitro/internal/plan"
	"vitro/internal/spec"
	"vitro/internal/stub"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func rootfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"bin", "etc", "proc"} {
		os.Mkdir(dir+"/"+d, 0o755)
	}
	if out, err := exec.Command("cp", "/bin/busybox", dir+"/bin/busybox").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for _, n := range []string{"sh", "true", "cat", "ls", "id", "mount", "env", "pwd", "hostname", "ps", "stat", "grep"} {
		os.Symlink("busybox", dir+"/bin/"+n)
	}
	os.WriteFile(dir+"/etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n"), 0o644)
	return dir
}

// runSpec compiles and runs s, and gives back its exit status.
func runSpec(t *testing.T, s *specs.Spec) (int, error) {
	t.Helper()
	in := &Input{Spec: s, ID: "t", Bundle: "/", ConsoleFD: -1, RootFD: -1}
	if err := Gather(in); err != nil {
		return 0, err
	}
	p, err := Container(in)
	if err != nil {
		return 0, err
	}
	l, err := stub.Run(p, true, stub.Options{Call: func(*stub.Launch, *plan.Op) error { return nil }})
	if err != nil {
		return 0, err
	}
	var st syscall.WaitStatus
	if _, err := syscall.Wait4(l.PID, &st, 0, nil); err != nil {
		t.Fatal(err)
	}
	syscall.Close(l.PIDFD)
	if st.Signaled() {
		return 128 + int(st.Signal()), nil
	}
	return st.ExitStatus(), nil
}

func TestDefaultSpecRuns(t *testing.T) {
	s := spec.Example()
	s.Root.Path = rootfs(t)
	s.Process.Terminal = false
	s.Process.Args = []string{"sh", "-c", "id; mount; ls -l /dev /proc/self/fd; cat /proc/self/status | grep -E 'Cap|Sec|Sig'; env; pwd; hostname; ps; exit 7"}
	code, err := runSpec(t, s)
	if err != nil || code != 7 {
		t.Fatalf("%d %v", code, err)
	}
}
