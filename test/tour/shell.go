package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// limit is how long one command may take.
const limit = 3 * time.Minute

// shell is the bash that all commands run in.
type shell struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out chan string // lines
}

func newShell() (*shell, error) {
	repo, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	s := &shell{cmd: exec.Command("bash", "--norc", "--noprofile"), out: make(chan string, 1000)}
	s.cmd.Env = append(os.Environ(), "PATH="+filepath.Join(repo, "bin")+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C.UTF-8", "NO_COLOR=1", "COLUMNS=160", "HISTFILE=")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stdout, s.cmd.Stderr = w, w
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	w.Close()
	go func() {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			s.out <- lines.Text()
		}
		close(s.out)
	}()
	return s, nil
}

const mark = "\x01done\x01"

// run gives the lines that the command printed. Its standard input is empty, not the rest of the tour.
func (s *shell) run(text string) ([]string, error) {
	if _, err := fmt.Fprintf(s.in, "{ %s\n} </dev/null\ntour_status=$?; printf '%%b\\n' '\\x01done\\x01'; (exit $tour_status)\n", text); err != nil {
		return nil, err
	}
	var got []string
	late := time.After(limit)
	for {
		select {
		case l, ok := <-s.out:
			if !ok {
				return got, fmt.Errorf("the shell ended")
			}
			if rest, done := strings.CutSuffix(l, mark); done { // behind output without a newline, too
				if rest != "" {
					got = append(got, rest)
				}
				return got, nil
			}
			got = append(got, l)
		case <-late:
			return got, fmt.Errorf("took more than %v; printed so far:\n%s", limit, strings.Join(got, "\n"))
		}
	}
}

// close ends what the tour left running in the shell's process group.
func (s *shell) close() {
	s.in.Close()
	done := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-done
	}
}
