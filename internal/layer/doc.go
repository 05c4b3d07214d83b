// Package layer turns the tar stream of an OCI layer into a tree on disk, and
// what a container has changed in that tree into a layer ([WriteDiff]).
//
// Formats: image-spec layer.md (changesets, whiteouts), pax(5)/tar(5), and the
// kernel's Documentation/filesystems/overlayfs.rst for what a lowerdir is.
//
// [Decompress] yields the tar stream of a blob, [Apply] writes it into an empty
// folder in the form of an overlayfs lowerdir (or in place, onto the layers
// below). The folder is the caller's: made before, deleted after an error.
//
//	r, err := layer.Decompress(blob, desc.MediaType)
//	...
//	diffID := sha256.New()
//	_, err = layer.Apply(ctx, io.TeeReader(r, diffID), dir, layer.ApplyOptions{
//		Lowers: func(context.Context) ([]string, error) { return lowers, nil },
//	})
//
// [Changes] compares by what stat, listxattr and, where all that is the same,
// the content say. Overlayfs' upper folder is its guide to what may differ; the
// content is read in the merged tree, so a folder that the kernel has only
// noted as moved (redirect_dir) is written whole. Opaque folders stay opaque.
//
// # Rules for names
//
// Everything is done relative to open folders, one component at a time, with
// openat2(RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS); the kernel never follows a
// symlink that an archive has made (CVE-2018-15664 and its kind).
//
//   - A leading slash is dropped, "." and empty components too. ".." is
//     resolved by name; one that climbs above the root is refused.
//   - A parent that is a symlink made by the same layer is followed inside the
//     layer, as docker does in its chroot: an absolute target starts at the
//     layer's root. A ".." above the root is refused, as is a target that
//     is not in the layer. A symlink of a lower layer is not followed but
//     hidden by a new folder, as docker's and containerd's overlay drivers do.
//   - Symlinks themselves may point anywhere: nothing here follows them.
//   - The last entry of a name wins. A folder over a folder keeps its children;
//     one that takes the place of anything else hides the lower layers' folder.
//   - A whiteout hides what lower layers have and never an entry of its own
//     layer, before or after it. ".wh.", ".wh..", ".wh..." and folders that are
//     named like whiteouts are refused; AUFS's ".wh..wh.*" are skipped.
//   - A hard link goes to a file of this layer or (ApplyOptions.Lowers) of one
//     below, which is then copied up so that both names stay one file.
//
// # Caveats
//
//   - trusted.overlay.*, user.overlay.*, security.selinux and system.nfs4_acl
//     xattrs of an archive are dropped and counted.
//   - overlayfs does not look at the opaque mark of a layer's root; package
//     snapshot cuts the chain there.
//   - Zero blocks of a sparse file become holes even if the archive stored them.
//     Its size is read at memory speed, holes included: see MaxBytes.
//   - An archive that is cut between two entries looks whole (tar's end marker
//     is optional): the caller checks the diff ID.
//   - Names are bounded by PATH_MAX, PAX and GNU headers by archive/tar (1 MiB).
//   - Device nodes and foreign owners need privilege; there are no id maps yet.
package layer
