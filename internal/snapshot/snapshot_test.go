package snapshot_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vitro/internal/layer/layertest"
	"vitro/internal/snapshot"
	"vitro/internal/snapshot/snapshottest"
)

func TestOverlay(t *testing.T) {
	needOverlay(t)
	snapshottest.Run(t, snapshot.OverlayDriver{})
}

func TestCopy(t *testing.T) { snapshottest.Run(t, snapshot.CopyDriver{}) }

func needOverlay(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
	if d, why := snapshot.Choose(t.TempDir()); d.Name() != "overlay" {
		t.Skipf("needs overlayfs: %v", why)
	}
}

func TestOverlayData(t *testing.T) {
	for _, tt := range []struct {
		lowers      []string
		upper, work string
		o           snapshot.Options
		want        snapshot.Mount
	}{
		{[]string{"/b", "/a"}, "/u", "/w", snapshot.Options{}, snapshot.Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir+=/b", "lowerdir+=/a", "upperdir=/u", "workdir=/w", "index=off"}}},
		{[]string{"/a"}, "/u", "/w", snapshot.Options{Volatile: true, UserXattr: true}, snapshot.Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir+=/a", "upperdir=/u", "workdir=/w", "index=off", "volatile", "userxattr"}}},
		{[]string{"/b", "/a"}, "", "", snapshot.Options{}, snapshot.Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir+=/b", "lowerdir+=/a", "ro"}}},
		{[]string{"/a"}, "", "", snapshot.Options{}, snapshot.Mount{Type: "bind", Source: "/a", Options: []string{"ro"}}},
		{nil, "/u", "/w", snapshot.Options{}, snapshot.Mount{Type: "bind", Source: "/u"}},
	} {
		got := snapshot.Overlay(tt.lowers, tt.upper, tt.work, tt.o)
		if got.Type != tt.want.Type || got.Source != tt.want.Source || !slices.Equal(got.Options, tt.want.Options) {
			t.Errorf("got  %+v\nwant %+v", got, tt.want)
		}
	}
}

func TestMountErrors(t *testing.T) {
	needOverlay(t)
	dir := t.TempDir()
	lower := filepath.Join(dir, "lower")
	if err := os.Mkdir(lower, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		m    snapshot.Mount
		want string
	}{
		{snapshot.Mount{Type: "zfs"}, `snapshot: mount type "zfs" is not supported`},
		{snapshot.Mount{Type: "bind", Source: "/no/where"}, `snapshot: open_tree "/no/where": no such file or directory`},
		{snapshot.Overlay([]string{"/no/layer"}, lower, lower, snapshot.Options{}), `snapshot: overlay option lowerdir+=/no/layer: no such file or directory`},
		{snapshot.Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir+=" + lower, "colour=red"}}, `snapshot: overlay option colour=red: overlay: Unknown parameter 'colour': invalid argument`},
		{snapshot.Mount{Type: "overlay", Source: "overlay", Options: []string{"lowerdir+=" + lower, "upperdir=" + lower, "workdir=" + lower}}, `snapshot: overlay: invalid argument`},
	} {
		form, err := tt.m.Mount(dir)
		if form == snapshot.FormString && err != nil && err.Error() == "snapshot: mount overlay: invalid argument" {
			continue // before 6.7 mount(2) says no more
		}
		if err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(lower, link); err != nil {
		t.Fatal(err)
	}
	_, err := snapshot.Mount{Type: "bind", Source: lower}.Mount(link)
	if want := fmt.Sprintf("snapshot: mount at %q: not a directory", link); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := snapshot.Unmount(lower); err != nil {
		t.Errorf("unmount of what is no mount: %v", err)
	}
}

// TestUmoci compares the merged view with what umoci makes of the same image.
func TestUmoci(t *testing.T) {
	needOverlay(t)
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Skip("needs umoci")
	}
	layers := snapshottest.Layers()
	image, bundle := filepath.Join(t.TempDir(), "oci"), filepath.Join(t.TempDir(), "bundle")
	writeImage(t, image, layers)
	if out, err := exec.Command("umoci", "unpack", "--image", image+":t", bundle).CombinedOutput(); err != nil {
		t.Fatalf("umoci: %v\n%s", err, out)
	}
	// umoci leaves the time of the deletion on a folder that a later whiteout of
	// its own layer prunes; here it has the time of its entry.
	pruned := func(line string) bool { return strings.HasPrefix(line, `"be" `) }
	want := slices.DeleteFunc(layertest.Tree(t, filepath.Join(bundle, "rootfs")), pruned)
	for _, d := range []snapshot.Driver{snapshot.OverlayDriver{}, snapshot.CopyDriver{}} {
		got := layertest.Tree(t, snapshottest.Mount(t, d, layertest.Chain(t, layers...), snapshot.Options{}))
		layertest.Equal(t, slices.DeleteFunc(got, pruned), want)
	}
}

// writeImage writes layers, the lowest first, as an OCI image layout, tag t.
func writeImage(t *testing.T, dir string, layers [][]layertest.Entry) {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	type object = map[string]any
	put := func(mediaType string, b []byte) object {
		sum := fmt.Sprintf("%x", sha256.Sum256(b))
		if err := os.WriteFile(filepath.Join(blobs, sum), b, 0o644); err != nil {
			t.Fatal(err)
		}
		return object{"mediaType": mediaType, "digest": "sha256:" + sum, "size": len(b)}
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var descs, diffs []any
	for _, l := range layers {
		d := put("application/vnd.oci.image.layer.v1.tar", layertest.Archive(t, l...))
		descs, diffs = append(descs, d), append(diffs, d["digest"])
	}
	config := put("application/vnd.oci.image.config.v1+json", encode(object{
		"architecture": "amd64", "os": "linux", "config": object{}, "rootfs": object{"type": "layers", "diff_ids": diffs},
	}))
	manifest := put("application/vnd.oci.image.manifest.v1+json", encode(object{"schemaVersion": 2, "config": config, "layers": descs}))
	manifest["annotations"] = object{"org.opencontainers.image.ref.name": "t"}
	for name, v := range map[string]any{"index.json": object{"schemaVersion": 2, "manifests": []any{manifest}}, "oci-layout": object{"imageLayoutVersion": "1.0.0"}} {
		if err := os.WriteFile(filepath.Join(dir, name), encode(v), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCopyCancel(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: owners")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := t.TempDir()
	_, err := snapshot.CopyDriver{}.Prepare(ctx, dir, snapshottest.Many(t, 2), snapshot.Options{})
	if want := "snapshot: copy layers: context canceled"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

// TestCopyHoles: a copy keeps holes.
func TestCopyHoles(t *testing.T) {
	lower, dir := t.TempDir(), t.TempDir()
	f, err := os.Create(filepath.Join(lower, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("data"), 5<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(9 << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := (snapshot.CopyDriver{}).Prepare(context.Background(), dir, []string{lower}, snapshot.Options{}); err != nil {
		t.Fatal(err)
	}
	want, _ := os.ReadFile(f.Name())
	got, err := os.ReadFile(filepath.Join(dir, "rootfs", "f"))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("content differs: %v", err)
	}
	if out, err := exec.Command("du", "-k", filepath.Join(dir, "rootfs", "f")).Output(); err != nil || bytes.Fields(out)[0][0] > '4' || len(bytes.Fields(out)[0]) > 2 {
		t.Errorf("holes are filled: %s %v", out, err)
	}
}
