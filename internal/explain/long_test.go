package explain

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
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
	all, _, err := CapsOf(nil, true)
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

// Of many routes some are read, and it is said that there are more.
func TestManyRoutes(t *testing.T) {
	testenv.Need(t, testenv.Root)
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	ns, err := netns.GetFromPid(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1}}); err != nil {
		t.Fatal(err)
	}
	for i := range maxRoutes + 1 {
		dst := &net.IPNet{IP: net.IPv4(10, byte(i>>8), byte(i), 0), Mask: net.CIDRMask(24, 32)}
		if err := h.RouteAdd(&netlink.Route{LinkIndex: 1, Dst: dst}); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Gather(Options{PID: cmd.Process.Pid, Views: []string{"network"}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.Network.Routes); n != maxRoutes {
		t.Errorf("%d routes, want %d", n, maxRoutes)
	}
	if want := "routes: 5000 were read, there are more"; !slices.Contains(f.Network.Notes, want) || !strings.Contains(f.Text(Page{Rows: 40}), want) {
		t.Errorf("notes: %q, want %q, in the text too", f.Network.Notes, want)
	}
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
