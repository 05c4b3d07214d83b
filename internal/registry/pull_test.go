package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"

	"vitro/internal/image"
	"vitro/internal/registry/regtest"
	"vitro/internal/store"
)

func open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, s) })
	return s
}

func check(t *testing.T, s *store.Store) {
	t.Helper()
	problems, err := s.Check()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		t.Error("check:", p)
	}
}

// empty fails unless nothing but the layout is left.
func empty(t *testing.T, s *store.Store) {
	t.Helper()
	u, err := s.Usage()
	if err != nil || u.Blobs+u.Layers+u.Staging+u.Unknown != 0 {
		t.Errorf("something is left behind: %+v %v", u, err)
	}
}

func parse(t *testing.T, s string) image.Reference {
	t.Helper()
	r, err := image.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func noise(seed uint64, n int) string {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return string(b)
}

var fast = Options{Backoff: time.Millisecond}

func pull(t *testing.T, s *store.Store, ref string, o Options) Result {
	t.Helper()
	res, err := Pull(t.Context(), s, parse(t, ref), o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func layers(seed uint64) []regtest.Layer {
	return []regtest.Layer{
		{Files: map[string]string{"etc/": "", "etc/os-release": "ID=test\n", "big": noise(seed, 300_000)}},
		{Files: map[string]string{"a": "zstd layer", "big2": noise(seed+1, 200_000)}, Compression: "zstd"},
		{Files: map[string]string{}}, // the same blob three times
		{Files: map[string]string{"etc/plain": "plain"}, Compression: "none"},
		{Files: map[string]string{}},
		{Files: map[string]string{}},
	}
}

func TestPull(t *testing.T) {
	for _, docker := range []bool{false, true} {
		t.Run(fmt.Sprintf("docker=%v", docker), func(t *testing.T) {
			srv, s := regtest.New(t), open(t)
			d, m := srv.Push("app", "1", regtest.Image{Layers: layers(1), Docker: docker})
			res := pull(t, s, srv.Ref("app:1"), fast)
			if res.Digest != d.Digest || res.Image.ID != m.Config.Digest || res.UpToDate || len(res.Image.RepoTags) != 1 {
				t.Errorf("%+v", res)
			}
			dirs := s.Layers(res.Image)
			b, err := os.ReadFile(filepath.Join(dirs[len(dirs)-1], "etc/os-release"))
			if err != nil || string(b) != "ID=test\n" {
				t.Errorf("%q %v", b, err)
			}
			if n := srv.Gets(m.Layers[2].Digest); n != 1 {
				t.Errorf("the empty layer was fetched %d times", n)
			}
			if res = pull(t, s, srv.Ref("app:1"), fast); !res.UpToDate || srv.Gets(m.Layers[0].Digest) != 1 || srv.Gets(m.Config.Digest) != 1 {
				t.Errorf("second pull: %+v", res)
			}
			if _, err := s.Resolve(srv.Ref("app@") + d.Digest.String()); err != nil {
				t.Error(err)
			}
			gone, err := s.Remove(srv.Ref("app:1"), store.RemoveOptions{})
			if err != nil || len(gone) != 2+1+6 {
				t.Errorf("%v %v", gone, err)
			}
			empty(t, s)
		})
	}
}

func TestPullIndexChoosesPlatform(t *testing.T) {
	srv, s := regtest.New(t), open(t)
	build := func(arch string) v1.Descriptor {
		d, _ := srv.Push("app", "", regtest.Image{
			Layers:   []regtest.Layer{{Files: map[string]string{"arch": arch}}},
			Platform: v1.Platform{OS: "linux", Architecture: arch},
		})
		return d
	}
	host := image.HostPlatform().Architecture
	ix := srv.PushIndex("app", "latest", build("s390x"), build(host), build("riscv64"))
	res := pull(t, s, srv.Ref("app"), fast)
	if res.Image.Config.Architecture != host || res.Digest != ix.Digest {
		t.Errorf("%+v", res)
	}
	p := v1.Platform{OS: "linux", Architecture: "s390x"}
	if res = pull(t, s, srv.Ref("app@")+ix.Digest.String(), Options{Platform: &p}); res.Image.Config.Architecture != "s390x" {
		t.Errorf("%+v", res)
	}
	p.Architecture = "mips"
	_, err := Pull(t.Context(), s, parse(t, srv.Ref("app")), Options{Platform: &p})
	want := fmt.Sprintf("pull %s: registry %s: no matching manifest for linux/mips in the manifest list entries (there: linux/s390x, linux/%s, linux/riscv64)",
		srv.Ref("app:latest"), srv.Listener.Addr(), host)
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

func TestPullHardlinkIntoLowerLayer(t *testing.T) {
	srv, s := regtest.New(t), open(t)
	_, m := srv.Push("app", "1", regtest.Image{Layers: []regtest.Layer{
		{Files: map[string]string{"bin/": "", "bin/a": noise(9, 500_000)}},
		{Files: map[string]string{"bin/": "", "bin/b": "hardlink:bin/a"}},
	}})
	srv.Fault(m.Layers[0].Digest, regtest.Faults{Delay: 2 * time.Millisecond}) // the upper one comes first
	res := pull(t, s, srv.Ref("app:1"), fast)
	if b, err := os.ReadFile(s.Layers(res.Image)[0] + "/bin/b"); err != nil || len(b) != 500_000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestPullFaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults regtest.Faults
		err    string // empty: the pull succeeds
	}{
		{"resume", regtest.Faults{Truncate: 3}, ""},
		{"resume without range", regtest.Faults{Truncate: 2, NoRange: true}, ""},
		{"5xx", regtest.Faults{Errors: 2}, ""},
		{"breaks for ever", regtest.Faults{Truncate: 99}, "layer DIGEST: broken off at byte "},
		{"corrupt", regtest.Faults{Corrupt: true}, "layer DIGEST: digest mismatch: content has sha256:"},
		{"missing", regtest.Faults{Missing: true}, "layer DIGEST: DIGEST: not found"},
		{"longer", regtest.Faults{Extra: true}, "layer DIGEST: size: more than the "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv, s := regtest.New(t), open(t)
			_, m := srv.Push("app", "1", regtest.Image{Layers: layers(7)})
			d := m.Layers[1].Digest
			srv.Fault(d, c.faults)
			_, err := Pull(t.Context(), s, parse(t, srv.Ref("app:1")), fast)
			if c.err == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			want := fmt.Sprintf("pull %s: registry %s: ", srv.Ref("app:1"), srv.Listener.Addr()) + strings.ReplaceAll(c.err, "DIGEST", d.String())
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%v\nwant %s", err, want)
			}
			empty(t, s)
			srv.Fault(d, regtest.Faults{})
			pull(t, s, srv.Ref("app:1"), fast)
		})
	}
}

func TestPullManifestErrors(t *testing.T) {
	srv, s := regtest.New(t), open(t)
	d, m := srv.Push("app", "1", regtest.Image{Layers: layers(3)})
	pre := func(ref string) string {
		return fmt.Sprintf("pull %s: registry %s: ", srv.Ref(ref), srv.Listener.Addr())
	}
	fails := func(ref, want string) {
		t.Helper()
		_, err := Pull(t.Context(), s, parse(t, srv.Ref(ref)), fast)
		if err == nil || err.Error() != pre(ref)+want {
			t.Errorf("%v\nwant %s", err, pre(ref)+want)
		}
		empty(t, s)
	}
	fails("app:nope", fmt.Sprintf("manifest for %s not found", srv.Ref("app:nope")))
	wrong := m
	wrong.Layers = m.Layers[:2]
	srv.Document("app", "pair", wrong.MediaType, wrong)
	fails("app:pair", "config: rootfs.diff_ids: 6 entries, but the manifest has 2 layers")
	wrong.Layers = append([]v1.Descriptor{}, m.Layers...)
	wrong.Layers[0], wrong.Layers[1] = wrong.Layers[1], wrong.Layers[0]
	srv.Document("app", "swapped", wrong.MediaType, wrong)
	_, err := Pull(t.Context(), s, parse(t, srv.Ref("app:swapped")), fast)
	if err == nil || !strings.Contains(err.Error(), "diff ID mismatch: unpacked content has sha256:") {
		t.Error(err)
	}
	empty(t, s)
	srv.Fault(d.Digest, regtest.Faults{Corrupt: true})
	if _, err = Pull(t.Context(), s, parse(t, srv.Ref("app@")+d.Digest.String()), fast); err == nil {
		t.Error("a corrupt manifest was accepted")
	}
	empty(t, s)
}

func TestPullAuth(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		srv, s := regtest.New(t), open(t)
		srv.User, srv.Password, srv.Bearer = "u", "p", bearer
		srv.Push("app", "1", regtest.Image{Layers: layers(1)})
		dir := t.TempDir()
		t.Setenv("DOCKER_CONFIG", dir)
		if _, err := Pull(t.Context(), s, parse(t, srv.Ref("app:1")), fast); err == nil {
			t.Error("pulled without a password")
		}
		empty(t, s)
		config := fmt.Sprintf(`{"auths":{%q:{"auth":"dTpw"}}}`, srv.Listener.Addr()) // u:p
		if err := os.WriteFile(dir+"/config.json", []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		pull(t, s, srv.Ref("app:1"), fast)
		o := fast
		o.Credential = auth.StaticCredential(srv.Listener.Addr().String(), auth.Credential{Username: "u", Password: "x"})
		if _, err := Pull(t.Context(), s, parse(t, srv.Ref("app:1")), o); err == nil {
			t.Error("pulled with a wrong password")
		}
	}
}

func TestPullTLSOnLoopback(t *testing.T) {
	srv, s := regtest.NewTLS(t), open(t)
	srv.Push("app", "1", regtest.Image{Layers: layers(1)})
	pull(t, s, srv.Ref("app:1"), fast)
}

func TestPullCancelLeavesNothing(t *testing.T) {
	srv, s := regtest.New(t), open(t)
	_, m := srv.Push("app", "1", regtest.Image{Layers: layers(5)})
	srv.Fault(m.Layers[1].Digest, regtest.Faults{Delay: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	o := fast
	o.Events = func(e store.Event) {
		if e.State == store.PullComplete {
			cancel()
		}
	}
	_, err := Pull(ctx, s, parse(t, srv.Ref("app:1")), o)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	empty(t, s)
}

func TestConcurrentPulls(t *testing.T) {
	srv, s := regtest.New(t), open(t)
	base := layers(11)
	for i := range 4 {
		l := append(append([]regtest.Layer{}, base...), regtest.Layer{Files: map[string]string{"n": fmt.Sprint(i)}})
		srv.Push("app", fmt.Sprint(i), regtest.Image{Layers: l})
	}
	_, m := srv.Push("app", "base", regtest.Image{Layers: base})
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if _, err := Pull(t.Context(), s, parse(t, srv.Ref(fmt.Sprint("app:", i%4))), fast); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			if _, err := s.GC(); err != nil {
				t.Error(err)
			}
			if _, err := s.Check(); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if n := srv.Gets(m.Layers[0].Digest); n != 1 {
		t.Errorf("the shared layer was fetched %d times", n)
	}
	if images, err := s.Images(); err != nil || len(images) != 4 {
		t.Errorf("%d images, %v", len(images), err)
	}
}

// TestKill kills pulling processes at random points: the store must stay usable, and the next pull clears it up.
func TestKill(t *testing.T) {
	if root := os.Getenv("REGISTRY_TEST_ROOT"); root != "" {
		s, err := store.Open(root)
		if err == nil {
			_, err = Pull(context.Background(), s, parse(t, os.Getenv("REGISTRY_TEST_REF")), Options{})
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	srv, s := regtest.New(t), open(t)
	_, m := srv.Push("app", "1", regtest.Image{Layers: layers(21)})
	for _, l := range m.Layers[:2] {
		srv.Fault(l.Digest, regtest.Faults{Delay: 3 * time.Millisecond})
	}
	ref := srv.Ref("app:1")
	left := 0
	for i := range 15 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "REGISTRY_TEST_ROOT="+s.Root(), "REGISTRY_TEST_REF="+ref)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(10+rand.IntN(60)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		problems, err := s.Check()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			if left++; !strings.Contains(p.Text, "left by a process that is gone") && !strings.Contains(p.Text, "no image needs it") {
				t.Error("after kill: ", p)
			}
		}
		if i%3 == 2 {
			pull(t, s, ref, fast)
			check(t, s)
			if _, err := s.Remove(ref, store.RemoveOptions{}); err != nil {
				t.Error(err)
			}
			empty(t, s)
		}
	}
	t.Logf("%d leftovers were found and cleared", left)
}

func TestProgress(t *testing.T) {
	srv, s := regtest.New(t), open(t)
	_, m := srv.Push("app", "1", regtest.Image{Layers: layers(31)[:2]})
	var plain, tty bytes.Buffer
	l, b := NewLines(&plain), NewBars(&tty, func() (int, int) { return 80, 24 })
	o := fast
	o.Parallel = 1
	o.Events = func(e store.Event) { l.Event(e); b.Event(e) }
	pull(t, s, srv.Ref("app:1"), o)
	l.Close()
	b.Close()
	x, y := m.Layers[0].Digest.Encoded()[:12], m.Layers[1].Digest.Encoded()[:12]
	want := fmt.Sprintf("%[1]s: Pulling fs layer\n%[2]s: Pulling fs layer\n%[1]s: Download complete\n%[1]s: Pull complete\n%[2]s: Download complete\n%[2]s: Pull complete\n", x, y)
	if plain.String() != want {
		t.Errorf("got\n%swant\n%s", plain.String(), want)
	}
	if !strings.HasSuffix(tty.String(), fmt.Sprintf("\x1b[2A\r\x1b[K%s: Pull complete\n\r\x1b[K%s: Pull complete\n", x, y)) {
		t.Errorf("%q", tty.String())
	}
}

func TestBarLine(t *testing.T) {
	e := store.Event{Digest: "sha256:0123456789abcdef", State: store.Downloading, Current: 500_000, Total: 1_000_000}
	for cols, want := range map[int]string{
		120: "0123456789ab: Downloading [=========================>                        ] 500kB/1MB",
		50:  "0123456789ab: Downloading [=====>    ] 500kB/1MB",
		20:  "0123456789ab: Downloading 500kB/1MB",
	} {
		if got := barLine(e, cols); got != want {
			t.Errorf("%d columns:\n got %s\nwant %s", cols, got, want)
		}
	}
}
