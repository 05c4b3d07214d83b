package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"vitro/internal/image"
)

// Problem is one thing that is wrong with a store.
type Problem struct {
	Path  string // relative to the root
	Text  string
	Bytes int64 // on disk, where something is left over
}

func (p Problem) String() string { return p.Path + ": " + p.Text }

// Usage says where the bytes are: sums of file sizes, hard links counted once.
type Usage struct {
	Blobs, Layers, Staging, Meta int64
	Unknown                      int64 // in files that do not belong to the store
}

// Total is all of it.
func (u Usage) Total() int64 { return u.Blobs + u.Layers + u.Staging + u.Meta + u.Unknown }

// Check reads the whole store, verifies every digest and every layer against its record, and accounts for every byte.
// What running imports hold is no problem; what crashed ones left is. What vanishes while it looks is left out.
func (s *Store) Check() ([]Problem, error) {
	c := checker{s: s}
	err := c.run()
	if err != nil {
		return c.problems, fmt.Errorf("check: %w", err)
	}
	return c.problems, nil
}

// Usage sums up the store without reading contents.
func (s *Store) Usage() (Usage, error) {
	c := checker{s: s, usageOnly: true}
	err := c.run()
	if err != nil {
		return c.usage, fmt.Errorf("usage: %w", err)
	}
	return c.usage, nil
}

type checker struct {
	s         *Store
	usageOnly bool
	keep      map[string]bool
	problems  []Problem
	usage     Usage
}

func (c *checker) add(bytes int64, format string, a ...any) {
	text := fmt.Sprintf(format, a...)
	path, text, _ := strings.Cut(text, ": ")
	c.problems = append(c.problems, Problem{Path: path, Text: text, Bytes: bytes})
}

func (c *checker) run() error {
	var old []stale
	err := c.s.locked(func() (err error) {
		if old, err = c.s.findStale(); err != nil {
			return err
		}
		if c.keep, err = c.s.pinned(old); err != nil {
			return err
		}
		return c.index()
	})
	for _, t := range old {
		n, _ := diskUsage(t.dir)
		c.add(n, "staging/%s: left by a process that is gone", filepath.Base(t.dir))
		t.lock.Close()
	}
	if err != nil {
		return err
	}
	return errors.Join(c.top(), c.oci(), c.blobs(), c.layers())
}

// index checks that each entry's image is complete and marks what it needs.
func (c *checker) index() error {
	entries, err := c.s.readIndex()
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, e := range entries {
		if n := name(e); n != "" && names[n] {
			c.add(0, "oci/index.json: %s is there twice", n)
		}
		names[name(e)] = true
		c.keep["blob "+e.Digest.Encoded()] = true
		img, err := c.s.load(e)
		if err != nil {
			c.add(0, "oci/index.json: %v", err)
			continue
		}
		_ = c.s.mark([]v1.Descriptor{e}, c.keep) // load has just worked
		for i, chain := range img.ChainIDs() {
			for _, p := range []string{c.s.LayerPath(chain), c.s.BlobPath(img.Layers[i].Digest)} {
				if !exists(p) {
					c.add(0, "%s: missing, image %s needs it", c.rel(p), entryName(e))
				}
			}
		}
	}
	return nil
}

func (c *checker) rel(p string) string {
	r, _ := filepath.Rel(c.s.root, p)
	return r
}

// top counts what is beside oci and layers. Folders of other packages (containers, volumes, networks) are not looked at.
func (c *checker) top() error {
	for _, d := range []string{"staging", "locks"} {
		n, err := diskUsage(c.s.path(d))
		if err != nil {
			return err
		}
		c.usage.Staging += n
	}
	return c.list(c.s.root, func(e fs.DirEntry, size int64) {
		switch e.Name() {
		case "oci", "layers", "staging", "locks", "containers", "volumes", "networks", "tmp":
		case "lock":
			c.usage.Meta += size
		default:
			c.unknown(e.Name())
		}
	})
}

// unknown reports a file that is not the store's.
func (c *checker) unknown(rel string) {
	n, _ := diskUsage(c.s.path(rel))
	c.usage.Unknown += n
	c.add(n, "%s: not a part of the store", rel)
}

func (c *checker) oci() error {
	if b, err := os.ReadFile(c.s.path("oci", v1.ImageLayoutFile)); err != nil || !strings.Contains(string(b), v1.ImageLayoutVersion) {
		c.add(0, "oci/%s: missing or not version %s", v1.ImageLayoutFile, v1.ImageLayoutVersion)
	}
	err := c.list(c.s.path("oci"), func(e fs.DirEntry, size int64) {
		switch e.Name() {
		case "blobs":
		case v1.ImageLayoutFile, v1.ImageIndexFile:
			c.usage.Meta += size
		default:
			c.unknown("oci/" + e.Name())
		}
	})
	if err != nil {
		return err
	}
	return c.list(c.s.path("oci", "blobs"), func(e fs.DirEntry, _ int64) {
		if e.Name() != "sha256" {
			c.unknown("oci/blobs/" + e.Name())
		}
	})
}

// list calls f for each entry of dir with its size.
func (c *checker) list(dir string, f func(fs.DirEntry, int64)) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			f(e, fi.Size())
		}
	}
	return nil
}

func (c *checker) blobs() error {
	dir := c.s.path("oci", "blobs", "sha256")
	return c.list(dir, func(e fs.DirEntry, size int64) {
		rel := "oci/blobs/sha256/" + e.Name()
		d := digest.Digest("sha256:" + e.Name())
		if image.CheckDigest(d) != nil {
			c.unknown(rel)
			return
		}
		c.usage.Blobs += size
		if !c.keep["blob "+e.Name()] {
			c.leftover(rel, "blob "+e.Name(), size)
		}
		if c.usageOnly {
			return
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return
		}
		defer f.Close()
		v := digest.SHA256.Digester()
		if _, err := io.Copy(v.Hash(), f); err != nil {
			c.add(0, "%s: %v", rel, err)
		} else if v.Digest() != d {
			c.add(size, "%s: content has digest %s", rel, v.Digest())
		}
	})
}

// leftover reports an object that nothing needs, unless an import has just begun to.
func (c *checker) leftover(rel, pin string, bytes int64) {
	if c.usageOnly {
		return
	}
	keep := map[string]bool{}
	_ = c.s.locked(func() (err error) {
		old, err := c.s.findStale()
		for _, t := range old {
			defer t.lock.Close()
		}
		if err != nil {
			return err
		}
		if keep, err = c.s.pinned(old); err == nil {
			var entries []v1.Descriptor
			entries, err = c.s.readIndex()
			for _, e := range entries {
				_ = c.s.mark([]v1.Descriptor{e}, keep)
			}
		}
		return err
	})
	if !keep[pin] && exists(c.s.path(rel)) {
		c.add(bytes, "%s: no image needs it", rel)
	}
}

func (c *checker) layers() error {
	return c.list(c.s.path("layers"), func(e fs.DirEntry, _ int64) {
		rel := "layers/" + e.Name()
		d := digest.Digest("sha256:" + e.Name())
		if image.CheckDigest(d) != nil || !e.IsDir() {
			c.unknown(rel)
			return
		}
		n, err := diskUsage(c.s.path(rel))
		if err != nil {
			return // gone
		}
		c.usage.Layers += n
		if !c.keep["layer "+e.Name()] {
			c.leftover(rel, "layer "+e.Name(), n)
		}
		r, err := c.s.LayerRecord(d)
		if err != nil {
			if exists(c.s.path(rel)) {
				c.add(n, "%s: %v", rel, err)
			}
			return
		}
		c.layer(rel, d, r)
	})
}

// layer compares an unpacked layer with its record.
func (c *checker) layer(rel string, d digest.Digest, r Record) {
	entries, err := os.ReadDir(c.s.path(rel))
	if err != nil {
		return
	}
	for _, e := range entries {
		if !slices.Contains([]string{"fs", "layer.json"}, e.Name()) {
			c.unknown(rel + "/" + e.Name())
		}
	}
	want := r.DiffID
	if r.Parent != "" {
		want = digest.FromString(r.Parent.String() + " " + r.DiffID.String())
	}
	if want != d || r.ChainID != d {
		c.add(0, "%s: layer.json is about chain ID %s", rel, r.ChainID)
	}
	size, err := diskUsage(c.s.path(rel, "fs"))
	if err == nil && size != r.Size {
		c.add(0, "%s: %d bytes of files, layer.json says %d", rel, size, r.Size)
	}
}

// diskUsage sums the sizes of the regular files under dir, hard links counted once.
func diskUsage(dir string) (int64, error) {
	var sum int64
	seen := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return nil // gone
		}
		ino, links := inode(fi)
		if links > 1 && seen[ino] {
			return nil
		}
		if links > 1 {
			seen[ino] = true
		}
		sum += fi.Size()
		return nil
	})
	return sum, err
}
