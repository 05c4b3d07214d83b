package net

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"vitro/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestScripts(t *testing.T) {
	for _, tool := range []string{"busybox", "ip", "nft", "conntrack", "iptables", "jq", "runc"} {
		testenv.Need(t, testenv.Tool(tool))
	}
	archive := filepath.Join(t.TempDir(), "bb.tar")
	root := testenv.Rootfs(t)
	writeFile(t, filepath.Join(root, "www/cgi-bin/peer"), "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; echo peer=$REMOTE_ADDR host=$(hostname)\n")
	if err := archiveOf(archive, "bb:latest", root); err != nil {
		t.Fatal(err)
	}
	runScripts(t, "testdata", archive, "ROOTFS="+root)
}

// TestLoad runs nginx and PostgreSQL under load, for half a minute: only if VITRO_TEST_LOAD is set.
func TestLoad(t *testing.T) {
	if os.Getenv("VITRO_TEST_LOAD") == "" {
		t.Skip("VITRO_TEST_LOAD is not set")
	}
	for _, tool := range []string{"nginx", "pgbench", "wrk", "jq"} {
		testenv.Need(t, testenv.Tool(tool))
	}
	archive := filepath.Join(t.TempDir(), "services.tar")
	if err := debian(archive, "services:latest", "nginx-light", "postgresql-15", "wrk", "dash", "coreutils", "base-files"); err != nil {
		t.Fatal(err)
	}
	runScripts(t, "testdata/load", archive)
}

// runScripts has the image on both container hosts.
func runScripts(t *testing.T, dir, archive string, env ...string) {
	testenv.Need(t, testenv.Root, testenv.NetNS, testenv.Overlay)
	vitro, vitrun := testenv.VitroPath(t), testenv.VitrunPath(t)
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, env...)
			e.Setenv("PATH", filepath.Join(e.WorkDir, "bin")+":"+filepath.Dir(vitro)+":"+filepath.Dir(vitrun)+":"+os.Getenv("PATH"))
			e.Setenv("TMPDIR", os.TempDir())
			e.Setenv("ID", testenv.ID(t))
			l := &lab{t: t, dir: e.WorkDir, program: vitro}
			e.Defer(l.close)
			if err := l.make(e.Setenv); err != nil {
				return err
			}
			return errors.Join(l.run("h1", vitro, "load", "-q", "-i", archive), l.run("h2", vitro, "load", "-q", "-i", archive))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"serve": cmdServe, "connect": cmdConnect, "retry": cmdRetry},
	})
}

// A lab is the hosts of one script.
type lab struct {
	t       *testing.T
	dir     string
	program string
	names   map[string]string // of the network namespaces
	holders []*exec.Cmd       // of the mount namespaces
}

var links = []string{
	"-n ROUTER link add lan type veth peer name eth0 netns LAN",
	"-n ROUTER link add h1 type veth peer name eth0 netns H1",
	"-n ROUTER link add h2 type veth peer name eth0 netns H2",
	"-n ROUTER addr add 198.51.100.1/24 dev lan", "-n ROUTER addr add 2001:db8:1::1/64 dev lan nodad",
	"-n ROUTER addr add 203.0.113.1/30 dev h1", "-n ROUTER addr add 2001:db8:2::1/64 dev h1 nodad",
	"-n ROUTER addr add 203.0.113.5/30 dev h2", "-n ROUTER addr add 2001:db8:3::1/64 dev h2 nodad",
	"-n LAN addr add 198.51.100.2/24 dev eth0", "-n LAN addr add 2001:db8:1::2/64 dev eth0 nodad",
	"-n H1 addr add 203.0.113.2/30 dev eth0", "-n H1 addr add 2001:db8:2::2/64 dev eth0 nodad",
	"-n H2 addr add 203.0.113.6/30 dev eth0", "-n H2 addr add 2001:db8:3::2/64 dev eth0 nodad",
	"-n ROUTER link set lan up", "-n ROUTER link set h1 up", "-n ROUTER link set h2 up",
	"-n LAN link set eth0 up", "-n H1 link set eth0 up", "-n H2 link set eth0 up",
	"-n LAN route add default via 198.51.100.1", "-n LAN route add default via 2001:db8:1::1",
	"-n H1 route add default via 203.0.113.1", "-n H1 route add default via 2001:db8:2::1",
	"-n H2 route add default via 203.0.113.5", "-n H2 route add default via 2001:db8:3::1",
}

// make leaves for each host a program of its name that runs others there.
func (l *lab) make(setenv func(k, v string)) error {
	l.names = map[string]string{}
	var replace []string
	for _, h := range []string{"lan", "router", "h1", "h2"} {
		id := testenv.ID(l.t)
		name := id[len(id)-min(len(id), 20):]
		if err := command("ip", "netns", "add", name); err != nil {
			return err
		}
		l.names[h] = name
		setenv(strings.ToUpper(h), name)
		replace = append(replace, strings.ToUpper(h), name)
		if err := command("ip", "-n", name, "link", "set", "lo", "up"); err != nil {
			return err
		}
		enter := "--net=/run/netns/" + name
		if strings.HasPrefix(h, "h") {
			pid, err := l.hold(h)
			if err != nil {
				return err
			}
			enter += fmt.Sprintf(" --mount=/proc/%d/ns/mnt", pid)
		}
		writeFile(l.t, filepath.Join(l.dir, "bin", h), "#!/bin/sh\nexec nsenter "+enter+` --wdns="$PWD" -- "$@"`+"\n")
	}
	for _, args := range links {
		if err := command("ip", strings.Fields(strings.NewReplacer(replace...).Replace(args))...); err != nil {
			return err
		}
	}
	return l.run("router", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
}

// hold makes a mount namespace with /run and /var/lib of its own, and gives the process that keeps it.
func (l *lab) hold(host string) (pid int, err error) {
	lib, run := filepath.Join(l.dir, host, "lib"), filepath.Join(l.dir, host, "run")
	if err := errors.Join(os.MkdirAll(lib, 0o755), os.MkdirAll(run, 0o755)); err != nil {
		return 0, err
	}
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount --bind "$0" /var/lib && mount --bind "$1" /run && echo ready && exec cat`, lib, run)
	in, err := cmd.StdinPipe() // its end is the holder's
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	l.holders = append(l.holders, cmd)
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		in.Close()
		return 0, fmt.Errorf("mount namespace of %s: %w", host, err)
	}
	return cmd.Process.Pid, nil
}

func (l *lab) run(host string, argv ...string) error {
	return command(filepath.Join(l.dir, "bin", host), argv...)
}

func (l *lab) output(host string, argv ...string) string {
	b, err := exec.Command(filepath.Join(l.dir, "bin", host), argv...).CombinedOutput()
	if err != nil {
		l.t.Errorf("%s: %s: %v: %s", host, argv, err, b)
	}
	return strings.TrimSpace(string(b))
}

// close removes all containers; then a host must have nothing of them.
func (l *lab) close() {
	for _, h := range []string{"h1", "h2"} {
		if len(l.holders) < 2 {
			break
		}
		if ids := strings.Fields(l.output(h, l.program, "ps", "-aq")); len(ids) > 0 {
			l.output(h, append([]string{l.program, "rm", "-f"}, ids...)...)
		}
		if left := l.output(h, "sh", "-c", "ip -o link show type veth | grep -v eth0; nft list map inet vitro ports4 2>/dev/null | grep elements; "+
			"find /run/vitro/network/leases /run/vitro/network/endpoints /run/vitro/network/ports -mindepth 2 ! -name 'last*' 2>/dev/null; true"); left != "" {
			l.t.Errorf("%s: left: %s", h, left)
		}
	}
	for _, c := range l.holders {
		c.Process.Kill()
		c.Wait()
	}
	for _, name := range l.names {
		if err := command("ip", "netns", "del", name); err != nil {
			l.t.Error(err)
		}
	}
}

func command(name string, args ...string) error {
	if b, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, b)
	}
	return nil
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
		t.Fatal(err)
	}
}

// inside runs f on a thread that is in a namespace. Sockets made there stay of it.
func inside(name string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		ns, err := os.Open("/run/netns/" + name)
		if err == nil {
			err = errors.Join(unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET), ns.Close())
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// cmdServe NAMESPACE PORT answers every TCP client with the address that it is seen with.
func cmdServe(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(inside(args[0], func() error {
		l, err := net.Listen("tcp", ":"+args[1])
		if err != nil {
			return err
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				peer, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				fmt.Fprintf(c, "peer=%s\n", peer)
				c.Close()
			}
		}()
		ts.Defer(func() { l.Close(); <-ended })
		return nil
	}))
}

// cmdConnect NAMESPACE ADDRESS opens a TCP connection.
func cmdConnect(ts *testscript.TestScript, neg bool, args []string) {
	patience := 5 * time.Second
	if neg {
		patience = 500 * time.Millisecond
	}
	err := inside(args[0], func() error {
		c, err := net.DialTimeout("tcp", args[1], patience)
		if err == nil {
			c.Close()
		}
		return err
	})
	if neg != (err != nil) {
		ts.Fatalf("%s: %v", args[1], err)
	}
}

// cmdRetry PROGRAM ARG... runs a program until it succeeds, for a minute: what was started may not listen yet.
func cmdRetry(ts *testscript.TestScript, _ bool, args []string) {
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s: %v", strconv.Quote(strings.Join(args, " ")), err)
		}
	}
}
