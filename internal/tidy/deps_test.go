package tidy

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "vitro/"

// levels: a package imports packages of a lower level only. A key covers the packages below it, which may import each
// other; the longest key counts.
var levels = map[string]int{
	"internal/boot":  0,
	"internal/sys":   0,
	"internal/plan":  0,
	"internal/spec":  0,
	"internal/image": 0,
	"internal/hello": 0,

	"internal/probe":    1,
	"internal/safepath": 1,
	"internal/seccomp":  1,
	"internal/cgroup":   1,
	"internal/stub":     1,

	"internal/compile":  2,
	"internal/layer":    2,
	"internal/store":    2,
	"internal/registry": 2,
	"internal/archive":  2,
	"internal/network":  2,

	"internal/snapshot": 3,
	"internal/runtime":  3,
	"internal/explain":  3,
	"internal/monitor":  3,

	"internal/engine": 4,
	"internal/cli":    5,

	"cmd": 6,

	// Never part of a program: only _test.go files and each other import these.
	"internal/testenv": testOnly,
	"internal/tidy":    testOnly,
	"test":             testOnly,
	"bench":            testOnly,
}

const testOnly = 100

// sameLevel are the imports between two packages of one level that are wanted: importer, imported, reason.
var sameLevel = [][3]string{
	{"internal/store", "internal/layer", "a blob that is a layer is unpacked as it streams in"},
	{"internal/registry", "internal/store", "what is fetched goes straight into the store"},
	{"internal/archive", "internal/layer", "archives are compressed as layers are"},
	{"internal/archive", "internal/store", "what an archive holds goes straight into the store"},
	{"internal/monitor", "internal/runtime", "the monitor is the parent of a container and starts it"},
	{"internal/explain", "internal/runtime", "explain reads a container's state file"},
}

// unixUsers may import golang.org/x/sys/unix beside internal/sys.
var unixUsers = [][2]string{
	{"internal/sys", "raw system calls are what it is for"},
	{"internal/cgroup", "statfs of hierarchies, device programs"},
	{"internal/archive", "O_TMPFILE for an archive that comes through a pipe"},
	{"internal/cli", "terminals, signals"},
	{"internal/compile", "constants"},
	{"internal/engine", "locks, folders by fd"},
	{"internal/store", "flock, syncfs"},
	{"internal/explain", "namespace ioctls, openat2, statx, statmount"},
	{"internal/layer", "xattrs, device nodes and times by fd"},
	{"internal/monitor", "pidfd, subreaper, terminals"},
	{"internal/plan", "names of system calls, errnos and flags for the renderer"},
	{"internal/stub", "clone, pidfd, socketpair"},
	{"internal/network", "namespace fds"},
	{"internal/probe", "feature probes"},
	{"internal/runtime", "pidfd, terminals"},
	{"internal/safepath", "openat2"},
	{"internal/snapshot", "overlay mounts"},
	{"internal/testenv", "probes"},
	{"bench", "wait4 with rusage, mounts"},
}

// execUsers may start programs with os/exec. Unpacking, networking and mounting never do.
var execUsers = [][2]string{
	{"internal/monitor", "starts vitrun"},
	{"internal/runtime", "hooks, newuidmap and newgidmap"},
	{"internal/hello/gen", "go build"},
	{"internal/testenv", "go build, busybox"},
	{"bench", "starts what it compares"},
	{"test/tour", "the shell that runs the tour"},
}

// bans: what a package must not link, directly or not.
var bans = []struct {
	pkg, reason string
	banned      []string
}{
	{"cmd/vitrun", "start-up time", []string{"regexp", "encoding/json", "net", "text/template", "github.com/spf13/cobra"}},
	{"internal/stub", "it is handed a program, and knows nothing of where that comes from", []string{"vitro/internal/spec", "encoding/json"}},
	{"internal/runtime", "it knows nothing of images", []string{"vitro/internal/engine", "vitro/internal/cli", "vitro/internal/image", "vitro/internal/store"}},
}

type pkg struct {
	ImportPath, Name, Dir              string
	Imports, TestImports, XTestImports []string
	GoFiles                            []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Imports,TestImports,XTestImports,GoFiles", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list ./...: %v", err)
	}
	var list []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		list = append(list, p)
	}
}

// room is the longest key of levels that covers the package.
func room(importPath string) (key string, level int, ok bool) {
	for k, l := range levels {
		if (importPath == k || strings.HasPrefix(importPath, k+"/")) && len(k) > len(key) {
			key, level, ok = k, l, true
		}
	}
	return key, level, ok
}

func allowed(table [][2]string, importPath string) bool {
	return slices.ContainsFunc(table, func(e [2]string) bool {
		return importPath == e[0] || strings.HasPrefix(importPath, e[0]+"/")
	})
}

// checkImports gives what is wrong with the imports of one package, in a program or in its tests.
func checkImports(p pkg) (wrong []string) {
	from, level, ok := room(p.ImportPath)
	if !ok {
		return []string{p.ImportPath + ": not in the table of levels (internal/tidy/deps_test.go)"}
	}
	for _, imp := range p.Imports {
		switch {
		case imp == "golang.org/x/sys/unix" && !allowed(unixUsers, p.ImportPath):
			wrong = append(wrong, p.ImportPath+" imports "+imp+": internal/sys is the package for that")
		case imp == "os/exec" && !allowed(execUsers, p.ImportPath):
			wrong = append(wrong, p.ImportPath+" imports os/exec: no program is started from there")
		}
		imp, ours := strings.CutPrefix(imp, module)
		if !ours {
			continue
		}
		to, lower, ok := room(imp)
		switch {
		case !ok || from == to || lower < level:
		case lower == testOnly && level != testOnly:
			wrong = append(wrong, p.ImportPath+" imports "+imp+": only tests may")
		case lower == level && (level == testOnly || listed(from, to)):
		case lower == level:
			wrong = append(wrong, p.ImportPath+" imports "+imp+": same level, and not listed")
		default:
			wrong = append(wrong, p.ImportPath+" imports "+imp+": an import goes down only")
		}
	}
	return wrong
}

func listed(from, to string) bool {
	return slices.ContainsFunc(sameLevel, func(e [3]string) bool { return e[0] == from && e[1] == to })
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		for _, w := range checkImports(p) {
			t.Error(w)
		}
	}
}

// The check itself must be able to fail.
func TestCheckImports(t *testing.T) {
	for _, tt := range []struct{ from, imports, want string }{
		{"internal/compile", "vitro/internal/spec", ""},
		{"internal/cgroup", "vitro/internal/cgroup/v1", ""},
		{"internal/store", "vitro/internal/layer", ""},
		{"internal/layer", "vitro/internal/store", "internal/layer imports internal/store: same level, and not listed"},
		{"internal/runtime", "vitro/internal/engine", "internal/runtime imports internal/engine: an import goes down only"},
		{"internal/spec", "vitro/internal/testenv", "internal/spec imports internal/testenv: only tests may"},
		{"internal/spec", "golang.org/x/sys/unix", "internal/spec imports golang.org/x/sys/unix: internal/sys is the package for that"},
		{"internal/layer", "os/exec", "internal/layer imports os/exec: no program is started from there"},
		{"internal/extra", "os", "internal/extra: not in the table of levels (internal/tidy/deps_test.go)"},
	} {
		got := strings.Join(checkImports(pkg{ImportPath: tt.from, Imports: []string{tt.imports}}), "\n")
		if got != tt.want {
			t.Errorf("%s imports %s: %q, want %q", tt.from, tt.imports, got, tt.want)
		}
	}
}

// specs-go formats its version with fmt in a package variable, so fmt is linked into vitrun (0.1 ms); nothing else on its way may use it.
func TestFmtComesWithSpecsOnly(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{range .Imports}} {{.}}{{end}}{{end}}", "./cmd/vitrun")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) > 0 && slices.Contains(f[1:], "fmt") && f[0] != "github.com/opencontainers/runtime-spec/specs-go" {
			t.Errorf("%s imports fmt: cmd/vitrun links it, and its start-up time is a budget", f[0])
		}
	}
}

func TestBans(t *testing.T) {
	there := map[string]bool{}
	for _, p := range packages(t) {
		there[p.ImportPath] = true
	}
	for _, b := range bans {
		if !there[b.pkg] {
			// Packages come one by one, vitrun last: from then on a ban on nothing is a mistake in the table.
			if there["cmd/vitrun"] {
				t.Errorf("%s: there is no such package", b.pkg)
			}
			continue
		}
		cmd := exec.Command("go", "list", "-deps", "./"+b.pkg)
		cmd.Dir = "../.."
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list -deps ./%s: %v", b.pkg, err)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			if slices.ContainsFunc(b.banned, func(s string) bool { return dep == s || strings.HasPrefix(dep, s+"/") && s != "net" }) {
				t.Errorf("%s links %s (go mod why, go list -deps): banned there for %s", b.pkg, dep, b.reason)
			}
		}
	}
}
