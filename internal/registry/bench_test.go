package registry

import (
	"fmt"
	"os/exec"
	"testing"

	"vitro/internal/image"
	"vitro/internal/registry/regtest"
	"vitro/internal/store"
)

// BenchmarkPull pulls 8 layers with 24,000 files (96 MB) from docker-registry, and lets podman do the same.
func BenchmarkPull(b *testing.B) {
	addr := dockerRegistry(b)
	srv := regtest.New(b)
	var img regtest.Image
	for l := range 8 {
		files := map[string]string{}
		for i := range 3000 {
			dir := fmt.Sprintf("usr/lib/%d/%d/", l, i/50)
			files[dir] = ""
			files[fmt.Sprint(dir, i)] = noise(uint64(l*3000+i), 1000) + noise(1, 1000)[:500] + fmt.Sprintf("%02500d", i)
		}
		img.Layers = append(img.Layers, regtest.Layer{Files: files})
	}
	srv.Push("big", "1", img)
	ref := addr + "/big:1"
	skopeo(b, "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+srv.Ref("big:1"), "docker://"+ref)
	r, err := image.Parse(ref)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("vitro", func(b *testing.B) {
		for b.Loop() {
			s, err := store.Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			if _, err := Pull(b.Context(), s, r, Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("podman", func(b *testing.B) {
		for b.Loop() {
			dir := b.TempDir()
			cmd := exec.Command("podman", "--root", dir+"/root", "--runroot", dir+"/run", "--storage-driver", "overlay", "pull", "-q", "--tls-verify=false", ref)
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			b.StopTimer()
			_ = exec.Command("umount", dir+"/root/overlay").Run()
			b.StartTimer()
		}
	})
}
