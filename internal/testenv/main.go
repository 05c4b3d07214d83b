package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// What Main sets once, before any test runs.
var (
	runDir string // TMPDIR of this run
	token  string // part of the names that this run makes
)

var lastID atomic.Int64

// Main is the body of TestMain: it runs the tests and exits, with a failure if something was left behind.
func Main(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "vitro-test-")
	if err != nil {
		return 1, err
	}
	// Root of a container with mapped ids must be able to walk to its root filesystem.
	if err := os.Chmod(dir, 0o755); err != nil {
		return 1, err
	}
	runDir, token = dir, "vt"+strconv.FormatInt(int64(os.Getpid()), 36)
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return 1, err
	}
	before := Look()
	files := openFiles()
	code := m.Run()

	// The list of children includes a zombie, which has neither mounts nor an environment to be recognised by.
	leaks := settled(func() []string {
		mine := func(s string) bool { return strings.Contains(s, dir) || hasToken(s) }
		found := Look().Since(before, mine)
		for _, c := range children() {
			found = append(found, "child process "+c)
		}
		return found
	})
	runtime.GC() // finalizers close what was only forgotten; a test that holds it still fails
	leaks = append(leaks, settled(func() []string { return newFiles(files) })...)
	if err := os.RemoveAll(dir); err != nil {
		leaks = append(leaks, err.Error())
	}
	if len(leaks) > 0 {
		return code, fmt.Errorf("the tests left behind:\n\t%s", strings.Join(leaks, "\n\t"))
	}
	return code, nil
}

// settled asks again for two seconds: the kernel ends processes, and so namespaces and their mounts, in its own time.
func settled(find func() []string) (found []string) {
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if found = find(); len(found) == 0 || time.Now().After(end) {
			return found
		}
	}
}

// ID makes a container id that is the test's name, the run's token and a number; the last 11 bytes or less, from the
// token on, are a valid name of a link.
func ID(t testing.TB) string {
	t.Helper()
	name := regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "-")
	return name[:min(len(name), 40)] + "-" + token + "x" + strconv.FormatInt(lastID.Add(1), 36)
}

// hasToken: the token must end where ID ends it, since one pid's digits may begin another's.
func hasToken(s string) bool { return strings.Contains(s, token+"x") }

// children are processes that this one has not waited for; a zombie counts.
func children() (found []string) {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil
	}
	for _, l := range lists {
		for _, pid := range strings.Fields(readString(l)) {
			found = append(found, describe(pid))
		}
	}
	return found
}

func describe(pid string) string {
	args := strings.TrimRight(strings.ReplaceAll(readString("/proc/"+pid+"/cmdline"), "\x00", " "), " ")
	if args == "" {
		args = "[" + strings.TrimSpace(readString("/proc/"+pid+"/comm")) + "]"
	}
	return pid + " " + args
}

// openFiles maps descriptors of this process to what they are.
func openFiles() map[string]string {
	files := map[string]string{}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if l, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			files[e.Name()] = l
		}
	}
	return files
}

// newFiles leaves out what Go's own poller and the testing package keep open.
func newFiles(before map[string]string) (found []string) {
	for fd, name := range openFiles() {
		switch {
		case before[fd] == name, name == "anon_inode:[eventpoll]", name == "anon_inode:[eventfd]":
		case strings.HasSuffix(name, "/fd"), strings.HasPrefix(name, "/dev/urandom"):
		case strings.HasPrefix(filepath.Base(name), "testlog"):
		default:
			found = append(found, "open file "+fd+" "+name)
		}
	}
	return found
}

func readString(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}
