package net

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// debian writes an image of what dpkg has installed of some packages and all that they depend on. Their maintainer scripts
// did not run there, so that users and the links of a merged /usr are made here.
func debian(file, name string, packages ...string) error {
	root, err := os.MkdirTemp("", "debian")
	if err != nil {
		return err
	}
	defer os.RemoveAll(root)
	script := `set -eu; cd "$0"
		apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$@" |
			grep '^[a-z]' | sort -u | xargs dpkg-query -L 2>/dev/null |
			sed -En 's,^/(bin|sbin|lib|lib32|lib64|libx32)/,/usr/\1/,; \,^/usr/share/(doc|man|locale)/,d; s,^/(.),\1,p' | sort -u >list
		tar -C / --ignore-failed-read --no-recursion -cf - -T list 2>/dev/null | tar -xf -
		for d in bin sbin lib lib64; do [ -e $d ] || ln -s usr/$d $d; done
		printf 'root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\npostgres:x:70:70::/tmp:/bin/sh\n' >etc/passwd
		printf 'root:x:0:\nwww-data:x:33:\npostgres:x:70:\n' >etc/group
		rm -rf etc/resolv.conf list
		install -d -m 1777 tmp run/postgresql`
	if b, err := exec.Command("sh", append([]string{"-c", script, root}, packages...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("image of %s: %w: %s", strings.Join(packages, ", "), err, b)
	}
	return archiveOf(file, name, root)
}

// archiveOf writes a docker-archive of one layer.
func archiveOf(file, name, root string) error {
	layer, err := exec.Command("tar", "-C", root, "--numeric-owner", "-cf", "-", ".").Output()
	if err != nil {
		return fmt.Errorf("tar %s: %w", root, err)
	}
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2026-01-02T03:04:05Z",
		"config": map[string]any{"Env": []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	for _, e := range []struct {
		name string
		b    []byte
	}{{"config.json", config}, {"layer.tar", layer}, {"manifest.json", []byte(`[{"Config":"config.json","RepoTags":["` + name + `"],"Layers":["layer.tar"]}]`)}} {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Name: e.name, Size: int64(len(e.b)), Mode: 0o644}))
		_, werr := w.Write(e.b)
		err = errors.Join(err, werr)
	}
	return errors.Join(err, w.Close(), f.Close())
}
