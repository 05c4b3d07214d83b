// Package image holds the data model of container images: references, platforms, descriptors, manifests, indexes,
// image configs and chain IDs, with strict validation. It does no I/O.
//
// Formats: OCI image-spec 1.1 (manifest.md, image-index.md, config.md), Docker image manifest version 2 schema 2,
// and the reference grammar of the Docker command line (short names mean docker.io/library).
//
// Everything decoded here comes from a registry or an archive and is hostile until it is checked: a manifest's bytes must
// agree with the media type they were served as (CVE-2021-41190), digests must be sha256, sizes must not be negative, and
// a config must list one diff ID for each layer. Errors name the field: `manifest: layers[2].size: negative (-1)`.
//
// Example:
//
//	ref, err := image.Parse("alpine")        // docker.io/library/alpine:latest
//	m, err := image.DecodeManifest(b, mediaType)
//	c, err := image.DecodeConfig(cb)
//	err = image.CheckPair(m, c)
//	chains := image.ChainIDs(c.RootFS.DiffIDs)
package image
