package monitor

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vitro/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// monitored runs a shell command under a monitor and returns the client's end.
func monitored(t *testing.T, script string, o Config) (*Client, chan int) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if o.RunDir == "" {
		o.RunDir = t.TempDir()
	}
	o.LogPath = filepath.Join(o.RunDir, "log")
	noted := make(chan int, 1)
	o.Exited = func(exit int, err error) {
		if err != nil {
			exit = -1
		}
		noted <- exit
	}
	o.Code = func(error) int { return 127 }
	o.Start = func(req []byte, s Stdio) (int, error) {
		if string(req) == "fail" {
			return 0, errors.New("no such thing")
		}
		cmd := exec.Cmd{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Stdin: s.Files[0], Stdout: s.Files[1], Stderr: s.Files[2]}
		err := cmd.Start()
		if err != nil {
			return 0, err
		}
		pid := cmd.Process.Pid // Release makes it -1, which is everybody to kill(2)
		return pid, cmd.Process.Release()
	}
	done := make(chan struct{})
	go func() { _ = Run(os.NewFile(uintptr(pair[1]), "monitor"), o); close(done) }()
	c, err := NewClient(os.NewFile(uintptr(pair[0]), "client"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); <-done })
	return c, noted
}

func next(t *testing.T, c *Client, event string) (Message, *os.File) {
	t.Helper()
	m, f, err := c.Next()
	if err != nil || m.Event != event {
		t.Fatalf("%+v %v, want %s", m, err, event)
	}
	return m, f
}

func TestMonitor(t *testing.T) {
	c, noted := monitored(t, "cat; echo err >&2; exit 7", Config{OpenStdin: true, StdinOnce: true})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := c.Send(Request{Stdin: true}, w, nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	_, in := next(t, c, Started)
	_, _ = in.WriteString("hello\n")
	in.Close()
	if m, _ := next(t, c, Exited); m.Code != 7 || <-noted != 7 {
		t.Errorf("%+v", m)
	}
	c.Close()
	if b, _ := io.ReadAll(r); string(b) != "hello\n" {
		t.Errorf("output %q", b)
	}
}

func TestMonitorFailure(t *testing.T) {
	c, noted := monitored(t, "", Config{})
	if err := c.Send(Request{Start: []byte("fail")}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if m, _ := next(t, c, Failed); m.Code != 127 || m.Error != "no such thing" || <-noted != -1 {
		t.Errorf("%+v", m)
	}
}

// A client that goes away, or whose output is closed, does not stop the container; its log is whole.
func TestClientGone(t *testing.T) {
	c, noted := monitored(t, "for i in 1 2 3 4 5 6 7 8 9; do echo $i; head -c 20000 /dev/zero; done; exit 3", Config{})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() // never read
	if err := c.Send(Request{}, w, w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	next(t, c, Started)
	c.Close()
	if got := <-noted; got != 3 {
		t.Errorf("exit %d", got)
	}
}

// A second client attaches by the socket, also by a long path.
func TestAttach(t *testing.T) {
	dir := t.TempDir()
	c, noted := monitored(t, "read line; echo got $line", Config{OpenStdin: true, RunDir: dir})
	if err := c.Send(Request{}, nil, nil); err != nil {
		t.Fatal(err)
	}
	next(t, c, Started)
	two, err := Dial(dir + strings.Repeat("/.", 80) + "/attach.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	r, w, _ := os.Pipe()
	defer r.Close()
	if err := two.Send(Request{Stdin: true}, w, nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	_, in := next(t, two, Started)
	_, _ = in.WriteString("x\n")
	in.Close()
	next(t, two, Exited)
	two.Close()
	<-noted
	if b, _ := io.ReadAll(r); string(b) != "got x\n" {
		t.Errorf("output %q", b)
	}
}

// A client that neither reads nor closes does not keep a killed container from its end.
func TestClientStuck(t *testing.T) {
	c, noted := monitored(t, "exec yes", Config{})
	r, w, _ := os.Pipe()
	defer r.Close()
	if err := c.Send(Request{}, w, nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	m, _ := next(t, c, Started)
	for full := 0; full < 64<<10; { // the pipe
		full, _ = unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
		time.Sleep(time.Millisecond)
	}
	if m.PID <= 1 {
		t.Fatalf("pid %d", m.PID)
	}
	_ = syscall.Kill(m.PID, syscall.SIGKILL)
	if got := <-noted; got != 137 {
		t.Errorf("exit %d", got)
	}
	if m, _ := next(t, c, Exited); m.Code != 137 {
		t.Errorf("%+v", m)
	}
}

// What a container wrote before it ended by itself waits for its reader, and its end is noted before that.
func TestSlowReader(t *testing.T) {
	c, noted := monitored(t, "head -c 100000 /dev/zero; exit 3", Config{})
	r, w, _ := os.Pipe()
	defer r.Close()
	if err := c.Send(Request{}, w, nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	next(t, c, Started)
	if got := <-noted; got != 3 {
		t.Errorf("exit %d", got)
	}
	if b, _ := io.ReadAll(r); len(b) != 100000 {
		t.Errorf("%d bytes", len(b))
	}
	if m, _ := next(t, c, Exited); m.Code != 3 {
		t.Errorf("%+v", m)
	}
}

// The end of the starter's reader ends the container's output, and the client as a pipe would.
func TestBrokenPipe(t *testing.T) {
	c, noted := monitored(t, "while echo y; do :; done 2>/dev/null; exit 3", Config{})
	r, w, _ := os.Pipe()
	if err := c.Send(Request{}, w, nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	next(t, c, Started)
	_, _ = r.Read(make([]byte, 1))
	r.Close()
	<-noted // 3 or SIGPIPE
	if m, _ := next(t, c, Exited); m.Code != 141 {
		t.Errorf("%+v", m)
	}
}

func TestExec(t *testing.T) {
	for want, exec := range map[string]func([]byte) (int, error){
		Refused: nil,
		Failed:  func([]byte) (int, error) { return 0, errors.New("no") },
		Started: func(arg []byte) (int, error) {
			return syscall.ForkExec("/bin/sh", []string{"sh", "-c", string(arg)}, nil)
		},
	} {
		dir := t.TempDir()
		c, noted := monitored(t, "read line", Config{OpenStdin: true, StdinOnce: true, RunDir: dir, Exec: exec})
		if err := c.Send(Request{Stdin: true}, nil, nil); err != nil {
			t.Fatal(err)
		}
		_, in := next(t, c, Started)
		two, err := Dial(dir + "/attach.sock")
		if err != nil {
			t.Fatal(err)
		}
		if err := two.Send(Request{Exec: []byte("exit 0")}, nil, nil); err != nil {
			t.Fatal(err)
		}
		next(t, two, want)
		two.Close()
		in.Close()
		<-noted
	}
}
