package boot

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vitro/internal/testenv"
)

func build(t *testing.T, arch string, flags ...string) string {
	out := filepath.Join(t.TempDir(), "prog")
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", out, "./testdata/prog")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return out
}

func TestEntry(t *testing.T) {
	b, err := os.ReadFile("/proc/self/timerslack_ns")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Need(t, testenv.Tool("qemu-aarch64-static"))
	slack := strings.TrimSpace(string(b))
	t.Setenv("GOEXPERIMENT", "norandomizedheapbase64")
	flag := []string{"-ldflags", "-E vitro/internal/boot.Entry"}
	amd64 := []string{build(t, "amd64", flag...)}
	thp, _ := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	huge := len(thp) > 0 && !strings.Contains(string(thp), "[never]")
	for _, c := range []struct {
		name      string
		argv, env []string
		procs     int
		huge      bool
	}{
		{"amd64", amd64, []string{"A=1", "B=2"}, 1, huge},
		{"the caller's GOMAXPROCS", amd64, []string{"GOMAXPROCS=2", "B="}, 2, huge},
		{"no environment", amd64, []string{}, 1, huge},
		{"another entry", []string{build(t, "amd64")}, []string{"GOMAXPROCS=1", "A=1"}, 1, false},
		{"arm64", []string{"qemu-aarch64-static", build(t, "arm64", flag...)}, []string{"A=1"}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(c.argv[0], append(c.argv[1:], "x", "y", "z")...)
			cmd.Env = c.env
			want := fmt.Sprintf("args 4 [x y z]\nprocs %d page 4096\ngiven %s\nslack %s\nhuge heap %t\n",
				c.procs, strings.Join(c.env, " "), slack, c.huge)
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
				t.Errorf("%v\n%s\nwant\n%s", err, out, want)
			}
		})
	}
}
