package image

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	defaultDomain = "docker.io"
	legacyDomain  = "index.docker.io"
	officialPath  = "library/"
	defaultTag    = "latest"
	maxName       = 255
	maxTag        = 128
)

// Reference is a complete image reference: Domain/Path[:Tag][@Digest]. At least one of Tag and Digest is set.
type Reference struct {
	Domain string        // registry host with optional port: docker.io, localhost:5000
	Path   string        // repository: library/alpine
	Tag    string        // empty for a reference by digest alone
	Digest digest.Digest // empty for a reference by tag alone
}

// Parse reads a reference as the Docker command line does: a first component without a dot, a colon or an upper-case
// letter is not a host unless it is "localhost", one-component names of docker.io live under library/, and a name with
// neither tag nor digest means the tag "latest".
func Parse(s string) (Reference, error) {
	fail := func(format string, a ...any) (Reference, error) {
		return Reference{}, fmt.Errorf("reference %q: invalid reference format: %s", s, fmt.Sprintf(format, a...))
	}
	if s == "" {
		return fail("empty")
	}
	if isHex(s) && len(s) == 64 {
		return fail("a name cannot be 64 hexadecimal digits")
	}
	var r Reference
	rest, dgst, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		r.Digest = digest.Digest(dgst)
		if err := CheckDigest(r.Digest); err != nil {
			return fail("%v", err)
		}
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') && i >= 0 {
		rest, r.Tag = rest[:i], rest[i+1:]
		if !validTag(r.Tag) {
			return fail("tag %q", r.Tag)
		}
	}
	r.Domain, r.Path = splitDomain(rest)
	switch {
	case !validDomain(r.Domain):
		return fail("registry host %q", r.Domain)
	case strings.ToLower(r.Path) != r.Path:
		return fail("repository name (%s) must be lowercase", r.Path)
	case !validPath(r.Path):
		return fail("repository name %q", r.Path)
	case len(r.Domain)+1+len(r.Path) > maxName:
		return fail("repository name is longer than %d characters", maxName)
	}
	if r.Tag == "" && r.Digest == "" {
		r.Tag = defaultTag
	}
	return r, nil
}

func splitDomain(s string) (domain, path string) {
	first, rest, ok := strings.Cut(s, "/")
	if !ok || (!strings.ContainsAny(first, ".:") && first != "localhost" && strings.ToLower(first) == first) {
		first, rest = defaultDomain, s
	}
	if first == legacyDomain {
		first = defaultDomain
	}
	if first == defaultDomain && !strings.ContainsRune(rest, '/') {
		rest = officialPath + rest
	}
	return first, rest
}

// Name is Domain/Path.
func (r Reference) Name() string { return r.Domain + "/" + r.Path }

// String is the complete form: docker.io/library/alpine:latest.
func (r Reference) String() string { return r.Name() + r.suffix() }

// FamiliarName is Name as users know it: alpine, localhost:5000/x.
func (r Reference) FamiliarName() string {
	if r.Domain != defaultDomain {
		return r.Name()
	}
	if p, ok := strings.CutPrefix(r.Path, officialPath); ok && !strings.ContainsRune(p, '/') {
		return p
	}
	return r.Path
}

// Familiar is String as users know it: alpine:latest.
func (r Reference) Familiar() string { return r.FamiliarName() + r.suffix() }

// Target is what to ask a registry for: the digest where there is one, else the tag.
func (r Reference) Target() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

func (r Reference) suffix() string {
	s := ""
	if r.Tag != "" {
		s = ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// CheckDigest accepts sha256 digests only: the one algorithm that every registry and layout uses.
func CheckDigest(d digest.Digest) error {
	algo, enc, ok := strings.Cut(string(d), ":")
	switch {
	case !ok:
		return fmt.Errorf("digest %q: no algorithm", d)
	case algo != "sha256":
		return fmt.Errorf("digest %q: unsupported algorithm %q (only sha256)", d, algo)
	case len(enc) != 64 || !isHex(enc):
		return fmt.Errorf("digest %q: not 64 lower-case hexadecimal digits", d)
	}
	return nil
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

// validTag: [\w][\w.-]{0,127}
func validTag(s string) bool {
	if s == "" || len(s) > maxTag || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !isDigit(c) && !isLower(c) && !isUpper(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// validPath: components of [a-z0-9]+ joined by one of . _ __ -+ and separated by slashes.
func validPath(s string) bool {
	for comp := range strings.SplitSeq(s, "/") {
		for i := 0; ; {
			n := i
			for i < len(comp) && (isDigit(comp[i]) || isLower(comp[i])) {
				i++
			}
			if i == n { // a component starts with, and a separator is followed by, a letter or digit
				return false
			}
			if i == len(comp) {
				break
			}
			n = i
			for i < len(comp) && comp[i] == comp[n] {
				i++
			}
			run := i - n
			if c := comp[n]; (c != '.' || run > 1) && (c != '_' || run > 2) && c != '-' {
				return false
			}
		}
	}
	return true
}

// validDomain: dotted labels or a bracketed IPv6 address, then an optional port.
func validDomain(s string) bool {
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host, port = s[:i], s[i+1:]
		if port == "" || strings.Trim(port, "0123456789") != "" {
			return false
		}
	}
	if v6, ok := strings.CutPrefix(host, "["); ok {
		v6, ok = strings.CutSuffix(v6, "]")
		return ok && v6 != "" && strings.Trim(strings.ToLower(v6), "0123456789abcdef:") == ""
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !isDigit(c) && !isLower(c) && !isUpper(c) && c != '-' {
				return false
			}
		}
	}
	return true
}
