package regtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"

	"vitro/internal/image"
)

// Faults of one blob or manifest. Counters count down.
type Faults struct {
	Truncate int           // so many responses end half-way
	Corrupt  bool          // a byte is changed
	Missing  bool          // 404
	Errors   int           // so many responses are 503
	Delay    time.Duration // before every 64 KiB
	NoRange  bool          // Range is ignored
	Extra    bool          // a byte more than the size
}

// Server is the registry. Set User or Bearer before the first request.
type Server struct {
	*httptest.Server
	User, Password string // basic authentication
	Bearer         bool   // with User: through a token

	mu        sync.Mutex
	blobs     map[digest.Digest][]byte
	manifests map[string]document // repository + ":" + tag or digest
	faults    map[digest.Digest]*Faults
	gets      map[digest.Digest]int
}

type document struct {
	mediaType string
	body      []byte
}

// New starts a registry over plain HTTP that ends with the test.
func New(t testing.TB) *Server { return start(t, (*httptest.Server).Start) }

// NewTLS starts a registry over HTTPS.
func NewTLS(t testing.TB) *Server { return start(t, (*httptest.Server).StartTLS) }

func start(t testing.TB, f func(*httptest.Server)) *Server {
	s := &Server{
		blobs: map[digest.Digest][]byte{}, manifests: map[string]document{},
		faults: map[digest.Digest]*Faults{}, gets: map[digest.Digest]int{},
	}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = nil
	f(s.Server)
	t.Cleanup(s.Close)
	return s
}

// Ref is host:port/repo.
func (s *Server) Ref(repo string) string { return s.Listener.Addr().String() + "/" + repo }

// Fault sets what goes wrong with a digest.
func (s *Server) Fault(d digest.Digest, f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[d] = &f
}

// Gets is how often a digest was asked for.
func (s *Server) Gets(d digest.Digest) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets[d]
}

const token = "regtest-token"

func (s *Server) authorized(w http.ResponseWriter, r *http.Request) bool {
	if s.User == "" {
		return true
	}
	user, password, basic := r.BasicAuth()
	switch {
	case !s.Bearer && basic && user == s.User && password == s.Password:
		return true
	case s.Bearer && r.Header.Get("Authorization") == "Bearer "+token:
		return true
	case s.Bearer:
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="regtest"`, s.URL))
	default:
		w.Header().Set("WWW-Authenticate", `Basic realm="regtest"`)
	}
	fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		if user, password, _ := r.BasicAuth(); user != s.User || password != s.Password {
			fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "bad user or password")
			return
		}
		fmt.Fprintf(w, `{"token":%q}`, token)
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok || !s.authorized(w, r) {
		return
	}
	if i := strings.LastIndex(path, "/manifests/"); i >= 0 {
		s.manifest(w, r, path[:i], path[i+len("/manifests/"):])
	} else if i := strings.LastIndex(path, "/blobs/"); i >= 0 {
		s.blob(w, r, digest.Digest(path[i+len("/blobs/"):]))
	}
}

func (s *Server) manifest(w http.ResponseWriter, r *http.Request, repo, ref string) {
	s.mu.Lock()
	doc, ok := s.manifests[repo+":"+ref]
	s.mu.Unlock()
	if !ok {
		fail(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	w.Header().Set("Content-Type", doc.mediaType)
	s.send(w, r, digest.FromBytes(doc.body), doc.body)
}

func (s *Server) blob(w http.ResponseWriter, r *http.Request, d digest.Digest) {
	s.mu.Lock()
	b, ok := s.blobs[d]
	s.mu.Unlock()
	if !ok {
		fail(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	s.send(w, r, d, b)
}

// send writes a body with the faults of d.
func (s *Server) send(w http.ResponseWriter, r *http.Request, d digest.Digest, b []byte) {
	s.mu.Lock()
	if r.Method == http.MethodGet {
		s.gets[d]++
	}
	var f Faults
	if p := s.faults[d]; p != nil {
		f = *p
		p.Truncate, p.Errors = max(0, p.Truncate-1), max(0, p.Errors-1)
	}
	s.mu.Unlock()
	switch {
	case f.Missing:
		fail(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown")
		return
	case f.Errors > 0:
		fail(w, http.StatusServiceUnavailable, "TOOMANYREQUESTS", "try later")
		return
	case f.Corrupt:
		b = bytes.Clone(b)
		b[len(b)/2] ^= 0x55
	case f.Extra:
		b = append(bytes.Clone(b), 0)
		w.Header().Set("Transfer-Encoding", "chunked")
	}
	status := http.StatusOK
	if !f.NoRange {
		w.Header().Set("Accept-Ranges", "bytes")
		var from int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil && from <= len(b) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
			b, status = b[from:], http.StatusPartialContent
		}
	}
	if !f.Extra {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	}
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	if f.Truncate > 0 {
		_, _ = w.Write(b[:len(b)/2])
		panic(http.ErrAbortHandler) // breaks the connection
	}
	for part := range slices.Chunk(b, 64<<10) {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
			return
		}
		if _, err := w.Write(part); err != nil {
			return
		}
	}
}

// Layer is a layer to build: from Files (path → content; a path with a final slash is a folder), or a ready Tar.
type Layer struct {
	Files       map[string]string
	Tar         []byte
	Compression string // "gzip" (also ""), "zstd", "none"
}

// Image is an image to build.
type Image struct {
	Layers   []Layer
	Docker   bool // schema 2 media types
	Platform v1.Platform
	Config   v1.ImageConfig
}

// Blob adds a blob and returns its descriptor.
func (s *Server) Blob(mediaType string, b []byte) v1.Descriptor {
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d.Digest] = b
	return d
}

// Document stores a manifest or index under its digest and, where it is not empty, a tag.
func (s *Server) Document(repo, tag, mediaType string, v any) v1.Descriptor {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.manifests[repo+":"+d.Digest.String()] = document{mediaType, b}
	if tag != "" {
		s.manifests[repo+":"+tag] = document{mediaType, b}
	}
	return d
}

// Push builds an image and stores it. The manifest is returned as well.
func (s *Server) Push(repo, tag string, img Image) (v1.Descriptor, v1.Manifest) {
	if img.Platform.OS == "" {
		img.Platform = image.HostPlatform()
	}
	types := []string{v1.MediaTypeImageManifest, v1.MediaTypeImageConfig, v1.MediaTypeImageLayer, "+"}
	if img.Docker {
		types = []string{image.DockerManifest, image.DockerConfig, image.DockerLayer, "."}
	}
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: types[0]}
	c := v1.Image{Platform: img.Platform, Config: img.Config, RootFS: v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	for _, l := range img.Layers {
		raw := l.Tar
		if raw == nil {
			raw = Tar(l.Files)
		}
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(raw))
		b, suffix := compress(raw, l.Compression)
		if suffix != "" {
			suffix = types[3] + suffix
		}
		m.Layers = append(m.Layers, s.Blob(types[2]+suffix, b))
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	m.Config = s.Blob(types[1], b)
	d := s.Document(repo, tag, types[0], m)
	d.Platform = &img.Platform
	return d, m
}

// PushIndex stores an index of images that were pushed before.
func (s *Server) PushIndex(repo, tag string, manifests ...v1.Descriptor) v1.Descriptor {
	t := v1.MediaTypeImageIndex
	if len(manifests) > 0 && manifests[0].MediaType == image.DockerManifest {
		t = image.DockerManifestList
	}
	return s.Document(repo, tag, t, v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: t, Manifests: manifests})
}

// Tar makes a tar of files, sorted by path.
func Tar(files map[string]string) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, p := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: p, Mode: 0o644, Size: int64(len(files[p])), ModTime: time.Unix(1e9, 0)}
		if strings.HasSuffix(p, "/") {
			h.Typeflag, h.Mode, h.Size = tar.TypeDir, 0o755, 0
		}
		if to, ok := strings.CutPrefix(files[p], "hardlink:"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, to, 0
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if h.Size > 0 {
			_, _ = w.Write([]byte(files[p]))
		}
	}
	w.Close()
	return buf.Bytes()
}

func compress(b []byte, how string) ([]byte, string) {
	var buf bytes.Buffer
	switch how {
	case "none":
		return b, ""
	case "zstd":
		w, _ := zstd.NewWriter(&buf)
		_, _ = w.Write(b)
		w.Close()
		return buf.Bytes(), "zstd"
	}
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(b)
	w.Close()
	return buf.Bytes(), "gzip"
}
