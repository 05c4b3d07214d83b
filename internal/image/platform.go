package image

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/opencontainers/image-spec/specs-go/v1"
)

// Platform is the OCI platform: OS, Architecture, Variant.
type Platform = v1.Platform

// HostPlatform is the platform of this process.
func HostPlatform() Platform {
	return normalize(Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH})
}

// ParsePlatform reads "os/arch[/variant]", "arch[/variant]" or "os" as --platform does; what is left out is the host's.
func ParsePlatform(s string) (Platform, error) {
	bad := fmt.Errorf("platform %q: want os/architecture[/variant]", s)
	parts := strings.Split(strings.ToLower(s), "/")
	for _, p := range parts {
		if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			return Platform{}, bad
		}
	}
	host := HostPlatform()
	switch len(parts) {
	case 1:
		if knownArch(parts[0]) {
			return normalize(Platform{OS: host.OS, Architecture: parts[0]}), nil
		}
		if !knownOS(parts[0]) {
			return Platform{}, fmt.Errorf("platform %q: unknown operating system or architecture", s)
		}
		return Platform{OS: parts[0], Architecture: host.Architecture, Variant: host.Variant}, nil
	case 2:
		if knownArch(parts[0]) && !knownOS(parts[0]) {
			return normalize(Platform{OS: host.OS, Architecture: parts[0], Variant: parts[1]}), nil
		}
		return normalize(Platform{OS: parts[0], Architecture: parts[1]}), nil
	case 3:
		return normalize(Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}), nil
	}
	return Platform{}, bad
}

// FormatPlatform is the inverse of ParsePlatform.
func FormatPlatform(p Platform) string {
	p = normalize(p)
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

func knownOS(s string) bool {
	switch s {
	case "linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "wasi":
		return true
	}
	return false
}

func knownArch(s string) bool {
	switch normalize(Platform{Architecture: s}).Architecture {
	case "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x", "wasm":
		return true
	}
	return false
}

// normalize resolves the aliases of uname and dpkg, and drops the variant that the architecture implies.
func normalize(p Platform) Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "i386", "i486", "i586", "i686":
		p.Architecture, p.Variant = "386", ""
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	switch p.Architecture + "/" + p.Variant {
	case "amd64/v1", "arm64/v8", "arm64/8":
		p.Variant = ""
	case "arm/":
		p.Variant = "v7"
	case "arm/5", "arm/6", "arm/7", "arm/8":
		p.Variant = "v" + p.Variant
	}
	return p
}

// fit says how well have runs on want: 0 is not at all, more is better.
func fit(want, have Platform) int {
	want, have = normalize(want), normalize(have)
	if want.OS != have.OS {
		return 0
	}
	w, h := want.Architecture, have.Architecture
	switch {
	case w == h && want.Variant == have.Variant:
		return 100
	case w == h && (w == "amd64" || w == "arm"): // v3 runs v2, v7 runs v6
		if level(have.Variant) > level(want.Variant) {
			return 0
		}
		return 50 + level(have.Variant)
	case w == h && have.Variant == "":
		return 50
	case w == "amd64" && h == "386":
		return 10
	case w == "arm64" && h == "arm":
		return 10 + level(have.Variant)
	}
	return 0
}

func level(variant string) int {
	if len(variant) == 2 && variant[0] == 'v' && isDigit(variant[1]) {
		return int(variant[1] - '0')
	}
	return 1
}

// Matches says whether an image for have runs on want.
func Matches(want, have Platform) bool { return fit(want, have) > 0 }

// Choose picks the manifest of an index that fits want best; the first wins a tie. An entry without a platform is only
// taken when no other fits. Attestations (unknown/unknown) never fit.
func Choose(ix v1.Index, want Platform) (v1.Descriptor, error) {
	best, at := 0, -1
	var have []string
	for i, d := range ix.Manifests {
		if !isManifestType(d.MediaType) {
			continue
		}
		n := 1
		if d.Platform != nil {
			n = fit(want, *d.Platform)
			if d.Platform.OS != "unknown" {
				have = append(have, FormatPlatform(*d.Platform))
			}
		}
		if n > best {
			best, at = n, i
		}
	}
	if at < 0 {
		return v1.Descriptor{}, fmt.Errorf("no matching manifest for %s in the manifest list entries (there: %s)",
			FormatPlatform(want), strings.Join(have, ", "))
	}
	return ix.Manifests[at], nil
}
