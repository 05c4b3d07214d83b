package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vitro/internal/layer"
	"vitro/internal/layer/layertest"
)

var (
	tdir  = layertest.Dir
	tfile = layertest.File
	tsym  = layertest.Symlink
	tlink = layertest.Link
)

// xattr adds an xattr to an entry.
func xattr(e layertest.Entry, name, value string) layertest.Entry {
	return e.With(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr." + name: value} })
}

func device(name string, flag byte, major, minor int64) layertest.Entry {
	return layertest.Entry{Header: tar.Header{Typeflag: flag, Name: name, Mode: 0o660, Devmajor: major, Devminor: minor, ModTime: layertest.Time}}
}

func needRoot(t testing.TB) {
	if os.Getuid() != 0 {
		t.Skip("needs root: owners, device nodes and trusted xattrs")
	}
}

const (
	stamp = "1700000000.123456789"
	epoch = "0.000000000"
	text  = "4 982d9e3eb996f559e633f" // "text"
)

func TestApply(t *testing.T) {
	needRoot(t)
	caps := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	mode := func(e layertest.Entry, mode int64, uid, gid int) layertest.Entry {
		return e.With(func(h *tar.Header) { h.Mode, h.Uid, h.Gid = mode, uid, gid })
	}
	for _, tt := range []struct {
		name    string
		entries []layertest.Entry
		want    []string
	}{
		{"nothing", nil, []string{`"." 040755 0:0 ` + epoch}},
		{"root", []layertest.Entry{mode(tdir("./"), 0o1777, 1, 2)}, []string{`"." 041777 1:2 ` + stamp}},
		{"modes, owners, missing parents", []layertest.Entry{mode(tfile("/a//b/./c", "text"), 0o6755, 70000, 4000000000)}, []string{
			`"." 040755 0:0 ` + epoch, `"a" 040755 0:0 ` + epoch, `"a/b" 040755 0:0 ` + epoch,
			`"a/b/c" 106755 70000:4000000000 ` + stamp + " " + text,
		}},
		{"setgid parent", []layertest.Entry{mode(tdir("a"), 0o2755, 0, 5), tfile("a/b/c", "text")}, []string{
			`"." 040755 0:0 ` + epoch, `"a" 042755 0:5 ` + stamp, `"a/b" 040755 0:0 ` + epoch, `"a/b/c" 100644 0:0 ` + stamp + " " + text,
		}},
		{"children before their folder, which is closed", []layertest.Entry{tfile("a/b", "text"), mode(tdir("a"), 0, 5, 5)}, []string{
			`"." 040755 0:0 ` + epoch, `"a" 040000 5:5 ` + stamp, `"a/b" 100644 0:0 ` + stamp + " " + text,
		}},
		{"every type", []layertest.Entry{
			device("c", tar.TypeChar, 1, 3), device("b", tar.TypeBlock, 7, 70000), device("p", tar.TypeFifo, 0, 0),
			tsym("s", "/no/where"), tfile("f", "text"), tlink("h", "f"), tlink("hs", "s"),
		}, []string{
			`"." 040755 0:0 ` + epoch, `"b" 060660 0:0 ` + stamp + ` 7:70000`, `"c" 020660 0:0 ` + stamp + ` 1:3`,
			`"p" 010660 0:0 ` + stamp, `"s" 120777 0:0 ` + stamp + ` -> "/no/where" group "hs"`,
			`"hs" 120777 0:0 ` + stamp + ` -> "/no/where" group "hs"`,
			`"f" 100644 0:0 ` + stamp + " " + text + ` group "f"`, `"h" 100644 0:0 ` + stamp + " " + text + ` group "f"`,
		}},
		{"xattrs", []layertest.Entry{
			xattr(tfile("cap", "text"), "security.capability", caps), xattr(tfile("u", "text"), "user.a", "1\x002"),
			xattr(tsym("l", "x"), "trusted.a", "1"), xattr(tsym("lu", "x"), "user.a", "dropped"),
			xattr(tdir("d"), "trusted.overlay.redirect", "/etc"), xattr(tdir("e"), "user.overlay.opaque", "y"),
		}, []string{
			`"." 040755 0:0 ` + epoch, `"d" 040755 0:0 ` + stamp, `"e" 040755 0:0 ` + stamp,
			`"cap" 100644 0:0 ` + stamp + " " + text + ` security.capability="\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"`,
			`"u" 100644 0:0 ` + stamp + " " + text + ` user.a="1\x002"`,
			`"l" 120777 0:0 ` + stamp + ` -> "x" trusted.a="1"`, `"lu" 120777 0:0 ` + stamp + ` -> "x"`,
		}},
		{"whiteouts", []layertest.Entry{tfile(".wh.gone", ""), tfile("d/.wh.x", ""), tdir("o"), tfile("o/.wh..wh..opq", ""), tfile("o/new", "text"), tfile(".wh..wh.plnk/1", "")}, []string{
			`"." 040755 0:0 ` + epoch, `"gone" 020000 0:0 TIME 0:0`, `"d" 040755 0:0 ` + epoch, `"d/x" 020000 0:0 TIME 0:0`,
			`"o" 040755 0:0 ` + stamp + ` trusted.overlay.opaque="y"`, `"o/new" 100644 0:0 ` + stamp + " " + text,
		}},
		{"whiteout and the same name", []layertest.Entry{
			tfile(".wh.a", ""), tfile("a", "text"), tfile("b", "text"), tfile(".wh.b", ""),
			tfile(".wh.c", ""), tdir("c"), tdir("d"), tfile(".wh.d", ""), tfile(".wh.e", ""), tfile("e/f", "text"),
		}, []string{
			`"." 040755 0:0 ` + epoch, `"a" 100644 0:0 ` + stamp + " " + text, `"b" 100644 0:0 ` + stamp + " " + text,
			`"c" 040755 0:0 ` + stamp + ` trusted.overlay.opaque="y"`, `"d" 040755 0:0 ` + stamp + ` trusted.overlay.opaque="y"`,
			`"e" 040755 0:0 ` + epoch + ` trusted.overlay.opaque="y"`, `"e/f" 100644 0:0 ` + stamp + " " + text,
		}},
		{"the last one wins", []layertest.Entry{
			tdir("a"), tfile("a/b", "old"), tdir("a/c"), tfile("a", "text"), // folder, then file
			tfile("x", "old"), tdir("x"), tfile("x/y", "old"), tfile("x/y", "text"), // file, then folder
			tfile("t", "text"), tlink("u", "t"), tfile("u", "text"), tsym("v", "t"), tfile("v", "text"), // links are cut, not written through
			tlink("t", "t"),
		}, []string{
			`"." 040755 0:0 ` + epoch, `"a" 100644 0:0 ` + stamp + " " + text,
			`"x" 040755 0:0 ` + stamp + ` trusted.overlay.opaque="y"`, `"x/y" 100644 0:0 ` + stamp + " " + text,
			`"t" 100644 0:0 ` + stamp + " " + text, `"u" 100644 0:0 ` + stamp + " " + text, `"v" 100644 0:0 ` + stamp + " " + text,
		}},
		{"symlinked parents", []layertest.Entry{
			tdir("usr"), tdir("usr/lib"), tsym("lib", "usr/lib"), tfile("lib/a", "text"), tsym("abs", "/usr/./lib"), tfile("abs/b", "text"),
			tsym("usr/up", "../usr/lib/../lib"), tdir("usr/up/d"),
		}, []string{
			`"." 040755 0:0 ` + epoch, `"usr" 040755 0:0 ` + stamp, `"usr/lib" 040755 0:0 ` + stamp, `"usr/lib/d" 040755 0:0 ` + stamp,
			`"lib" 120777 0:0 ` + stamp + ` -> "usr/lib"`, `"abs" 120777 0:0 ` + stamp + ` -> "/usr/./lib"`, `"usr/up" 120777 0:0 ` + stamp + ` -> "../usr/lib/../lib"`,
			`"usr/lib/a" 100644 0:0 ` + stamp + " " + text, `"usr/lib/b" 100644 0:0 ` + stamp + " " + text,
		}},
		{"odd names", []layertest.Entry{
			tfile("new\nline", "text"), tfile("\xff\xfe:,", "text"), tfile(strings.Repeat("n", 255), "text"), tsym("l", strings.Repeat("t/", 2000)),
		}, []string{
			`"." 040755 0:0 ` + epoch, `"new\nline" 100644 0:0 ` + stamp + " " + text, `"\xff\xfe:," 100644 0:0 ` + stamp + " " + text,
			`"` + strings.Repeat("n", 255) + `" 100644 0:0 ` + stamp + " " + text, `"l" 120777 0:0 ` + stamp + ` -> "` + strings.Repeat("t/", 2000) + `"`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := layertest.Tree(t, layertest.Apply(t, layer.ApplyOptions{}, tt.entries...))
			for i, l := range got { // a whiteout has no times of its own
				if f := strings.Fields(l); f[1] == "020000" {
					f[3] = "TIME"
					got[i] = strings.Join(f, " ")
				}
			}
			layertest.Equal(t, got, tt.want)
		})
	}
}

func TestHostile(t *testing.T) {
	needRoot(t)
	head := func(e layertest.Entry, f func(*tar.Header)) []layertest.Entry { return []layertest.Entry{e.With(f)} }
	long := strings.Repeat("x/", 3000)
	for _, tt := range []struct {
		entries []layertest.Entry
		want    string
	}{
		{[]layertest.Entry{tfile("a/../../etc/passwd", "")}, `layer: entry "a/../../etc/passwd": path leaves the layer`},
		{[]layertest.Entry{tfile("/../x", "")}, `layer: entry "/../x": path leaves the layer`},
		{[]layertest.Entry{tdir("..")}, `layer: entry "..": path leaves the layer`},
		{[]layertest.Entry{tsym("a", ".."), tfile("a/x", "")}, `layer: entry "a/x": path leaves the layer`},
		{[]layertest.Entry{tsym("d/a", "../../etc"), tfile("d/a/x", "")}, `layer: entry "d/a/x": path leaves the layer`},
		{[]layertest.Entry{tsym("a", "b"), tsym("b", "../x"), tfile("a/x", "")}, `layer: entry "a/x": path leaves the layer`},
		{[]layertest.Entry{tsym("a", "/etc"), tfile("a/passwd", "")}, `layer: entry "a/passwd": parent "a" is a symlink to "/etc", which is not in the layer`},
		{[]layertest.Entry{tsym("a", "/etc"), tfile("a/.wh.passwd", "")}, `layer: entry "a/.wh.passwd": parent "a" is a symlink to "/etc", which is not in the layer`},
		{[]layertest.Entry{tsym("a", "a"), tfile("a/x", "")}, `layer: entry "a/x": parent "a": too many levels of symbolic links`},
		{[]layertest.Entry{tfile("a", ""), tfile("a/x", "")}, `layer: entry "a/x": parent "a": not a folder`},
		{[]layertest.Entry{tlink("a", "../../etc/passwd")}, `layer: entry "a": hard link to "../../etc/passwd": path leaves the layer`},
		{[]layertest.Entry{tlink("a", "/etc/passwd")}, `layer: entry "a": hard link to "/etc/passwd": no such file in the layer or below`},
		{[]layertest.Entry{tsym("s", ".."), tlink("a", "s/etc/passwd")}, `layer: entry "a": hard link to "s/etc/passwd": path leaves the layer`},
		{[]layertest.Entry{tfile(".wh.w", ""), tlink("a", "w")}, `layer: entry "a": hard link to "w": no such file in the layer or below`},
		{[]layertest.Entry{tdir("d"), tlink("a", "d")}, `layer: entry "a": hard link to "d": is a directory`},
		{[]layertest.Entry{tlink("a", "/")}, `layer: entry "a": hard link to "/": is a directory`},
		{[]layertest.Entry{tdir("d"), tfile("d/f", ""), tlink("d", "d/f")}, `layer: entry "d": hard link to "d/f": no such file or directory`},
		{[]layertest.Entry{tfile("x/.wh...", "")}, `layer: entry "x/.wh...": whiteout of ".."`},
		{[]layertest.Entry{tfile("x/.wh..", "")}, `layer: entry "x/.wh..": whiteout of "."`},
		{[]layertest.Entry{tfile(".wh.", "")}, `layer: entry ".wh.": whiteout of ""`},
		{[]layertest.Entry{tfile(".wh./x", "")}, `layer: entry ".wh./x": folder ".wh." is named like a whiteout`},
		{[]layertest.Entry{tsym("./", "/etc")}, `layer: entry "./": the root of a layer must be a folder`},
		{[]layertest.Entry{tfile(long+"x", "")}, `layer: entry "` + long[:64] + `"… (6001 bytes): name is longer than 4095 bytes`},
		{[]layertest.Entry{tfile(strings.Repeat("n", 256), "")}, `layer: entry "` + strings.Repeat("n", 256) + `": create: file name too long`},
		{head(tfile("a", ""), func(h *tar.Header) { h.Uid = -1 }), `layer: entry "a": uid -1 is out of range`},
		{head(tfile("a", ""), func(h *tar.Header) { h.Gid = 1<<32 - 1 }), `layer: entry "a": gid 4294967295 is out of range`},
		{[]layertest.Entry{device("a", tar.TypeChar, 4096, 0)}, `layer: entry "a": device 4096:0 is out of range`},
		{[]layertest.Entry{device("a", 'M', 0, 0)}, `layer: entry "a": type 'M' is not supported`},
		{[]layertest.Entry{xattr(tfile("a", ""), "security.capability", "x")}, `layer: entry "a": set xattr "security.capability": invalid argument`},
		{[]layertest.Entry{tfile("a", strings.Repeat("x", 2000))}, `layer: entry "a": files are larger than 1999 bytes`},
	} {
		dir := filepath.Join(t.TempDir(), "layer")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := layer.Apply(context.Background(), bytes.NewReader(layertest.Archive(t, tt.entries...)), dir, layer.ApplyOptions{MaxBytes: 1999})
		if err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
		if names, _ := os.ReadDir(filepath.Dir(dir)); len(names) != 1 {
			t.Errorf("%s: something was written outside: %v", tt.want, names)
		}
	}
}

func TestBrokenArchive(t *testing.T) {
	needRoot(t)
	whole := layertest.Archive(t, tfile("a", "text"), tfile("b", "text"))
	for _, tt := range []struct {
		data []byte
		want string
	}{
		{whole[:2348], `layer: read archive after 1 entries: unexpected EOF`},
		{bytes.Repeat([]byte("no tar "), 200), `layer: read archive after 0 entries: archive/tar: invalid tar header`},
	} {
		_, err := layer.Apply(context.Background(), bytes.NewReader(tt.data), t.TempDir(), layer.ApplyOptions{})
		if err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

func TestCancel(t *testing.T) {
	needRoot(t)
	ctx, cancel := context.WithCancel(context.Background())
	o := layer.ApplyOptions{Entry: func(name string) {
		if name == "b" {
			cancel()
		}
	}}
	big := strings.Repeat("x", 1<<20)
	_, err := layer.Apply(ctx, bytes.NewReader(layertest.Archive(t, tfile("a", big), tfile("b", big), tfile("c", big))), t.TempDir(), o)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestReadsToTheEnd(t *testing.T) {
	needRoot(t)
	r := io.MultiReader(bytes.NewReader(layertest.Archive(t, tfile("a", "text"))), strings.NewReader("after"))
	st, err := layer.Apply(context.Background(), r, t.TempDir(), layer.ApplyOptions{Sync: true})
	if err != nil || st.Entries != 1 || st.Bytes != 4 {
		t.Fatalf("%+v, %v", st, err)
	}
	if n, _ := r.Read(make([]byte, 1)); n != 0 {
		t.Fatal("bytes were left unread")
	}
}

func TestLowers(t *testing.T) {
	needRoot(t)
	closed := tdir("d").With(func(h *tar.Header) { h.Mode, h.Uid = 0o1770, 7 })
	caps := xattr(tfile("d/f", "text"), "user.a", "1").With(func(h *tar.Header) { h.Uid = 9 })
	dirs := layertest.Chain(t,
		[]layertest.Entry{tdir("./").With(func(h *tar.Header) { h.Mode = 0o700 }), closed, caps, tfile("gone", "x"), tfile("o/x", "x")},
		[]layertest.Entry{tfile(".wh.gone", ""), tfile("o/.wh..wh..opq", "")},
		[]layertest.Entry{tlink("d/g", "d/f"), tfile("o/new", "text")},
	)
	layertest.Equal(t, layertest.Tree(t, dirs[0]), []string{
		`"." 040700 0:0 ` + stamp, `"d" 041770 7:0 ` + stamp,
		`"d/f" 100644 9:0 ` + stamp + " " + text + ` group "d/f" user.a="1"`,
		`"d/g" 100644 9:0 ` + stamp + " " + text + ` group "d/f" user.a="1"`,
		`"o" 040755 0:0 ` + epoch, `"o/new" 100644 0:0 ` + stamp + " " + text,
	})
	for target, want := range map[string]string{
		"gone": `layer: entry "a": hard link to "gone": no such file in the layer or below`,
		"o/x":  `layer: entry "a": hard link to "o/x": no such file in the layer or below`,
		"d":    `layer: entry "a": hard link to "d": is a directory`,
	} {
		o := layer.ApplyOptions{Lowers: func(context.Context) ([]string, error) { return dirs, nil }}
		_, err := layer.Apply(context.Background(), bytes.NewReader(layertest.Archive(t, tlink("a", target))), t.TempDir(), o)
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// allocated returns a file's size on disk in bytes.
func allocated(t *testing.T, path string) int64 {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestSparse(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("needs GNU tar")
	}
	src := t.TempDir()
	f, err := os.Create(filepath.Join(src, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 3 << 20, 9<<20 + 4096} {
		if _, err := f.WriteAt([]byte("data"), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(20 << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	want, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--format=gnu"}, {"--format=pax", "--sparse-version=0.0"}, {"--format=pax", "--sparse-version=0.1"}, {"--format=pax", "--sparse-version=1.0"}} {
		archive, err := exec.Command("tar", append(args, "-S", "-C", src, "-c", "sparse")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if _, err := layer.Apply(context.Background(), bytes.NewReader(archive), dir, layer.ApplyOptions{Sync: true}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "sparse"))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%v: content differs (%v)", args, err)
		}
		if n := allocated(t, filepath.Join(dir, "sparse")); n > 64<<10 {
			t.Errorf("%v: %d bytes on disk: holes are filled", args, n)
		}
	}
}

// TestTarPrograms compares what GNU tar and bsdtar pack with what Apply makes of it.
func TestTarPrograms(t *testing.T) {
	needRoot(t)
	src := layertest.Apply(t, layer.ApplyOptions{},
		tdir("./"), tdir("a"), tfile("a/"+strings.Repeat("long", 50), "text"), tfile(strings.Repeat("deep/", 60)+"f", "text"),
		xattr(tfile("u", "text"), "user.a", "1"), tsym("s", strings.Repeat("long/", 50)), tfile("f", "text"), tlink("h", "f"),
		device("c", tar.TypeChar, 1, 3), device("p", tar.TypeFifo, 0, 0), tfile("\xff\xfe", "text"))
	want := layertest.Tree(t, src)
	for _, cmd := range [][]string{
		{"tar", "--format=pax", "--xattrs", "--xattrs-include=*", "-c", "."},
		{"bsdtar", "--format=pax", "--xattrs", "-c", "-f", "-", "."},
	} {
		if _, err := exec.LookPath(cmd[0]); err != nil {
			t.Logf("no %s here", cmd[0])
			continue
		}
		c := exec.Command(cmd[0], cmd[1:]...)
		c.Dir = src
		archive, err := c.Output()
		if err != nil {
			t.Fatalf("%s: %v", cmd[0], err)
		}
		dir := t.TempDir()
		if _, err := layer.Apply(context.Background(), bytes.NewReader(archive), dir, layer.ApplyOptions{}); err != nil {
			t.Fatalf("%s: %v", cmd[0], err)
		}
		layertest.Equal(t, layertest.Tree(t, dir), want)
	}
}

// TestSparseBomb: 512 bytes of archive that stand for 8 EiB of zeros.
func TestSparseBomb(t *testing.T) {
	const size = "9223372036854775807"
	e := tfile("x", "0\n"+strings.Repeat("\x00", 510)) // an empty sparse map, version 1.0
	archive := layertest.Archive(t, e.With(func(h *tar.Header) { h.PAXRecords = map[string]string{"VITROX.sparse.major": "1"} }))
	// archive/tar refuses to write these records itself.
	var rec string
	for _, kv := range []string{"major=1", "minor=0", "name=bomb", "realsize=" + size} {
		line := " GNU.sparse." + kv + "\n"
		rec += fmt.Sprint(len(line)+2) + line // all lengths have two digits
	}
	copy(archive[512:1024], append([]byte(rec), bytes.Repeat([]byte{0}, 512-len(rec))...))
	fixSize(archive[:512], len(rec))
	_, err := layer.Apply(context.Background(), bytes.NewReader(archive), t.TempDir(), layer.ApplyOptions{})
	if want := `layer: entry "bomb": truncate to ` + size + ` bytes: file too large`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// fixSize rewrites size and checksum of a tar header.
func fixSize(h []byte, size int) {
	copy(h[124:136], fmt.Sprintf("%011o\x00", size))
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

func TestFileDescriptors(t *testing.T) {
	needRoot(t)
	fds := func() int {
		names, _ := os.ReadDir("/proc/self/fd")
		return len(names)
	}
	var many []layertest.Entry
	for i := range 300 {
		many = append(many, tfile(strings.Repeat("d/", i%90)+string(rune('a'+i%26))+"/f", "x"))
	}
	before := fds()
	layertest.Apply(t, layer.ApplyOptions{}, many...)
	layertest.Chain(t, []layertest.Entry{tfile("a", "x")}, []layertest.Entry{tlink("b", "a")})
	if after := fds(); after != before {
		t.Errorf("%d file descriptors, %d before", after, before)
	}
}

// FuzzApply applies any archive beside a canary that must not change.
func FuzzApply(f *testing.F) {
	for _, entries := range [][]layertest.Entry{
		{tdir("a"), tfile("a/b", "text"), tsym("s", "../.."), tlink("l", "a/b"), tfile("a/.wh..wh..opq", ""), tfile(".wh.x", "")},
		{tsym("a", ".."), tfile("a/canary", "x")},
		{tsym("a", "/"), tlink("b", "a/../canary")},
		{xattr(tfile("x", "y"), "user.a", "b"), tfile("x/../../canary", "")},
	} {
		f.Add(layertest.Archive(f, entries...), false)
		f.Add(layertest.Archive(f, entries...), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, inPlace bool) {
		top := t.TempDir()
		dir := filepath.Join(top, "layer")
		for _, d := range []string{dir, filepath.Join(top, "d")} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(top, "canary"), []byte("alive"), 0o600); err != nil {
			t.Fatal(err)
		}
		outside := func() (lines []string) {
			for _, l := range layertest.Tree(t, top) {
				if !strings.HasPrefix(l, `"layer`) {
					lines = append(lines, l)
				}
			}
			return lines
		}
		before := outside()
		o := layer.ApplyOptions{MaxBytes: 1 << 20}
		if inPlace {
			o.Format = layer.InPlace
		}
		_, _ = layer.Apply(context.Background(), bytes.NewReader(data), dir, o)
		if after := outside(); !slices.Equal(before, after) {
			t.Fatalf("changed outside:\n%q\n%q", before, after)
		}
	})
}

// BenchmarkApply unpacks 20,000 files of 2 KiB in 1,000 folders.
func BenchmarkApply(b *testing.B) {
	var entries []layertest.Entry
	body := strings.Repeat("x", 2048)
	for i := range 20000 {
		dir := "usr/share/" + strings.Repeat("d", 1+i/20%10) + "/" + string(rune('a'+i/200%26)) + "/" + string(rune('a'+i/5000))
		if i%20 == 0 {
			entries = append(entries, tdir(dir))
		}
		entries = append(entries, tfile(dir+"/"+strings.Repeat("f", 1+i%20)+string(rune('a'+i/20%26)), body))
	}
	archive := layertest.Archive(b, entries...)
	b.SetBytes(int64(len(archive)))
	for b.Loop() {
		dir := b.TempDir()
		if _, err := layer.Apply(context.Background(), bytes.NewReader(archive), dir, layer.ApplyOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
