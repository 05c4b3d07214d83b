package tidy

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	maxFile     = 200 << 10 // bytes
	maxFunction = 100       // lines
)

// largeFiles may be larger than maxFile: path and reason.
var largeFiles = map[string]string{}

// marks and hosts are put together here, so that this file does not find itself.
var (
	marks = regexp.MustCompile(`\b(` + strings.Join([]string{"FIX" + "ME", "XX" + "X", "TO" + "DO"}, "|") + `)\b`)
	// Hosts of package registries: a build finds those through its own configuration.
	hosts = [][]string{
		{"proxy", "golang", "org"},
		{"sum", "golang", "org"},
		{"registry", "npmjs", "org"},
		{"pypi", "org"},
		{"files", "pythonhosted", "org"},
		{"rubygems", "org"},
		{"crates", "io"},
		{"deb", "debian", "org"},
	}
)

// tracked gives every file of the repository that git knows or would add.
func tracked(t *testing.T) map[string][]byte {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	files := map[string][]byte{}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		b, err := os.ReadFile(filepath.Join("../..", name))
		if os.IsNotExist(err) { // deleted, and not committed yet
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		files[name] = b
	}
	return files
}

func TestFiles(t *testing.T) {
	for name, text := range tracked(t) {
		for _, w := range checkFile(name, text) {
			t.Error(w)
		}
	}
}

func checkFile(name string, text []byte) (wrong []string) {
	if _, ok := largeFiles[name]; !ok && len(text) > maxFile {
		wrong = append(wrong, name+": larger than 200 KiB")
	}
	// Lines of go.sum and of foreign input may hold anything.
	if name == "go.sum" || strings.Contains("/"+name, "/testdata/") {
		return wrong
	}
	if m := marks.Find(text); m != nil {
		wrong = append(wrong, name+": "+string(m)+": do it, or file an issue")
	}
	for _, labels := range hosts {
		if host := strings.Join(labels, "."); bytes.Contains(text, []byte(host)) {
			wrong = append(wrong, name+": names the package registry "+host)
		}
	}
	if strings.HasSuffix(name, ".go") {
		wrong = append(wrong, checkGo(name, text)...)
	}
	return wrong
}

func checkGo(name string, text []byte) (wrong []string) {
	if formatted, err := format.Source(text); err != nil {
		return []string{name + ": " + err.Error()}
	} else if !bytes.Equal(formatted, text) {
		wrong = append(wrong, name+": not formatted")
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return append(wrong, err.Error())
	}
	if strings.HasSuffix(name, "_test.go") {
		return wrong
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fset.Position(fn.End()).Line-fset.Position(fn.Pos()).Line < maxFunction || hasReason(fn) {
			continue
		}
		wrong = append(wrong, name+": function "+fn.Name.Name+" has over 100 lines: split it, or give a reason with //tidy:long")
	}
	return wrong
}

func hasReason(fn *ast.FuncDecl) bool {
	if fn.Doc == nil {
		return false
	}
	for _, c := range fn.Doc.List {
		if reason, ok := strings.CutPrefix(c.Text, "//tidy:long "); ok && len(reason) > 10 {
			return true
		}
	}
	return false
}

func TestCheckFile(t *testing.T) {
	long := "package p\n\n%s\nfunc f() {\n" + strings.Repeat("\tg()\n", maxFunction) + "}\n"
	for _, tt := range []struct{ name, text, want string }{
		{"a.md", "fine", ""},
		{"a.md", "FIX" + "ME", "a.md: FIX" + "ME: do it, or file an issue"},
		{"internal/x/testdata/a.go", "TO" + "DO", ""},
		{"a.sh", "https://pypi." + "org/x", "a.sh: names the package registry pypi." + "org"},
		{"a.bin", string(make([]byte, maxFile+1)), "a.bin: larger than 200 KiB"},
		{"a.go", "package p\nvar  x int\n", "a.go: not formatted"},
		{"a.go", strings.Replace(long, "%s", "// f is long.", 1), "a.go: function f has over 100 lines: split it, or give a reason with //tidy:long"},
		{"a.go", strings.Replace(long, "%s", "//tidy:long a table of calls", 1), ""},
	} {
		if got := strings.Join(checkFile(tt.name, []byte(tt.text)), "\n"); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Every package says in doc.go what it is for.
func TestPackageComments(t *testing.T) {
	for _, p := range packages(t) {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, "doc.go"), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Errorf("%s: %v", p.ImportPath, err)
			continue
		}
		if f.Doc == nil || len(f.Doc.Text()) < 40 || p.Name != "main" && !strings.HasPrefix(f.Doc.Text(), "Package "+p.Name+" ") {
			t.Errorf("%s: doc.go has no comment that says what the package is for", p.ImportPath)
		}
	}
}
