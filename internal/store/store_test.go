package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"vitro/internal/image"
	"vitro/internal/registry"
	"vitro/internal/registry/regtest"
	"vitro/internal/store"
)

func open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wantProblems(t, s) })
	return s
}

func wantProblems(t *testing.T, s *store.Store, want ...string) {
	t.Helper()
	problems, err := s.Check()
	if err != nil {
		t.Error(err)
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("Check:\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}

func ref(t *testing.T, s string) image.Reference {
	t.Helper()
	r, err := image.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pull makes an image of one file in two layers and pulls it as host:port/name:tag.
func pull(t *testing.T, s *store.Store, srv *regtest.Server, name, content string) store.Image {
	t.Helper()
	repo, tag, _ := strings.Cut(name, ":")
	srv.Push(repo, tag, regtest.Image{Layers: []regtest.Layer{
		{Files: map[string]string{"base": "shared"}}, {Files: map[string]string{"f": content}},
	}})
	res, err := registry.Pull(t.Context(), s, ref(t, srv.Ref(name)), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return res.Image
}

func lines(removed []store.Removed) (out []string) {
	for _, r := range removed {
		if r.Untagged != "" {
			out = append(out, "Untagged: "+r.Untagged)
		} else {
			out = append(out, "Deleted: "+r.Deleted.String())
		}
	}
	return out
}

func TestTagsAndRemove(t *testing.T) {
	s, srv := open(t), regtest.New(t)
	img := pull(t, s, srv, "a:1", "one")
	if err := s.Tag(srv.Ref("a:1"), ref(t, "mine")); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(img.ShortID(), ref(t, "mine:2")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mine", "mine:latest", "docker.io/library/mine:2", srv.Ref("a:1"), img.ID.String(), img.ShortID()[:5], img.RepoDigests[0]} {
		if got, err := s.Resolve(name); err != nil || got.ID != img.ID {
			t.Errorf("%s: %v %v", name, got.ID, err)
		}
	}
	if _, err := s.Resolve("nope"); !errors.Is(err, store.ErrNotFound) || err.Error() != "No such image: nope:latest" {
		t.Error(err)
	}
	_, err := s.Remove(img.ShortID(), store.RemoveOptions{})
	if want := fmt.Sprintf("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", img.ShortID()); !errors.Is(err, store.ErrConflict) || err.Error() != want {
		t.Errorf("%v", err)
	}
	for _, n := range []string{"mine", "mine:2"} {
		gone, err := s.Remove(n, store.RemoveOptions{})
		if want := []string{"Untagged: " + ref(t, n).Familiar()}; err != nil || !slices.Equal(lines(gone), want) {
			t.Errorf("%v %v", lines(gone), err)
		}
	}
	other := pull(t, s, srv, "b:1", "two") // keeps the base layer
	gone, err := s.Remove(srv.Ref("a:1"), store.RemoveOptions{})
	want := []string{"Untagged: " + srv.Ref("a:1"), "Untagged: " + img.RepoDigests[0], "Deleted: " + img.ID.String(), "Deleted: " + img.ChainIDs()[1].String()}
	if err != nil || !slices.Equal(lines(gone), want) {
		t.Errorf("%q %v\nwant %q", lines(gone), err, want)
	}
	if _, err := os.Stat(s.Layers(other)[1] + "/base"); err != nil {
		t.Error(err)
	}
}

func TestRemoveInUse(t *testing.T) {
	s, srv := open(t), regtest.New(t)
	img := pull(t, s, srv, "a:1", "one")
	name := srv.Ref("a:1")
	users := func(running bool) func(digest.Digest) []store.User {
		return func(id digest.Digest) []store.User {
			if id != img.ID {
				return nil
			}
			return []store.User{{Name: "web", Running: running}}
		}
	}
	for _, c := range []struct {
		ref            string
		force, running bool
		want           string
	}{
		{name, false, false, fmt.Sprintf("conflict: unable to remove repository reference %q (must force) - container web is using its referenced image %s", name, img.ShortID())},
		{img.ShortID(), false, false, fmt.Sprintf("conflict: unable to delete %s (must be forced) - image is being used by stopped container web", img.ShortID())},
		{img.ShortID(), true, true, fmt.Sprintf("conflict: unable to delete %s (cannot be forced) - image is being used by running container web", img.ShortID())},
	} {
		if _, err := s.Remove(c.ref, store.RemoveOptions{Force: c.force, InUse: users(c.running)}); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
	gone, err := s.Remove(name, store.RemoveOptions{Force: true, InUse: users(false)})
	if err != nil || len(gone) != 2 {
		t.Errorf("%v %v", lines(gone), err)
	}
	left, err := s.Resolve(img.ShortID())
	if err != nil || len(left.RepoTags)+len(left.RepoDigests) != 0 {
		t.Errorf("%+v %v", left, err)
	}
}

func TestNameMoves(t *testing.T) {
	s, srv := open(t), regtest.New(t)
	first := pull(t, s, srv, "a:1", "one")
	second := pull(t, s, srv, "a:1", "two")
	images, err := s.Images()
	if err != nil || len(images) != 2 {
		t.Fatal(images, err)
	}
	old, err := s.Resolve(first.ShortID())
	if err != nil || len(old.RepoTags) != 0 || len(old.RepoDigests) != 1 {
		t.Errorf("%+v %v", old, err)
	}
	if err := s.Untag(ref(t, srv.Ref("a:1"))); err != nil {
		t.Error(err)
	}
	for _, id := range []string{first.ShortID(), second.ShortID()} {
		if _, err := s.Remove(id, store.RemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
	if u, err := s.Usage(); err != nil || u.Blobs+u.Layers+u.Staging != 0 {
		t.Errorf("%+v %v", u, err)
	}
}

func TestCheckFindsDamage(t *testing.T) {
	s, srv := open(t), regtest.New(t)
	img := pull(t, s, srv, "a:1", "one")
	root := s.Root()
	top := img.ChainIDs()[1].Encoded()
	blob := img.Layers[0].Digest.Encoded()
	zero := strings.Repeat("0", 64)
	write := func(p, content string) string {
		t.Helper()
		p = filepath.Join(root, p)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	good, err := os.ReadFile(s.BlobPath(img.Layers[0].Digest))
	if err != nil {
		t.Fatal(err)
	}
	write("oci/blobs/sha256/"+blob, "damaged")
	write("oci/blobs/sha256/"+zero, "x")
	write("layers/"+top+"/fs/new", "1234")
	write("staging/dead/part", "12345")
	write("staging/dead/pins", "blob "+zero+"\n")
	write("junk", "123")
	wantProblems(t, s,
		"oci/blobs/sha256/"+blob+": content has digest "+digest.FromString("damaged").String(),
		"oci/blobs/sha256/"+zero+": content has digest "+digest.FromString("x").String(),
		"oci/blobs/sha256/"+zero+": no image needs it",
		"layers/"+top+": 7 bytes of files, layer.json says 3",
		"staging/dead: left by a process that is gone",
		"junk: not a part of the store",
	)
	write("oci/blobs/sha256/"+blob, string(good))
	os.Remove(filepath.Join(root, "layers", top, "fs", "new"))
	os.Remove(filepath.Join(root, "junk"))
	if c, err := s.GC(); err != nil || c.Bytes != 1 || len(c.Blobs) != 1 {
		t.Errorf("%+v %v", c, err)
	}
}

func TestUsageCountsEveryByte(t *testing.T) {
	s, srv := open(t), regtest.New(t)
	pull(t, s, srv, "a:1", "one")
	var sum int64
	_ = filepath.WalkDir(s.Root(), func(_ string, e os.DirEntry, err error) error {
		if fi, _ := e.Info(); err == nil && e.Type().IsRegular() {
			sum += fi.Size()
		}
		return err
	})
	if u, err := s.Usage(); err != nil || u.Total() != sum {
		t.Errorf("%+v, the files are %d bytes, %v", u, sum, err)
	}
}

// An image that is removed while it is looked up is found or is not; there is nothing in between.
func TestResolveWhileRemoved(t *testing.T) {
	s, srv := open(t), regtest.New(t)
	pull(t, s, srv, "a:1", "one")
	name, done := srv.Ref("a:1"), make(chan struct{})
	go func() {
		defer close(done)
		for range 30 {
			_, _ = s.Remove(name, store.RemoveOptions{})
			_, _ = registry.Pull(t.Context(), s, ref(t, name), registry.Options{})
		}
	}()
	for {
		if _, err := s.Resolve(name); err != nil && err.Error() != "No such image: "+name {
			t.Error(err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
