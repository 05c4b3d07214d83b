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
)

// archiveOf writes a docker-archive of one layer: a folder, and for tar any other arguments.
func archiveOf(file, name, root string, args ...string) error {
	argv := append([]string{"-C", root, "--numeric-owner", "-cf", "-"}, args...)
	if len(args) == 0 {
		argv = append(argv, ".")
	}
	cmd := exec.Command("tar", argv...)
	cmd.Stderr = os.Stderr
	layer, err := cmd.Output()
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
