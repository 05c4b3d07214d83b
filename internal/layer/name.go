package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"path"
	"strings"
)

const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	metaPrefix     = ".wh..wh."

	// maxName is PATH_MAX less its NUL: a longer name could be made by fd but
	// never opened by path.
	maxName = 4095
)

// whiteoutKind is what an entry's name makes it.
type whiteoutKind int

const (
	whiteoutNone   whiteoutKind = iota
	whiteoutName                // .wh.NAME: NAME is gone
	whiteoutOpaque              // .wh..wh..opq: all of the folder is gone
	whiteoutMeta                // .wh..wh.*: AUFS's own
)

// cleanName returns an entry's name relative to the layer's root, "" for the
// root. A leading slash is dropped; a ".." may not climb above the root.
func cleanName(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("empty name")
	case len(name) > maxName:
		return "", fmt.Errorf("name is longer than %d bytes", maxName)
	case strings.IndexByte(name, 0) >= 0:
		return "", errors.New("name holds a NUL byte")
	}
	c := path.Clean(strings.TrimLeft(name, "/"))
	switch {
	case c == ".":
		return "", nil
	case c == ".." || strings.HasPrefix(c, "../"):
		return "", errLeaves
	}
	return c, nil
}

// parseWhiteout tells whiteouts by name. It returns the name that is hidden
// (the folder for an opaque one), or name itself.
func parseWhiteout(name string) (whiteoutKind, string, error) {
	dir, base := split(name)
	for d := dir; d != ""; {
		var b string
		if d, b = split(d); strings.HasPrefix(b, metaPrefix) {
			return whiteoutMeta, name, nil
		} else if strings.HasPrefix(b, whiteoutPrefix) {
			return 0, "", fmt.Errorf("folder %q is named like a whiteout", b)
		}
	}
	switch hidden, ok := strings.CutPrefix(base, whiteoutPrefix); {
	case !ok:
		return whiteoutNone, name, nil
	case base == opaqueName:
		return whiteoutOpaque, dir, nil
	case strings.HasPrefix(base, metaPrefix):
		return whiteoutMeta, name, nil
	case hidden == "" || hidden == "." || hidden == "..":
		return 0, "", fmt.Errorf("whiteout of %q", hidden)
	default:
		return whiteoutName, join(dir, hidden), nil
	}
}

// checkHeader refuses numbers that the kernel would cut or take for "unchanged".
func checkHeader(hdr *tar.Header) error {
	id := func(n int) bool { return n >= 0 && int64(n) < math.MaxUint32 }
	switch {
	case !id(hdr.Uid):
		return fmt.Errorf("uid %d is out of range", hdr.Uid)
	case !id(hdr.Gid):
		return fmt.Errorf("gid %d is out of range", hdr.Gid)
	case hdr.Size < 0:
		return fmt.Errorf("size %d is negative", hdr.Size)
	}
	if hdr.Typeflag == tar.TypeChar || hdr.Typeflag == tar.TypeBlock {
		// 12 and 20 bits in the kernel (MINORBITS).
		if hdr.Devmajor < 0 || hdr.Devmajor >= 1<<12 || hdr.Devminor < 0 || hdr.Devminor >= 1<<20 {
			return fmt.Errorf("device %d:%d is out of range", hdr.Devmajor, hdr.Devminor)
		}
	}
	return nil
}

// split cuts a clean relative path into folder ("" is the root) and name.
func split(p string) (dir, base string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return "", p
}

func join(dir, base string) string {
	if dir == "" {
		return base
	}
	return dir + "/" + base
}
