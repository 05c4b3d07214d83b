package trace

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vitro/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// open needs what a source needs.
func open(t *testing.T, o Options) *Tracer {
	t.Helper()
	testenv.Need(t, testenv.Root)
	tr, err := Open(o)
	if err != nil {
		testenv.Skip(t, "needs "+o.Source+": "+err.Error())
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

// collect runs f beside the trace until want is there, and gives the events that keep takes.
func collect(t *testing.T, tr *Tracer, f func(), want int, keep func(Event) bool) (out []Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go f()
	if err := tr.Run(ctx, func(e Event) {
		if keep(e) {
			if out = append(out, e); len(out) == want {
				cancel()
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestExec(t *testing.T) {
	for _, source := range []string{"ebpf", "ftrace"} {
		t.Run(source, func(t *testing.T) {
			tr := open(t, Options{Source: source})
			mark := "vt-" + testenv.ID(t)
			started := time.Now()
			run := func() {
				// The shell stays until it is looked at: ftrace asks /proc.
				cmd := exec.Command("sh", "-c", "sleep 1; : \x1b[31m", mark)
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}
				if err := cmd.Run(); err != nil {
					t.Error(err)
				}
			}
			got := collect(t, tr, run, 1, func(e Event) bool { return strings.Contains(e.Command, mark) })
			if len(got) != 1 {
				t.Fatalf("%+v", got)
			}
			e := got[0]
			if e.Inner != 1 || e.UID != 1234 || e.PPID != os.Getpid() || e.Command != "sh -c sleep 1; : \x1b[31m "+mark || e.PID <= 1 || e.PIDNS == 0 || e.Cut {
				t.Errorf("%+v", e)
			}
			if d := e.Time.Sub(started); d < -time.Second || d > 20*time.Second {
				t.Errorf("at %v, %v after the begin", e.Time, d)
			}
			if tr.Lost() != 0 {
				t.Errorf("%d events lost", tr.Lost())
			}
		})
	}
}

// Only the processes of one pid namespace and of those below it.
func TestFilter(t *testing.T) {
	for _, source := range []string{"ebpf", "ftrace"} {
		t.Run(source, func(t *testing.T) {
			testenv.Need(t, testenv.Root)
			in, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			cmd := exec.Command("sh", "-c", "read x; unshare -p --fork sh -c 'sleep 0.5; :'; sleep 0.5; :")
			cmd.Stdin, cmd.SysProcAttr = in, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			in.Close()
			var st unix.Stat_t
			if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", cmd.Process.Pid), &st); err != nil {
				t.Fatal(err)
			}
			tr := open(t, Options{Source: source, PIDNS: st.Ino})
			var inner []int
			var commands []string
			for _, e := range collect(t, tr, func() { exec.Command("true").Run(); w.Write([]byte("\n")); cmd.Wait() }, 4, func(e Event) bool { return true }) {
				inner, commands = append(inner, e.Inner), append(commands, e.Command)
			}
			if want := []string{"unshare -p --fork sh -c sleep 0.5; :", "sh -c sleep 0.5; :", "sleep 0.5", "sleep 0.5"}; !slices.Equal(commands, want) || inner[1] != 1 {
				t.Errorf("%q %v, want %q", commands, inner, want)
			}
		})
	}
}

// A full ring buffer is said to be one.
func TestLost(t *testing.T) {
	for _, source := range []string{"ebpf", "ftrace"} {
		t.Run(source, func(t *testing.T) {
			tr := open(t, Options{Source: source})
			runs := "900"                          // 1 MiB of struct event
			if f, ok := tr.s.(*ftraceSource); ok { // the smallest buffer there is
				runs = "1500" // both processors have one
				if err := os.WriteFile(filepath.Join(f.dir, "buffer_size_kb"), []byte("4"), 0); err != nil {
					t.Fatal(err)
				}
			}
			if out, err := exec.Command("sh", "-c", "i=0; while [ $i -lt $0 ]; do /bin/true; i=$((i+1)); done", runs).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			n := 0
			if err := tr.Run(ctx, func(Event) { n++ }); err != nil {
				t.Fatal(err)
			}
			if tr.Lost() == 0 || n == 0 {
				t.Errorf("%d events, %d lost", n, tr.Lost())
			}
		})
	}
}

func TestInstanceIsRemoved(t *testing.T) {
	tr := open(t, Options{Source: "ftrace"})
	dir := tr.s.(*ftraceSource).dir
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v", dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil { // for the clean-up, which closes again
		t.Fatal(err)
	}
}

func TestOpenError(t *testing.T) {
	_, err := Open(Options{Source: "magic"})
	if want := `trace source "magic" is neither ebpf nor ftrace`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// The committed object is that of the committed source.
func TestObjectIsFresh(t *testing.T) {
	for _, tool := range []string{"clang", "llvm-strip"} { // who changes the source has them; too large for every test machine
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs " + tool + " (Debian: clang, llvm)")
		}
	}
	out := filepath.Join(t.TempDir(), "exec.bpf.o")
	for _, c := range [][]string{
		{"clang", "-O2", "-g", "-target", "bpf", "-Wall", "-fdebug-compilation-dir=.", "-I/usr/include/x86_64-linux-gnu", "-c", "exec.bpf.c", "-o", out},
		{"llvm-strip", "-g", out},
	} {
		if b, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Skipf("needs clang for bpf and libbpf-dev: %s: %v: %s", c[0], err, b)
		}
	}
	built, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(built, object) {
		v, _ := exec.Command("clang", "--version").Output()
		if !bytes.Contains(v, []byte(" 14.")) {
			t.Skipf("the object was built with clang 14, here is %s", v)
		}
		t.Error("exec.bpf.o differs: go generate ./internal/explain/trace")
	}
}

// page makes a page of ftrace's ring buffer.
func page(flags uint64, records ...[]byte) []byte {
	data := bytes.Join(records, nil)
	p := binary.NativeEndian.AppendUint64(nil, 1000)
	p = binary.NativeEndian.AppendUint64(p, uint64(len(data))|flags)
	return append(p, data...)
}

func word(v ...uint32) (b []byte) {
	for _, w := range v {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	return b
}

func TestParsePage(t *testing.T) {
	record := word(7<<5|7, 365, 4000000, 20|4<<16, 4000000, 4000000, 0x00006c73, 0) // "sl", 28 bytes, 7 ns later
	for _, tt := range []struct {
		name   string
		page   []byte
		events int
		lost   uint64
		err    error
	}{
		{"one", page(0, record), 1, 0, nil},
		{"time", page(0, word(typeExtend|1<<5, 1), record, word(typeStamp, 0), record), 2, 0, nil},
		{"long", page(0, word(5<<5, 4+28), record[4:]), 1, 0, nil},
		{"discarded", page(0, word(typePadding|1<<5, 8), word(0, 0)[:4], record), 1, 0, nil},
		{"end", page(0, word(typePadding)), 0, 0, nil},
		{"missed", page(missedEvents, record), 1, 1, nil},
		{"missed, counted", append(page(missedEvents|missedStored, record), 9, 0, 0, 0, 0, 0, 0, 0), 1, 9, nil},
		{"too long", page(0, word(28, 0)), 0, 0, errPage},
		{"length 0", page(0, word(5<<5, 0)), 0, 0, errPage},
		{"short", []byte{1}, 0, 0, errPage},
		{"other event", page(0, word(7<<5|7, 364, 1, 0, 1, 1, 0, 0)), 0, 0, nil},
	} {
		s := &ftraceSource{event: 365}
		if err := s.parse(tt.page); err != tt.err || len(s.pending) != tt.events || s.missed != tt.lost {
			t.Errorf("%s: %d events, %d lost, %v; want %d, %d, %v", tt.name, len(s.pending), s.missed, err, tt.events, tt.lost, tt.err)
		}
		for _, e := range s.pending {
			if e.Command != "sl" || e.PID != 4000000 {
				t.Errorf("%s: %+v", tt.name, e)
			}
		}
	}
}

func FuzzParsePage(f *testing.F) {
	f.Add(page(0, word(7<<5|7, 365, 4000000, 20|4<<16, 4000000, 4000000, 0x00006c73, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &ftraceSource{event: 365}
		_ = s.parse(b) // must not panic nor loop
	})
}

func TestParseEvent(t *testing.T) {
	b := make([]byte, offArgs+maxArgs)
	binary.NativeEndian.PutUint32(b[8+4*5:], 1<<31) // a size that cannot be
	copy(b[offArgs:], "a\x00b\x00")
	e, err := parseEvent(b, time.Time{})
	if err != nil || e.Command[:3] != "a b" {
		t.Errorf("%+v %v", e, err)
	}
	if _, err := parseEvent(b[:100], time.Time{}); err == nil || err.Error() != "event of 100 bytes: too short" {
		t.Error(err)
	}
}

// SIGINT ends `vitro trace exec` well.
func TestTraceEnds(t *testing.T) {
	testenv.Need(t, testenv.Root)
	cmd := exec.Command(testenv.VitroPath(t), "--root", t.TempDir(), "trace", "exec", "--all")
	text, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, _ := text.Read(line)
	if !strings.HasPrefix(string(line[:n]), "Tracing exec by ") {
		t.Errorf("%s", line[:n])
	}
	cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
