// Package snapshot turns a chain of unpacked layers into the root filesystem of
// a container. It returns mounts as data; nothing is mounted before it is asked.
//
// See the kernel's Documentation/filesystems/overlayfs.rst, and fsopen(2),
// fsconfig(2), fsmount(2), open_tree(2), move_mount(2).
//
// Two drivers keep one contract, which package snapshottest checks:
// [OverlayDriver] mounts the layers under a folder of the container's own, and
// [CopyDriver] copies them, for file systems that cannot carry overlayfs.
// [Choose] finds out by mounting one, and says why if it can't.
//
// Life cycle: the caller makes a folder for the container, Prepare fills it,
// [Mount.Open] makes the detached mount that a container start moves to its
// root ([Attach] puts it at a path instead), [Unmount] takes it away, and the
// caller deletes the folder.
//
//	d, why := snapshot.Choose(dir)
//	m, err := d.Prepare(ctx, dir, lowers, snapshot.Options{Volatile: rm})
//	...
//	tree, form, err := m.Open()
//	...
//	err = snapshot.Attach(tree, target)
//
// # Caveats
//
//   - Layers go to the kernel as fds (Linux 6.13) or one by one as lowerdir+
//     (6.7), so neither their number (up to 500) nor ':' and ',' in their names
//     matter. Before that all names must fit a page: they are passed as
//     /proc/self/fd/N, which is enough for some 200 layers. [Mount.Open] returns
//     which form it was.
//   - A volatile overlay skips syncs. It can be mounted once only: the kernel
//     leaves work/incompat/volatile behind and refuses the next mount.
//   - index=off, since layers are shared by many mounts; metacopy and
//     redirect_dir are the kernel's defaults.
package snapshot
