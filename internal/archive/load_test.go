package archive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"vitro/internal/registry/regtest"
	"vitro/internal/store"
)

func openStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		problems, err := s.Check()
		if err != nil || len(problems) > 0 {
			t.Error("check:", problems, err)
		}
	})
	return s
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func sample() regtest.Image {
	return regtest.Image{Layers: []regtest.Layer{
		{Files: map[string]string{"etc/": "", "etc/os-release": "ID=archive\n"}},
		{Files: map[string]string{}},
		{Files: map[string]string{"b": strings.Repeat("x", 70_000)}},
		{Files: map[string]string{}},
	}}
}

func TestLoadForeignArchives(t *testing.T) {
	srv := regtest.New(t)
	_, m := srv.Push("app", "1", sample())
	dir := t.TempDir()
	src := "docker://" + srv.Ref("app:1")
	run(t, "skopeo", "copy", "-q", "--src-tls-verify=false", src, "docker-archive:"+dir+"/skopeo-docker.tar:example.org/app:d")
	run(t, "skopeo", "copy", "-q", "--src-tls-verify=false", src, "oci-archive:"+dir+"/skopeo-oci.tar:example.org/app:o")
	run(t, "skopeo", "copy", "-q", "--src-tls-verify=false", src, "oci-archive:"+dir+"/skopeo-bare.tar:latest")
	podman := []string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}
	run(t, "podman", append(podman, "pull", "-q", "--tls-verify=false", srv.Ref("app:1"))...)
	run(t, "podman", append(podman, "tag", srv.Ref("app:1"), "example.org/app:p")...)
	run(t, "podman", append(podman, "save", "-q", "-o", dir+"/podman-docker.tar", "example.org/app:p")...)
	run(t, "podman", append(podman, "save", "-q", "--format", "oci-archive", "-o", dir+"/podman-oci.tar", "example.org/app:p")...)
	for file, want := range map[string]string{
		"skopeo-docker.tar": "Loaded image: example.org/app:d",
		"skopeo-oci.tar":    "Loaded image: example.org/app:o",
		"skopeo-bare.tar":   "Loaded image ID: " + m.Config.Digest.String(),
		"podman-docker.tar": "Loaded image: example.org/app:p",
		"podman-oci.tar":    "Loaded image: example.org/app:p",
	} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		for how, r := range map[string]io.Reader{"file": nil, "pipe": bytes.NewReader(b), "gzip": gz(b), "zstd": zst(b)} {
			s := openStore(t)
			if r == nil {
				f, err := os.Open(filepath.Join(dir, file))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				r = f
			}
			loaded, err := Load(t.Context(), s, r, Options{})
			if err != nil || len(loaded) != 1 || loaded[0].String() != want {
				t.Errorf("%s as %s: %v %v", file, how, loaded, err)
				continue
			}
			img, err := s.Resolve(loaded[0].ID.Encoded()[:12])
			if err != nil {
				t.Fatal(err)
			}
			dirs := s.Layers(img)
			if got, err := os.ReadFile(dirs[len(dirs)-1] + "/etc/os-release"); err != nil || string(got) != "ID=archive\n" {
				t.Errorf("%s as %s: %q %v", file, how, got, err)
			}
		}
	}
}

func gz(b []byte) io.Reader {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(b)
	w.Close()
	return &buf
}

func zst(b []byte) io.Reader {
	var buf bytes.Buffer
	w, _ := zstd.NewWriter(&buf)
	_, _ = w.Write(b)
	w.Close()
	return &buf
}

// TestLoadDocker25 loads both halves of what Docker 25 writes: an OCI layout with manifest.json, and older links.
func TestLoadDocker25(t *testing.T) {
	srv := regtest.New(t)
	_, m := srv.Push("app", "1", sample())
	dir := t.TempDir()
	run(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+srv.Ref("app:1"), "oci:"+dir)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal([]saved{{Config: blobName(m.Config.Digest), RepoTags: []string{"app:a", "app:b"}, Layers: make([]string, 4)}})
	_ = w.WriteHeader(&tar.Header{Name: "manifest.json", Mode: 0o644, Size: int64(len(b))})
	_, _ = w.Write(b)
	w.Close()
	s := openStore(t)
	loaded, err := Load(t.Context(), s, &buf, Options{})
	if err != nil || len(loaded) != 2 || loaded[0].Name != "app:a" || loaded[1].Name != "app:b" {
		t.Errorf("%v %v", loaded, err)
	}
}

// pack writes a tar of headers, contents taken from Linkname for regular files.
func pack(entries ...tar.Header) io.Reader {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range entries {
		body := ""
		if h.Typeflag == 0 {
			body, h.Linkname, h.Size = h.Linkname, "", int64(len(h.Linkname))
		}
		_ = w.WriteHeader(&h)
		_, _ = io.WriteString(w, body)
	}
	w.Close()
	return &buf
}

func TestLoadBad(t *testing.T) {
	const list = `[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l"]}]`
	config := tar.Header{Name: "c.json", Linkname: `{"rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("0", 64) + `"]}}`}
	for want, r := range map[string]io.Reader{
		"load: not an image archive: neither manifest.json nor index.json with oci-layout is in it": pack(),
		`load: manifest.json[0].Config: "c.json" is not in the archive`:                             pack(tar.Header{Name: "manifest.json", Linkname: list}),
		`load: manifest.json[0].Layers[0]: "l" is not in the archive`:                               pack(tar.Header{Name: "manifest.json", Linkname: list}, config),
		`load: manifest.json[0].Layers[0]: "l": too many links`: pack(tar.Header{Name: "manifest.json", Linkname: list}, config,
			tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "m"}, tar.Header{Name: "m", Typeflag: tar.TypeSymlink, Linkname: "l"}),
		`load: manifest.json[0].Layers[0]: "/etc/passwd" is not in the archive`: pack(
			tar.Header{Name: "manifest.json", Linkname: `[{"Config":"c.json","Layers":["/etc/passwd"]}]`}, config),
		`load: manifest.json[0]: layer sha256:` + strings.Repeat("0", 64) + ": digest mismatch: content has sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881": pack(
			tar.Header{Name: "manifest.json", Linkname: list}, config, tar.Header{Name: "l", Linkname: "x"}),
		"load: archive: archive/tar: invalid tar header": strings.NewReader(strings.Repeat("x", 2000)),
	} {
		s := openStore(t)
		if _, err := Load(t.Context(), s, r, Options{}); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if u, err := s.Usage(); err != nil || u.Blobs+u.Layers+u.Staging+u.Unknown != 0 {
			t.Errorf("%s: left behind: %+v %v", want, u, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	b, _ := io.ReadAll(pack(tar.Header{Name: "manifest.json", Linkname: `[{"Config":"c.json","Layers":["l"]}]`}, tar.Header{Name: "l", Linkname: "x"}))
	f.Add(b)
	s := openStore(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = Load(t.Context(), s, bytes.NewReader(b), Options{})
	})
}
