package snapshot_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vitro/internal/layer"
	"vitro/internal/layer/layertest"
	"vitro/internal/snapshot"
)

// diffLayers is a lower tree with what containers change.
func diffLayers(t *testing.T) []string {
	bottom := layertest.Archive(t,
		layertest.Dir("etc"), layertest.File("etc/a", "a"), layertest.File("etc/b", "b"), layertest.File("etc/same", "same"),
		layertest.Dir("gone"), layertest.File("gone/f", "f"), layertest.Dir("opaque"), layertest.File("opaque/old", "o"), layertest.File("opaque/both", "x"),
		layertest.Dir("todir"), layertest.File("todir/f", "f"), layertest.File("tofolder", "f"), layertest.File("linked", "l"),
		layertest.Dir("moved"), layertest.File("moved/f", "m"), layertest.Dir("meta"), layertest.File("meta/f", "m"), layertest.File("cap", "c"))
	top := layertest.Archive(t, layertest.File("etc/top", "t"), layertest.Dir("empty"))
	var out []string
	for _, b := range [][]byte{bottom, top} {
		dir := t.TempDir()
		if _, err := layer.Apply(t.Context(), bytes.NewReader(b), dir, layer.ApplyOptions{Lowers: func(context.Context) ([]string, error) { return out, nil }}); err != nil {
			t.Fatal(err)
		}
		out = append([]string{dir}, out...)
	}
	return out
}

// change is what a container does.
const change = `set -e; cd "$1"
echo more >> etc/a; rm etc/b; touch -r etc/same /dev/null; cat etc/same > /dev/null; touch -c -d "$(stat -c %y etc/same)" etc/same
rm -r gone; rm -r opaque; mkdir opaque; echo n > opaque/new; echo x > opaque/both
rm -r todir; echo f > todir; rm tofolder; mkdir tofolder; echo f > tofolder/f
ln linked second; mkdir -p new/deep; echo n > new/deep/f; ln new/deep/f new/hard; ln -s ../etc new/link; mkfifo new/pipe; mknod new/dev c 7 300
chown 1000:1001 new/deep; chmod 1777 new/deep; chmod u+s new/hard; mv moved renamed 2>/dev/null || true; chmod 700 meta
setfattr -n user.note -v hello new/deep/f; setfattr -n security.capability -v 0sAQAAAgAkAAAAAAAAAAAAAAAAAAA= cap; setfattr -n user.d -v 1 new
touch -d "2001-02-03 04:05:06.123456789" new/deep/f new/deep new; ln -s x$(printf '\303\251') "$(printf 'odd\nname')"; mkdir proc; mkdir -p dev; touch etc/hosts
`

// listing describes a tree completely.
func listing(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	first := map[uint64]string{}
	err := filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if rel == "." || rel == "proc" || rel == "dev" || rel == "etc/hosts" {
			return nil // mountpoints; and the root's time comes with them
		}
		fmt.Fprintf(&b, "%q %o %d:%d %d", rel, st.Mode, st.Uid, st.Gid, st.Rdev)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if first[st.Ino] == "" {
				first[st.Ino] = rel
			}
			fmt.Fprintf(&b, " = %q", first[st.Ino])
		}
		if rel != "etc" { // a mountpoint was made in it
			fmt.Fprintf(&b, " %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			c, err := os.ReadFile(p)
			fmt.Fprintf(&b, " %q %v", c, err)
		}
		if l, err := os.Readlink(p); err == nil {
			fmt.Fprintf(&b, " -> %q", l)
		}
		for _, attr := range []string{"user.note", "user.d", "security.capability"} {
			v := make([]byte, 64)
			if n, err := unix.Lgetxattr(p, attr, v); err == nil {
				fmt.Fprintf(&b, " %s=%x", attr, v[:n])
			}
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestDiff: what a container has changed, written as a layer and put on the same layers, is the same tree again. With the
// upper folder as a guide and without, also where the kernel notes a folder's new place in the upper folder only.
func TestDiff(t *testing.T) {
	needOverlay(t)
	for _, tool := range []string{"setfattr"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs", tool)
		}
	}
	for name, d := range map[string]snapshot.Driver{"overlay": snapshot.OverlayDriver{}, "copy": snapshot.CopyDriver{}, "redirect": nil} {
		t.Run(name, func(t *testing.T) {
			lowers, dir, at := diffLayers(t), t.TempDir(), t.TempDir()
			redirect := d == nil
			if redirect {
				d = snapshot.OverlayDriver{}
			}
			m, err := d.Prepare(t.Context(), dir, lowers, snapshot.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if redirect {
				m.Options = append(m.Options, "redirect_dir=on", "metacopy=on")
			}
			if _, err := m.Mount(at); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("sh", "-c", change, "sh", at).CombinedOutput()
			want := listing(t, at)
			if err := snapshot.Unmount(at); err != nil {
				t.Fatal(err)
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			blob := diffOf(t, dir, lowers, redirect)
			if again := diffOf(t, dir, lowers, redirect); !bytes.Equal(blob, again) {
				t.Error("two diffs of one tree differ")
			}
			upper := t.TempDir()
			if _, err := layer.Apply(t.Context(), bytes.NewReader(blob), upper, layer.ApplyOptions{Lowers: func(context.Context) ([]string, error) { return lowers, nil }}); err != nil {
				t.Fatal(err)
			}
			view := snapshot.Overlay(append([]string{upper}, lowers...), "", "", snapshot.Options{})
			if _, err := view.Mount(at); err != nil {
				t.Fatal(err)
			}
			got := listing(t, at)
			if err := snapshot.Unmount(at); err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func diffOf(t *testing.T, dir string, lowers []string, redirect bool) []byte {
	t.Helper()
	m, err := snapshot.View(dir, lowers)
	if err != nil {
		t.Fatal(err)
	}
	if redirect {
		m.Options = append(m.Options, "redirect_dir=follow", "metacopy=on")
	}
	root, _, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	tree := layer.Tree{Root: root, Lowers: lowers, Mountpoints: []string{"/proc", "/dev", "/etc/hosts"}}
	if _, err := os.Lstat(dir + "/work"); err == nil {
		tree.Upper = dir + "/upper"
	}
	list, err := layer.Changes(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range list {
		names = append(names, fmt.Sprintf("%c %s", c.Kind, c.Path))
	}
	const want = "C cap,C etc,C etc/a,D etc/b,D gone,C linked,C meta,D moved,A new,A new/deep,A new/deep/f,A new/dev,A new/hard,A new/link,A new/pipe," +
		"A odd\nname,C opaque,C opaque/both,A opaque/new,D opaque/old,A renamed,A renamed/f,A second,C todir,D todir/f,C tofolder,A tofolder/f"
	if got := strings.Join(names, ","); got != strings.Replace(want, ",D todir/f", "", 1) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	var b bytes.Buffer
	changed, err := layer.WriteDiff(t.Context(), &b, tree, layer.PackOptions{})
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	return b.Bytes()
}

// TestNoDiff: a tree in which nothing has changed is an archive without entries.
func TestNoDiff(t *testing.T) {
	needOverlay(t)
	lowers, dir := diffLayers(t), t.TempDir()
	m, err := snapshot.OverlayDriver{}.Prepare(t.Context(), dir, lowers, snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	root, _, err := m.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	// Opened for writing: copied up, and the same.
	fd, err := unix.Openat(int(root.Fd()), "etc/a", unix.O_WRONLY|unix.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	var b bytes.Buffer
	changed, err := layer.WriteDiff(t.Context(), &b, layer.Tree{Root: root, Upper: dir + "/upper", Lowers: lowers}, layer.PackOptions{Epoch: time.Unix(0, 0)})
	if err != nil || changed || !bytes.Equal(b.Bytes(), make([]byte, 1024)) {
		t.Error(changed, err, b.Len())
	}
}
