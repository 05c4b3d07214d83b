package store

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"vitro/internal/image"
)

// User is a container that uses an image.
type User struct {
	Name    string // or short ID
	Running bool
}

// RemoveOptions are the options of Remove.
type RemoveOptions struct {
	Force bool
	// InUse returns the containers made from the image; nil means none. It is called under the store lock.
	InUse func(id digest.Digest) []User
}

// Removed is one line of what Remove did; one field is set.
type Removed struct {
	Untagged string // familiar name
	Deleted  digest.Digest
}

// ErrConflict is wrapped by the errors of Remove that -f or the removal of a container solves.
var ErrConflict = errors.New("conflict")

// Tag gives the image that ref names another name.
func (s *Store) Tag(ref string, target image.Reference) error {
	if target.Digest != "" {
		return fmt.Errorf("tag %s: refusing to create a tag with a digest reference", target.Familiar())
	}
	err := s.edit(func(entries []v1.Descriptor) ([]v1.Descriptor, error) {
		img, _, err := s.resolve(entries, ref)
		if err != nil {
			return nil, err
		}
		return addEntry(entries, newEntry(img.Manifest, target.String(), "")), nil
	})
	if err != nil {
		return fmt.Errorf("tag %s: %w", target.Familiar(), err)
	}
	return nil
}

// Untag takes a name off its image, which stays, without a name if need be.
func (s *Store) Untag(ref image.Reference) error {
	return s.edit(func(entries []v1.Descriptor) ([]v1.Descriptor, error) {
		e := findEntry(entries, ref.String())
		if e == nil {
			return nil, notFoundError(ref.String())
		}
		return untag(entries, *e), nil
	})
}

// untag takes e's name off. The sources of its repository go with its last tag there, as in Docker.
func untag(entries []v1.Descriptor, e v1.Descriptor) []v1.Descriptor {
	lastOfRepo := !slices.ContainsFunc(entries, func(o v1.Descriptor) bool {
		return o.Digest == e.Digest && name(o) != "" && name(o) != name(e) && repo(o) == repo(e)
	})
	for i, o := range entries {
		src := source(o)
		if lastOfRepo && o.Digest == e.Digest && sourceRepo(o) == repo(e) {
			src = ""
		}
		n := name(o)
		if o.Digest == e.Digest && n == name(e) {
			n = ""
		}
		entries[i] = newEntry(o, n, src)
	}
	return prune(dedup(entries))
}

func sourceRepo(d v1.Descriptor) string { return repo(newEntry(d, "", source(d))) }

func dedup(entries []v1.Descriptor) (out []v1.Descriptor) {
	for _, e := range entries {
		if !slices.ContainsFunc(out, func(o v1.Descriptor) bool {
			return o.Digest == e.Digest && name(o) == name(e) && source(o) == source(e)
		}) {
			out = append(out, e)
		}
	}
	return out
}

// Remove is docker rmi: a name of an image that has others is taken off, the last one takes the image with it. Removing by
// ID needs Force when names in several repositories would go. An image that a container uses is refused; with Force it
// loses its names but stays until the container is gone, unless that runs and the image was named by ID.
func (s *Store) Remove(ref string, opts RemoveOptions) ([]Removed, error) {
	var done []Removed
	var id digest.Digest
	err := s.edit(func(entries []v1.Descriptor) ([]v1.Descriptor, error) {
		img, e, err := s.resolve(entries, ref)
		if e != nil && err != nil {
			done = append(done, Removed{Untagged: familiar(entryName(*e))}) // broken: the entry is all that can go
			return slices.DeleteFunc(entries, func(o v1.Descriptor) bool { return o.Digest == e.Digest }), nil
		}
		if err != nil {
			return nil, err
		}
		if all, err := s.images(entries); err == nil { // with the names of other manifests of this ID
			img = all[slices.IndexFunc(all, func(o Image) bool { return o.ID == img.ID })]
		}
		var users []User
		if opts.InUse != nil {
			users = opts.InUse(img.ID)
		}
		if e != nil && len(img.names) > 1 && name(*e) != "" {
			done = append(done, Removed{Untagged: familiar(name(*e))})
			return untag(entries, *e), nil
		}
		if err := conflict(img, ref, e == nil, opts.Force, users); err != nil {
			return nil, err
		}
		for _, n := range append(slices.Clone(img.RepoTags), img.RepoDigests...) {
			done = append(done, Removed{Untagged: n})
		}
		rest := slices.DeleteFunc(slices.Clone(entries), func(o v1.Descriptor) bool { return s.idOf(o) == img.ID })
		if len(users) > 0 {
			return append(rest, newEntry(img.Manifest, "", "")), nil
		}
		id = img.ID
		return rest, nil
	})
	if err != nil {
		return nil, err
	}
	gone, err := s.GC()
	if id != "" {
		done = append(done, Removed{Deleted: id})
	}
	for _, c := range slices.Backward(gone.Layers) {
		done = append(done, Removed{Deleted: c})
	}
	return done, err
}

// idOf is the image ID of an entry, empty if that is broken.
func (s *Store) idOf(d v1.Descriptor) digest.Digest {
	img, err := s.load(d)
	if err != nil {
		return ""
	}
	return img.ID
}

// conflict applies Docker's rules, with Docker's messages.
func conflict(img Image, ref string, byID, force bool, users []User) error {
	repos := map[string]bool{}
	for _, n := range img.names {
		if r, err := image.Parse(n); err == nil {
			repos[r.Name()] = true
		}
	}
	running := slices.IndexFunc(users, func(u User) bool { return u.Running })
	switch {
	case byID && running >= 0:
		return fmt.Errorf("%w: unable to delete %s (cannot be forced) - image is being used by running container %s", ErrConflict, img.ShortID(), users[running].Name)
	case force:
		return nil
	case byID && len(repos) > 1:
		return fmt.Errorf("%w: unable to delete %s (must be forced) - image is referenced in multiple repositories", ErrConflict, img.ShortID())
	case byID && len(users) > 0:
		return fmt.Errorf("%w: unable to delete %s (must be forced) - image is being used by stopped container %s", ErrConflict, img.ShortID(), users[0].Name)
	case len(users) > 0:
		return fmt.Errorf("%w: unable to remove repository reference %q (must force) - container %s is using its referenced image %s", ErrConflict, ref, users[0].Name, img.ShortID())
	}
	return nil
}

// Collected is what GC removed.
type Collected struct {
	Layers []digest.Digest // chain IDs, a parent before its child
	Blobs  []digest.Digest
	Bytes  int64 // of blobs and of file content in layers
}

// GC removes blobs and layers that no image and no running import needs, and the staging folders of crashed processes.
// When an image is broken nothing is removed, for its layers are not known.
func (s *Store) GC() (Collected, error) {
	var c Collected
	var trash []stale
	err := s.locked(func() (err error) {
		if trash, err = s.findStale(); err != nil {
			return err
		}
		dead, err := s.dead(&c, trash)
		if err != nil || len(dead) == 0 {
			return err
		}
		dir, lock, err := s.staging()
		if err != nil {
			return err
		}
		trash = append(trash, stale{dir, lock})
		for i, p := range dead {
			if err := os.Rename(p, fmt.Sprintf("%s/%d", dir, i)); err != nil {
				return err
			}
		}
		return nil
	})
	for _, t := range trash {
		if e := t.remove(); err == nil {
			err = e
		}
	}
	if err == nil {
		err = s.dropLocks()
	}
	if err != nil {
		return c, fmt.Errorf("gc: %w", err)
	}
	return c, nil
}

// dead returns the paths of unreferenced blobs and layers and counts them. The caller holds the store lock.
func (s *Store) dead(c *Collected, old []stale) ([]string, error) {
	keep, err := s.pinned(old)
	if err != nil {
		return nil, err
	}
	entries, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	if err := s.mark(entries, keep); err != nil {
		return nil, err
	}
	var paths []string
	layers, err := os.ReadDir(s.path("layers"))
	if err != nil {
		return nil, err
	}
	parents := map[digest.Digest]digest.Digest{}
	for _, e := range layers {
		if keep["layer "+e.Name()] || image.CheckDigest(digest.Digest("sha256:"+e.Name())) != nil {
			continue
		}
		d := digest.Digest("sha256:" + e.Name())
		paths = append(paths, s.layerDir(d))
		c.Layers = append(c.Layers, d)
		if r, err := s.LayerRecord(d); err == nil {
			c.Bytes += r.Size
			parents[d] = r.Parent
		}
	}
	slices.SortStableFunc(c.Layers, func(a, b digest.Digest) int { return depth(parents, a) - depth(parents, b) })
	blobs, err := os.ReadDir(s.path("oci", "blobs", "sha256"))
	if err != nil {
		return nil, err
	}
	for _, e := range blobs {
		d := digest.Digest("sha256:" + e.Name())
		if keep["blob "+e.Name()] || image.CheckDigest(d) != nil {
			continue
		}
		paths = append(paths, s.BlobPath(d))
		c.Blobs = append(c.Blobs, d)
		if fi, err := e.Info(); err == nil {
			c.Bytes += fi.Size()
		}
	}
	return paths, nil
}

func depth(parents map[digest.Digest]digest.Digest, d digest.Digest) (n int) {
	for ; d != "" && n < len(parents); d = parents[d] {
		n++
	}
	return n
}

// mark adds what the entries need to keep.
func (s *Store) mark(entries []v1.Descriptor, keep map[string]bool) error {
	for _, e := range entries {
		if keep["blob "+e.Digest.Encoded()] && keep["seen "+e.Digest.Encoded()] {
			continue
		}
		img, err := s.load(e)
		if err != nil {
			return err
		}
		keep["seen "+e.Digest.Encoded()] = true
		keep["blob "+e.Digest.Encoded()] = true
		keep["blob "+img.ID.Encoded()] = true
		for i, c := range img.ChainIDs() {
			keep["layer "+c.Encoded()] = true
			keep["blob "+img.Layers[i].Digest.Encoded()] = true
		}
	}
	return nil
}

// dropLocks removes lock files whose holder was killed.
func (s *Store) dropLocks() error {
	entries, err := os.ReadDir(s.path("locks"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := s.path("locks", e.Name())
		if l, err := flock(p, os.O_RDWR, false); err == nil && l != nil {
			os.Remove(p)
			l.Close()
		}
	}
	return nil
}
