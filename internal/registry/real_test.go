package registry

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"vitro/internal/registry/regtest"
)

// dockerRegistry starts Debian's docker-registry on a free port of loopback and returns its address.
func dockerRegistry(t testing.TB) string {
	t.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: %q}\n", dir, addr)
	if err := os.WriteFile(dir+"/config.yml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", dir+"/config.yml")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 200 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("docker-registry does not answer")
	return ""
}

func skopeo(t testing.TB, args ...string) {
	t.Helper()
	bin, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("skopeo is not installed")
	}
	if out, err := exec.Command(bin, args...).CombinedOutput(); err != nil {
		t.Fatalf("skopeo %v: %v\n%s", args, err, out)
	}
}

// TestRealRegistry pulls from a real registry what skopeo pushed, and lets skopeo read the store.
func TestRealRegistry(t *testing.T) {
	addr := dockerRegistry(t)
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("busybox is not installed")
	}
	srv, s := regtest.New(t), open(t)
	l := append(layers(41), regtest.Layer{Files: map[string]string{"bin/": "", "bin/busybox": string(busybox)}})
	_, m := srv.Push("bb", "oci", regtest.Image{Layers: l})
	l[1].Compression = "gzip" // skopeo does not put zstd into schema 2
	srv.Push("bb", "v2s2", regtest.Image{Layers: l})
	for _, format := range []string{"oci", "v2s2"} {
		ref := addr + "/bb:" + format
		skopeo(t, "copy", "-q", "--format", format, "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+srv.Ref("bb:"+format), "docker://"+ref)
		res := pull(t, s, ref, fast)
		if format == "oci" && res.Image.ID != m.Config.Digest {
			t.Errorf("ID %s, want %s", res.Image.ID, m.Config.Digest)
		}
		if b, err := os.ReadFile(filepath.Join(s.Layers(res.Image)[0], "bin/busybox")); err != nil || len(b) != len(busybox) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		skopeo(t, "inspect", "oci:"+s.Root()+"/oci:"+ref)
		skopeo(t, "copy", "-q", "oci:"+s.Root()+"/oci:"+ref, "dir:"+t.TempDir())
	}
}
