package engine

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"vitro/internal/sys"
)

// Who waits for a container that is being started learns that it runs; removal by force kills it then.
func TestSeize(t *testing.T) {
	e := testEngine(t)
	c := e.make(t, "late")
	created, err := e.Find("late")
	if err != nil {
		t.Fatal(err)
	}
	lock, err := e.lock(c.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // a maker, and the monitor that it becomes
		time.Sleep(50 * time.Millisecond)
		st, _ := sys.ReadProcStat(cmd.Process.Pid)
		_ = os.Mkdir(e.runDir(c.ID), 0o700)
		_ = runState{PID: cmd.Process.Pid, Start: st.Start, Started: time.Now()}.write(e.runDir(c.ID))
		_ = cmd.Wait()
		lock.Close()
	}()
	l, held, err := e.seize(created, leave)
	if err != nil || held != nil || l.Status != Running {
		t.Errorf("%+v %v %v, want it running and no lock", l, held, err)
	}
	if err := e.Remove("late", false, false); err == nil {
		t.Error("a running container was removed without force")
	}
	l.Status = Created // as it was when it was looked for
	if _, held, err = e.seize(l, func(l *Live) (bool, error) { return true, e.kill(l, sigkill) }); err != nil || held == nil {
		t.Errorf("%v %v, want the lock of a killed container", held, err)
	}
	held.Close()
}

// A container that is killed in the midst of its removal has its name, or is no container.
func TestEraseOrder(t *testing.T) {
	e := testEngine(t)
	c := e.make(t, "gone")
	held, err := flock(filepath.Join(e.Root, namesLock), syscall.LOCK_EX, 0) // the name cannot be freed
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- e.Remove("gone", false, false) }()
	for range 500 {
		if _, err = os.Stat(e.dir(c.ID, recordName)); err != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err == nil {
		t.Error("the name is freed while the record is there")
	}
	held.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
