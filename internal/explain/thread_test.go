package explain

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vitro/internal/testenv"
)

// With EXPLAIN_DEAD the first thread ends before main, or gives up a capability, and another sleeps.
func init() {
	if os.Getenv("EXPLAIN_DEAD") == "" {
		return
	}
	go func() {
		time.Sleep(time.Minute)
		os.Exit(0)
	}()
	runtime.LockOSThread()
	if os.Getenv("EXPLAIN_DEAD") == "caps" { // it drops one alone
		if unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_TIME, 0, 0, 0) == nil {
			os.Stdout.WriteString("dropped")
		}
		time.Sleep(time.Minute)
	}
	time.Sleep(10 * time.Millisecond)
	unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
}

func start(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	eventually(t, "the first thread's end", func() bool {
		dir, err := openProc(cmd.Process.Pid)
		if err != nil {
			return false
		}
		defer dir.close()
		return strings.Contains(dir.text("status"), "State:\tZ")
	})
	return cmd.Process.Pid
}

// A process is there as long as one of its threads is; a zombie is told from it.
func TestDeadLeader(t *testing.T) {
	testenv.Need(t, testenv.Root)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "EXPLAIN_DEAD=1")
	pid := start(t, cmd)
	f, err := Gather(Options{PID: pid})
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Processes) != 1 || !strings.Contains(f.Processes[0].State, "its first thread has ended") || len(f.Mounts.Table) == 0 || f.Namespaces[0].Inode == 0 {
		t.Errorf("%+v", f.Processes)
	}
	// And so it is among others: in the trees of a container, in ns and caps.
	m, err := scan(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	p := m.pid[pid]
	readCommands([]*Process{p})
	if strings.HasPrefix(p.State, "Z") || p.NS != m.self.NS || len(p.Cgroups) == 0 || p.Command != os.Args[0] {
		t.Errorf("%+v", p)
	}
	_, err = Gather(Options{PID: start(t, exec.Command("true"))})
	if err == nil || !strings.Contains(err.Error(), "of a zombie there is nothing to explain") {
		t.Error(err)
	}
}

// What one thread alone has given up, the others have still.
func TestThreads(t *testing.T) {
	done, ready := make(chan struct{}), make(chan error)
	defer close(done)
	go func() {
		runtime.LockOSThread() // it ends with the test
		ready <- unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		<-done
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	m, err := scan(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	got, unread := threads([]*Process{m.self})
	if len(got) != 1 || got[0].NoNewPrivs == m.self.NoNewPrivs || got[0].PID != m.self.PID || got[0].thread == m.self.PID || unread != 0 {
		t.Errorf("%+v, %d unread", got, unread)
	}
}

// caps shows a thread whose sets are not those of the first.
func TestCapsOfThread(t *testing.T) {
	testenv.Need(t, testenv.Root)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "EXPLAIN_DEAD=caps")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if n, err := out.Read(make([]byte, 7)); n != 7 {
		t.Fatal(n, err)
	}
	all, _, err := CapsOf(nil, true)
	if err != nil {
		t.Fatal(err)
	}
	got := slices.DeleteFunc(all, func(p *Process) bool { return p.PID != cmd.Process.Pid })
	if len(got) != 2 || got[0].Caps.Bounding.has("SYS_TIME") || !got[1].Caps.Bounding.has("SYS_TIME") {
		t.Fatalf("%+v", got)
	}
	if text, want := CapsText(got, Page{}), fmt.Sprintf(", thread %d ", got[1].thread); !strings.Contains(text, want) {
		t.Errorf("no %q in\n%s", want, text)
	}
}
