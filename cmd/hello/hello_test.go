package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is hello itself when it is asked to be: the tools are tested as processes.
func TestMain(m *testing.M) {
	if os.Getenv("HELLO_TEST_RUN") != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func hello(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{"HELLO_TEST_RUN=1", "A=b"}
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestTools(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	for _, tt := range []struct {
		args        string
		out, errOut string
		code        int
	}{
		{"echo a b", "a b\n", "", 0},
		{"env", "HELLO_TEST_RUN=1\nA=b\n", "", 0},
		{"write " + file + " text", "", "", 0},
		{"cat " + file, "text\n", "", 0},
		{"cat /nowhere", "", "hello: open /nowhere: no such file or directory\n", 1},
		{"exit 42", "", "", 42},
		{"exit 256", "", "hello: exit: 256: not a status from 0 to 255\n", 1},
		{"sleep 0", "", "", 0},
		{"sleep x", "", "hello: sleep: x: not a number of seconds\n", 1},
		{"eat 64k", "ate 65536 bytes\n", "", 0},
		{"eat 0", "", "hello: eat: 0: not a number of bytes\n", 1},
		{"eat 9999999999g", "", "hello: eat: 9999999999g: not a number of bytes\n", 1},
		{"unknown", "", usage, 2},
		{"exit", "", usage, 2},
		{"--json x", "", usage, 2},
		{"--help", usage, "", 0},
	} {
		out, errOut, code := hello(t, strings.Fields(tt.args)...)
		if out != tt.out || errOut != tt.errOut || code != tt.code {
			t.Errorf("hello %s: %q, %q, %d; want %q, %q, %d", tt.args, out, errOut, code, tt.out, tt.errOut, tt.code)
		}
	}
}

// SIGINT ends what waits and what spins with 128+2. It starts ignored, which Go keeps, so it is only caught once the
// tool asked for it.
func TestStop(t *testing.T) {
	signal.Ignore(syscall.SIGINT)
	defer signal.Reset(syscall.SIGINT)
	for _, args := range []string{"sleep 60", "spin"} {
		cmd := exec.Command("/proc/self/exe", strings.Fields(args)...)
		cmd.Env = []string{"HELLO_TEST_RUN=1"}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		const sigint = 1 << (2 - 1)
		for caught := uint64(0); caught&sigint == 0; time.Sleep(time.Millisecond) {
			_, rest, _ := strings.Cut(read("/proc/"+strconv.Itoa(cmd.Process.Pid)+"/status"), "SigCgt:")
			line, _, _ := strings.Cut(rest, "\n")
			caught, _ = strconv.ParseUint(strings.TrimSpace(line), 16, 64)
		}
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
			t.Errorf("hello %s: %v, want exit status 130", args, cmd.ProcessState)
		}
	}
}

func TestReport(t *testing.T) {
	out, _, code := hello(t, "--json")
	var r struct {
		PID        int
		Namespaces map[string]uint64
		Rootfs     struct{ Type string }
		UIDMap     []struct{ Inside, Outside, Size uint64 }
		Mounts     []struct{ Target string }
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		t.Fatalf("status %d, %v in\n%s", code, err, out)
	}
	var want uint64
	if l, err := os.Readlink("/proc/self/ns/pid"); err == nil {
		want, _ = strconv.ParseUint(l[len("pid:["):len(l)-1], 10, 64)
	}
	if r.PID == 0 || r.Namespaces["pid"] != want || r.Rootfs.Type == "" || len(r.UIDMap) == 0 || len(r.Mounts) == 0 {
		t.Errorf("something is missing in %+v", r)
	}
	text, _, _ := hello(t)
	if n := strings.Count(text, "\n"); n > 70 || strings.Contains(text, "\x1b") {
		t.Errorf("%d lines, or colours in a pipe:\n%s", n, text)
	}
}

func TestParse(t *testing.T) {
	mounts := parseMountinfo(`25 1 8:1 / / ro,relatime shared:1 - ext4 /dev/sda\040x rw
30 25 0:26 /box /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
broken line
`)
	if len(mounts) != 4 || mounts[0].source != "/dev/sda x" || !mounts[0].readonly || mounts[1].readonly {
		t.Fatalf("mounts: %+v", mounts)
	}
	for _, tt := range [][3]string{
		{"memory", "/box/a", "/sys/fs/cgroup/memory/a"},
		{"memory", "/box", "/sys/fs/cgroup/memory"},
		{"memory", "/boxer", ""},
		{"cpu,cpuacct", "/", "/sys/fs/cgroup/cpu,cpuacct"},
		{"", "/a", "/sys/fs/cgroup/unified/a"},
		{"pids", "/", ""},
	} {
		if got := cgroupDir(mounts, tt[0], tt[1]); got != tt[2] {
			t.Errorf("cgroupDir(%q, %q) = %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
	for s, want := range map[string]int64{"max": -1, "-1": -1, "9223372036854771712": -1, "4096": 4096} {
		if got := parseLimit(s); got != want {
			t.Errorf("parseLimit(%q) = %d, want %d", s, got, want)
		}
	}
	if got := capNames(1<<21 | 1<<63); !reflect.DeepEqual(got, []string{"CAP_SYS_ADMIN", "CAP_63"}) {
		t.Errorf("capNames: %v", got)
	}
	if got := idMaps([]idMap{{0, 1000, 1}, {1, 100000, 65536}}); got != "0 → 1000 × 1, 1 → 100000 × 65536" {
		t.Errorf("idMaps: %s", got)
	}
	if got := bytes(67108864) + " " + bytes(1000) + " " + bytes(1536); got != "64 MiB 1000 B 1.5 KiB" {
		t.Errorf("bytes: %s", got)
	}
	if got := string(appendJSON(nil, object{{"k", "a\"\n\xff\x01"}, {"l", []int{1, 2}}, {"n", nil}, {"e", object{}}}, 0)); !json.Valid([]byte(got)) {
		t.Errorf("not JSON: %s", got)
	}
}
