// Package archive loads images from tar archives into a store, and saves them ([Save]). It reads what `docker save` writes (manifest.json, with the OCI
// layout beside it since Docker 25), OCI archives (image-layout.md in a tar), and their kin from podman and skopeo. The
// archive itself may be compressed with gzip or zstd.
//
// Life cycle of a load: the archive's headers are read once and give a table of names and offsets; nothing is ever
// unpacked under a name from the archive, so names and links can't lead anywhere. Layers are then read by offset, in
// parallel. A pipe or a compressed archive is first written to an unnamed file in the store's folder.
//
// Caveats: the images that came before a broken one stay loaded, as with Docker. A reference name of an OCI archive that
// is a bare tag ("latest") names nothing; the image is loaded without a name.
//
// Example:
//
//	err = archive.Save(ctx, s, w, archive.Docker, []archive.Saved{{Image: img, Names: names}})
//	loaded, err := archive.Load(ctx, s, os.Stdin, archive.Options{})
//	for _, l := range loaded {
//		fmt.Println(l) // Loaded image: alpine:latest
//	}
package archive
