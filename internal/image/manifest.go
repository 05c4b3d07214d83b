package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker image manifest version 2 schema 2.
const (
	DockerManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig       = "application/vnd.docker.container.image.v1+json"
	DockerLayer        = "application/vnd.docker.image.rootfs.diff.tar"
	DockerLayerGzip    = DockerLayer + ".gzip"
	nondistributable   = "application/vnd.oci.image.layer.nondistributable.v1.tar"
	dockerSchema1      = "application/vnd.docker.distribution.manifest.v1"
)

// Limits on documents that are read into memory, in bytes.
const (
	MaxManifest = 4 << 20
	MaxConfig   = 8 << 20
)

func isManifestType(t string) bool { return t == v1.MediaTypeImageManifest || t == DockerManifest }

// IsIndex says whether a media type is an OCI index or a Docker manifest list.
func IsIndex(t string) bool { return t == v1.MediaTypeImageIndex || t == DockerManifestList }

// IsManifest says whether a media type is an OCI or a Docker schema 2 image manifest.
func IsManifest(t string) bool { return isManifestType(t) }

// ManifestTypes are the media types to accept from a registry, the most wanted first.
func ManifestTypes() []string {
	return []string{v1.MediaTypeImageIndex, DockerManifestList, v1.MediaTypeImageManifest, DockerManifest}
}

// isLayerType accepts tar layers, plain or compressed, OCI and Docker, also the old non-distributable ones.
func isLayerType(t string) bool {
	base, _, _ := strings.Cut(t, "+")
	for _, c := range []string{".gzip", ".zstd"} {
		base = strings.TrimSuffix(base, c)
	}
	switch base {
	case v1.MediaTypeImageLayer, nondistributable,
		DockerLayer, "application/vnd.docker.image.rootfs.foreign.diff.tar":
		return true
	}
	return false
}

// both holds the fields whose presence tells a manifest from an index (CVE-2021-41190).
type both struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Config        json.RawMessage `json:"config"`
	Layers        json.RawMessage `json:"layers"`
	FSLayers      json.RawMessage `json:"fsLayers"`
	Manifests     json.RawMessage `json:"manifests"`
}

func sniff(what string, b []byte, mediaType string) (both, error) {
	var x both
	if err := json.Unmarshal(b, &x); err != nil {
		return x, fmt.Errorf("%s: %w", what, err)
	}
	switch {
	case x.SchemaVersion == 1 || x.FSLayers != nil || strings.HasPrefix(mediaType, dockerSchema1):
		return x, fmt.Errorf("%s: schemaVersion: Docker schema 1 is not supported", what)
	case x.SchemaVersion != 2:
		return x, fmt.Errorf("%s: schemaVersion: %d, want 2", what, x.SchemaVersion)
	case x.MediaType != "" && mediaType != "" && x.MediaType != mediaType:
		return x, fmt.Errorf("%s: mediaType: %q, but served as %q", what, x.MediaType, mediaType)
	}
	return x, nil
}

// DetectType returns the media type of a manifest's or an index's bytes where nothing else says it (archives).
func DetectType(b []byte) (string, error) {
	x, err := sniff("manifest", b, "")
	switch {
	case err != nil:
		return "", err
	case x.MediaType != "":
		return x.MediaType, nil
	case x.Manifests != nil:
		return v1.MediaTypeImageIndex, nil
	}
	return v1.MediaTypeImageManifest, nil
}

// DecodeManifest decodes and checks an image manifest that was served as mediaType.
func DecodeManifest(b []byte, mediaType string) (v1.Manifest, error) {
	var m v1.Manifest
	x, err := sniff("manifest", b, mediaType)
	if err != nil {
		return m, err
	}
	if !isManifestType(mediaType) {
		return m, fmt.Errorf("manifest: mediaType: unsupported %q", mediaType)
	}
	if x.Manifests != nil {
		return m, fmt.Errorf("manifest: manifests: not allowed in an image manifest")
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("manifest: %w", err)
	}
	if err := checkDescriptor("config", m.Config); err != nil {
		return m, fmt.Errorf("manifest: %w", err)
	}
	if t := m.Config.MediaType; t != v1.MediaTypeImageConfig && t != DockerConfig {
		return m, fmt.Errorf("manifest: config.mediaType: %q is not an image config", t)
	}
	if m.Config.Size > MaxConfig {
		return m, fmt.Errorf("manifest: config.size: %d is more than %d", m.Config.Size, MaxConfig)
	}
	for i, l := range m.Layers {
		field := fmt.Sprintf("layers[%d]", i)
		if err := checkDescriptor(field, l); err != nil {
			return m, fmt.Errorf("manifest: %w", err)
		}
		if !isLayerType(l.MediaType) {
			return m, fmt.Errorf("manifest: %s.mediaType: %q is not a layer", field, l.MediaType)
		}
	}
	m.MediaType = mediaType
	return m, nil
}

// DecodeIndex decodes and checks an index or manifest list that was served as mediaType.
func DecodeIndex(b []byte, mediaType string) (v1.Index, error) {
	var ix v1.Index
	x, err := sniff("index", b, mediaType)
	if err != nil {
		return ix, err
	}
	if x.Config != nil || x.Layers != nil {
		return ix, fmt.Errorf("index: config, layers: not allowed in an index")
	}
	if err := json.Unmarshal(b, &ix); err != nil {
		return ix, fmt.Errorf("index: %w", err)
	}
	for i, d := range ix.Manifests {
		if err := checkDescriptor(fmt.Sprintf("manifests[%d]", i), d); err != nil {
			return ix, fmt.Errorf("index: %w", err)
		}
	}
	return ix, nil
}

func checkDescriptor(field string, d v1.Descriptor) error {
	if err := CheckDigest(d.Digest); err != nil {
		return fmt.Errorf("%s.digest: %w", field, err)
	}
	if d.Size < 0 {
		return fmt.Errorf("%s.size: negative (%d)", field, d.Size)
	}
	return nil
}

// CheckPair says whether a config belongs to a manifest: one diff ID for each layer.
func CheckPair(m v1.Manifest, c Config) error {
	if len(m.Layers) != len(c.RootFS.DiffIDs) {
		return fmt.Errorf("config: rootfs.diff_ids: %d entries, but the manifest has %d layers", len(c.RootFS.DiffIDs), len(m.Layers))
	}
	return nil
}

// ChainIDs returns the chain ID of each layer, bottom first (config.md, "Layer ChainID").
func ChainIDs(diffIDs []digest.Digest) []digest.Digest {
	ids := make([]digest.Digest, len(diffIDs))
	for i, d := range diffIDs {
		if i > 0 {
			sum := sha256.Sum256([]byte(string(ids[i-1]) + " " + string(d)))
			d = digest.Digest("sha256:" + hex.EncodeToString(sum[:]))
		}
		ids[i] = d
	}
	return ids
}

// ToOCI rewrites a Docker schema 2 manifest as an OCI one about the same blobs. skopeo and others only look for OCI media
// types in an image layout.
func ToOCI(m v1.Manifest) ([]byte, error) {
	m.MediaType, m.Config.MediaType = v1.MediaTypeImageManifest, v1.MediaTypeImageConfig
	m.Layers = append([]v1.Descriptor{}, m.Layers...)
	for i, l := range m.Layers {
		base, how := v1.MediaTypeImageLayer, ""
		if strings.Contains(l.MediaType, ".foreign.") {
			base = nondistributable
		}
		for _, c := range []string{"gzip", "zstd"} {
			if strings.HasSuffix(l.MediaType, "."+c) || strings.HasSuffix(l.MediaType, "+"+c) {
				how = "+" + c
			}
		}
		m.Layers[i].MediaType = base + how
	}
	return json.Marshal(m)
}
