package explain

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"vitro/internal/testenv"
)

// With EXPLAIN_GROUPS the test program takes as many supplementary groups as there may be, and waits.
func init() {
	if os.Getenv("EXPLAIN_GROUPS") == "" {
		return
	}
	gids := make([]int, 65536)
	for i := range gids {
		gids[i] = 4_000_000_000 + i
	}
	if unix.Setgroups(gids) != nil {
		os.Exit(1)
	}
	os.Stdout.WriteString("ready\n")
	_ = unix.Pause() // select would be found a deadlock
	os.Exit(0)
}

// Many groups do not push a process's capabilities out of sight.
func TestManyGroups(t *testing.T) {
	testenv.Need(t, testenv.Root)
	pid := waiting(t, "EXPLAIN_GROUPS=1")
	f, err := Gather(Options{PID: pid})
	if err != nil {
		t.Fatal(err)
	}
	self, err := Gather(Options{PID: os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	if want := self.Capabilities.Sets; f.Capabilities.Sets != want || want.Permitted == 0 {
		t.Errorf("explain: %+v, want %+v", f.Capabilities.Sets, want)
	}
	if n := len(f.Text(Page{Rows: 40})); n > 100_000 {
		t.Errorf("%d bytes of text", n)
	}
	all, err := CapsOf(nil, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.PID == pid {
			return
		}
	}
	t.Error("caps does not list " + strconv.Itoa(pid))
}

// waiting starts the test program with a variable that has it wait, and gives its pid when it says that it does.
func waiting(t *testing.T, env string) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%s: %q, %v", env, line, err)
	}
	return cmd.Process.Pid
}
