package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/opencontainers/go-digest"
)

const (
	pullLayers = 9    // the first one is the root filesystem
	layerFiles = 2600 // in each
)

// writeImage makes a `docker save` archive, which podman, docker, skopeo and vitro all load: the root filesystem, and
// for each further layer layerFiles files of 0 to 4 KiB, half of them random. It is the same at each call.
func writeImage(path, ref, rootfs string, layers int) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	w := tar.NewWriter(f)
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	manifest := entry{Config: "config.json", RepoTags: []string{ref}}
	config := v1.Image{
		Platform: v1.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config:   v1.ImageConfig{Env: []string{"PATH=/bin"}, Cmd: []string{"/bin/sh"}},
		RootFS:   v1.RootFS{Type: "layers"},
	}
	for i := range layers {
		var b strings.Builder
		if i == 0 {
			err = tarFolder(&b, rootfs)
		} else {
			err = tarFiles(&b, i)
		}
		if err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(b.String()))
		name := hex.EncodeToString(sum[:])
		manifest.Layers = append(manifest.Layers, name+"/layer.tar")
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.NewDigestFromEncoded(digest.SHA256, name))
		config.History = append(config.History, v1.History{CreatedBy: "bench"})
		if err := tarFile(w, name+"/layer.tar", 0o644, b.String()); err != nil {
			return err
		}
	}
	for name, v := range map[string]any{manifest.Config: config, "manifest.json": []entry{manifest}} {
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := tarFile(w, name, 0o644, string(text)); err != nil {
			return err
		}
	}
	return w.Close()
}

func tarFile(w *tar.Writer, name string, mode int64, data string) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data))}); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err := io.WriteString(w, data)
	return err
}

func tarFolder(out io.Writer, dir string) error {
	w := tar.NewWriter(out)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return w.Close()
}

// tarFiles spreads its files over 26 folders.
func tarFiles(out io.Writer, layer int) error {
	w := tar.NewWriter(out)
	seed := rand.NewChaCha8([32]byte{byte(layer)})
	buf := make([]byte, 4096)
	for i := range layerFiles {
		name := filepath.Join(fmt.Sprintf("data/layer%d/%c", layer, 'a'+i%26), fmt.Sprintf("file-%04d", i))
		if i < 26 {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: filepath.Dir(name) + "/", Mode: 0o755}); err != nil {
				return err
			}
		}
		size := int(seed.Uint64() % uint64(len(buf)))
		seed.Read(buf[:size/2])
		clear(buf[size/2 : size])
		if err := tarFile(w, name, 0o644, string(buf[:size])); err != nil {
			return err
		}
	}
	return w.Close()
}
