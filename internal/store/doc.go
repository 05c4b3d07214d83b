// Package store keeps images on disk: blobs as an OCI image layout, and each layer unpacked as an overlayfs lowerdir.
//
//	<root>/oci/            a valid OCI image layout (image-layout.md): oci-layout, index.json, blobs/sha256/<hex>
//	<root>/layers/<hex>/   one unpacked layer, named by its chain ID: fs/ and layer.json (Record)
//	<root>/staging/<id>/   what a running process is making or deleting; the folder is flocked by that process
//	<root>/locks/<hex>     flocked while some process makes that layer; removed by its holder
//	<root>/lock            the store lock
//
// References live in oci/index.json and nowhere else: one descriptor for each name, with the complete name in
// org.opencontainers.image.ref.name and repository@digest as pulled in io.vitro.image.source. An image that lost its name
// keeps a descriptor without one (docker's <none>). The file is replaced as a whole, by rename, under the store lock.
//
// Life cycle of an import (pull, load): a session makes its staging folder, pins the digests it will need, downloads and
// unpacks there, flushes once with syncfs(2), renames everything into place, and writes the index last. So what is visible
// is complete and durable, and a kill -9 or a power cut leaves a stale staging folder at most, which the next import or GC
// finds by its free lock and removes. A cancelled import removes what it made.
//
// Locks: the store lock is held for look-ups and renames only, never while bytes are moved. A layer that another process
// makes is waited for, not made twice; nobody waits while he holds a layer lock, so there is no deadlock.
//
// Caveats: the blobs stay beside the unpacked layers, so that the layout is complete and an image can be pushed or saved
// as it came; a layer that is there unpacked but whose blob is not (same content, other compression) costs a download.
// A container record must be on disk before its image is resolved a last time: Remove asks InUse under the store lock.
// A Docker schema 2 manifest is rewritten as an OCI one (image ID and layers stay, the digest it was pulled by is kept as
// source), because skopeo sees only OCI types in a layout. All digests are sha256.
//
// Example:
//
//	s, err := store.Open("/var/lib/vitro")
//	img, err := s.Resolve("alpine")
//	lowerdirs := s.Layers(img) // top first, as overlayfs wants them
package store
