package snapshottest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"vitro/internal/layer"
	"vitro/internal/layer/layertest"
	"vitro/internal/snapshot"
)

type entries = []layertest.Entry

// Layers is a chain, the lowest first, that has all that a merge must get right.
func Layers() []entries {
	dir, file := layertest.Dir, layertest.File
	owned := func(e layertest.Entry, mode int64, id int) layertest.Entry {
		return e.With(func(h *tar.Header) { h.Mode, h.Uid, h.Gid = mode, id, id })
	}
	xattr := func(e layertest.Entry, k, v string) layertest.Entry {
		return e.With(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr." + k: v} })
	}
	return []entries{
		{
			owned(dir("./"), 0o751, 3), owned(dir("etc"), 0o1777, 5), file("etc/passwd", "one"), file("etc/gone", "x"),
			dir("opt"), file("opt/old", "x"), dir("opt/sub"), file("opt/sub/old", "x"), file("kept", "text"), layertest.Link("kept2", "kept"),
			dir("re"), file("re/old", "x"), dir("be"), file("be/old", "x"), file("file", "x"), dir("folder"), file("folder/x", "x"),
			dir("usr"), dir("usr/lib"), layertest.Symlink("lib", "usr/lib"), file("under", "text"), owned(file("suid", "x"), 0o4755, 0),
			xattr(dir("attr"), "user.a", "1"), xattr(file("attr/f", "x"), "user.b", "2"), layertest.Symlink("dangling", "/no/where"),
		},
		{
			dir("opt"), file("opt/.wh..wh..opq", ""), dir("opt/sub"), file("opt/sub/new", "x"), file(".wh.re", ""), dir("re"), file("re/new", "x"),
			dir("be"), file("be/new", "x"), file(".wh.be", ""), dir("file"), file("file/now", "folder"), file("folder", "file"),
		},
		{
			owned(dir("etc"), 0o1777, 5), file("etc/passwd", "two"), file("etc/.wh.gone", ""), layertest.Link("above", "under"), layertest.Symlink("usr/lib/link", "x"),
		},
	}
}

// Run checks a driver.
func Run(t *testing.T, d snapshot.Driver) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
	before := mounts(t)
	t.Run("merge", func(t *testing.T) { merge(t, d) })
	t.Run("write", func(t *testing.T) { write(t, d) })
	t.Run("read only", func(t *testing.T) { readOnly(t, d) })
	t.Run("no layer", func(t *testing.T) { noLayer(t, d) })
	t.Run("opaque root", func(t *testing.T) { opaqueRoot(t, d) })
	t.Run("odd names", func(t *testing.T) { oddNames(t, d) })
	t.Run("70 layers", func(t *testing.T) { manyLayers(t, d) })
	t.Run("failure", func(t *testing.T) { failure(t, d) })
	if after := mounts(t); !bytes.Equal(before, after) {
		t.Errorf("mounts are left:\n%s", after)
	}
}

func mounts(t testing.TB) []byte {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Mount prepares and mounts a chain, top first, until the test's end.
func Mount(t testing.TB, d snapshot.Driver, lowers []string, o snapshot.Options) string {
	t.Helper()
	m, err := d.Prepare(context.Background(), t.TempDir(), lowers, o)
	if err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	if _, err := m.Mount(target); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := snapshot.Unmount(target); err != nil {
			t.Error(err)
		}
	})
	return target
}

// merge compares the mount with the same layers applied in place.
func merge(t *testing.T, d snapshot.Driver) {
	layers := Layers()
	want := t.TempDir()
	for i, l := range layers {
		// In place, a hard link needs no copy and a parent keeps what it is.
		_, err := layer.Apply(context.Background(), bytes.NewReader(layertest.Archive(t, l...)), want, layer.ApplyOptions{Format: layer.InPlace})
		if err != nil {
			t.Fatalf("layer %d: %v", i, err)
		}
	}
	got := Mount(t, d, layertest.Chain(t, layers...), snapshot.Options{})
	layertest.Equal(t, layertest.Tree(t, got), layertest.Tree(t, want))
}

func write(t *testing.T, d snapshot.Driver) {
	lowers := layertest.Chain(t, Layers()...)
	var before []string
	for _, l := range lowers {
		before = append(before, layertest.Tree(t, l)...)
	}
	for _, o := range []snapshot.Options{{}, {Volatile: true}} {
		root := Mount(t, d, lowers, o)
		for _, err := range []error{
			os.WriteFile(filepath.Join(root, "new"), []byte("x"), 0o644), os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("three"), 0o644),
			os.RemoveAll(filepath.Join(root, "opt")), os.Remove(filepath.Join(root, "kept")), os.Chmod(root, 0o700),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if b, err := os.ReadFile(filepath.Join(root, "etc/passwd")); string(b) != "three" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	var after []string
	for _, l := range lowers {
		after = append(after, layertest.Tree(t, l)...)
	}
	if !slices.Equal(before, after) {
		t.Error("the layers were written to")
	}
}

func readOnly(t *testing.T, d snapshot.Driver) {
	lowers := layertest.Chain(t, Layers()...)
	for _, l := range [][]string{lowers, lowers[2:]} {
		root := Mount(t, d, l, snapshot.Options{ReadOnly: true})
		if err := os.WriteFile(filepath.Join(root, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Fatalf("got %v", err)
		}
		if _, err := os.Stat(filepath.Join(root, "etc/passwd")); err != nil {
			t.Fatal(err)
		}
	}
}

func noLayer(t *testing.T, d snapshot.Driver) {
	root := Mount(t, d, nil, snapshot.Options{})
	if err := os.WriteFile(filepath.Join(root, "new"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func opaqueRoot(t *testing.T, d snapshot.Driver) {
	file := layertest.File
	root := Mount(t, d, layertest.Chain(t, entries{file("old", "x")}, entries{file("new", "x"), file(".wh..wh..opq", "")}, entries{file("top", "x")}), snapshot.Options{})
	names, err := os.ReadDir(root)
	if err != nil || len(names) != 2 || names[0].Name() != "new" || names[1].Name() != "top" {
		t.Fatalf("%v, %v", names, err)
	}
}

func oddNames(t *testing.T, d snapshot.Driver) {
	var lowers []string
	for i, name := range []string{"a:b", "c,d", `e\f`, "g\nh", "\xff", " i ", "lowerdir=j"} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Rename(layertest.Apply(t, layer.ApplyOptions{}, layertest.File(fmt.Sprint(i), "x")), dir); err != nil {
			t.Fatal(err)
		}
		lowers = append(lowers, dir)
	}
	names, err := os.ReadDir(Mount(t, d, lowers, snapshot.Options{}))
	if err != nil || len(names) != len(lowers) {
		t.Fatalf("%v, %v", names, err)
	}
}

// Many is a chain of n layers: each has a file of its own, and all have one.
func Many(t testing.TB, n int) []string {
	layers := make([]entries, n)
	for i := range layers {
		layers[i] = entries{layertest.File("all", fmt.Sprint(i)), layertest.File(fmt.Sprintf("f%03d", i), "x")}
	}
	return layertest.Chain(t, layers...)
}

// CheckMany checks the merged view of such a chain.
func CheckMany(t testing.TB, root string, n int) {
	t.Helper()
	names, err := os.ReadDir(root)
	if err != nil || len(names) != n+1 {
		t.Fatalf("%d names, %v", len(names), err)
	}
	if b, err := os.ReadFile(filepath.Join(root, "all")); string(b) != fmt.Sprint(n-1) {
		t.Fatalf("%q, %v", b, err)
	}
}

func manyLayers(t *testing.T, d snapshot.Driver) {
	CheckMany(t, Mount(t, d, Many(t, 70), snapshot.Options{}), 70)
}

func failure(t *testing.T, d snapshot.Driver) {
	dir := t.TempDir()
	_, err := d.Prepare(context.Background(), dir, []string{"/no/layer"}, snapshot.Options{})
	if want := `snapshot: layer "/no/layer": no such file or directory`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}
