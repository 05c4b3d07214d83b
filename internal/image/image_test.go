package image

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go/v1"
)

const hex64 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParse(t *testing.T) {
	d := "@sha256:" + hex64
	for _, c := range []struct{ in, full, familiar string }{
		{"alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"},
		{"user/app", "docker.io/user/app:latest", "user/app:latest"},
		{"docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"index.docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"localhost/x", "localhost/x:latest", "localhost/x:latest"},
		{"localhost:5000/x:tag", "localhost:5000/x:tag", "localhost:5000/x:tag"},
		{"localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"},
		{"127.0.0.1:5000/a/b_c/d--e", "127.0.0.1:5000/a/b_c/d--e:latest", "127.0.0.1:5000/a/b_c/d--e:latest"},
		{"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"},
		{"alpine" + d, "docker.io/library/alpine" + d, "alpine" + d},
		{"a:1" + d, "docker.io/library/a:1" + d, "a:1" + d},
		{"Reg/x", "Reg/x:latest", "Reg/x:latest"},
		{"docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
	} {
		r, err := Parse(c.in)
		if err != nil || r.String() != c.full || r.Familiar() != c.familiar {
			t.Errorf("%q: %v %q %q", c.in, err, r, r.Familiar())
		}
		if again, err := Parse(r.String()); err != nil || again != r {
			t.Errorf("%q: second parse: %v %v", c.in, again, err)
		}
	}
	const pre = `: invalid reference format: `
	for in, msg := range map[string]string{
		"":               "empty",
		hex64:            "a name cannot be 64 hexadecimal digits",
		"Alpine":         "repository name (library/Alpine) must be lowercase",
		"a:":             `tag ""`,
		"a:-x":           `tag "-x"`,
		"a@sha256:12":    `digest "sha256:12": not 64 lower-case hexadecimal digits`,
		"a@md5:12":       `digest "md5:12": unsupported algorithm "md5" (only sha256)`,
		"a..b":           `repository name "library/a..b"`,
		"a/../b":         `repository name "a/../b"`,
		"/a":             `repository name "/a"`,
		"a/":             `repository name "a/"`,
		"ho_st.x/a":      `registry host "ho_st.x"`,
		"localhost:x/a":  `registry host "localhost:x"`,
		"a b":            `repository name "library/a b"`,
		"a:" + long(129): `tag "` + long(129) + `"`,
		long(300):        "repository name is longer than 255 characters",
	} {
		want, _ := json.Marshal(in)
		if _, err := Parse(in); err == nil || err.Error() != "reference "+string(want)+pre+msg {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func long(n int) string { return strings.Repeat("x", n) }

func FuzzParse(f *testing.F) {
	f.Add("localhost:5000/x:tag@sha256:" + hex64)
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(r.Familiar()); err != nil || again != r {
			t.Errorf("%q: %q → %q %v", s, r, again, err)
		}
	})
}

func TestPlatform(t *testing.T) {
	for in, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/x86_64": "linux/amd64", "linux/arm64/v8": "linux/arm64", "aarch64": "linux/arm64",
		"linux/arm": "linux/arm/v7", "linux/arm/6": "linux/arm/v6", "armhf": "linux/arm/v7", "arm/v6": "linux/arm/v6",
		"windows/amd64": "windows/amd64", "linux/amd64/v3": "linux/amd64/v3",
	} {
		if p, err := ParsePlatform(in); err != nil || FormatPlatform(p) != want {
			t.Errorf("%q: %v %v", in, FormatPlatform(p), err)
		}
	}
	for _, in := range []string{"", "/", "linux/", "a/b/c/d", "linux/amd 64", "plan10"} {
		if p, err := ParsePlatform(in); err == nil {
			t.Errorf("%q: got %v", in, p)
		}
	}
}

func TestChoose(t *testing.T) {
	ix := func(platforms ...string) (x v1.Index) {
		for i, s := range platforms {
			d := v1.Descriptor{MediaType: DockerManifest, Size: int64(i)}
			if f := strings.Split(s, "/"); s != "" {
				d.Platform = &Platform{OS: f[0], Architecture: f[1]}
				if len(f) > 2 {
					d.Platform.Variant = f[2]
				}
			}
			x.Manifests = append(x.Manifests, d)
		}
		return x
	}
	for _, c := range []struct {
		want string
		ix   v1.Index
		at   int
	}{
		{"linux/amd64", ix("linux/arm64", "linux/386", "linux/amd64"), 2},
		{"linux/amd64", ix("unknown/unknown", "linux/386"), 1},
		{"linux/amd64", ix("linux/amd64/v3", "linux/amd64/v1"), 1},
		{"linux/amd64/v3", ix("linux/amd64", "linux/amd64/v2", "linux/amd64/v4"), 1},
		{"linux/arm/v7", ix("linux/arm/v5", "linux/arm/v6", "linux/arm64/v8"), 1},
		{"linux/arm64", ix("linux/arm/v7", "linux/arm64/v8"), 1},
		{"linux/arm64", ix("linux/arm/v6", "linux/arm/v7"), 1},
		{"linux/amd64", ix("windows/amd64", ""), 1},
	} {
		want, _ := ParsePlatform(c.want)
		if d, err := Choose(c.ix, want); err != nil || d.Size != int64(c.at) {
			t.Errorf("%s: chose %d, want %d (%v)", c.want, d.Size, c.at, err)
		}
	}
	_, err := Choose(ix("linux/s390x", "unknown/unknown"), Platform{OS: "linux", Architecture: "amd64"})
	if err == nil || err.Error() != "no matching manifest for linux/amd64 in the manifest list entries (there: linux/s390x)" {
		t.Error(err)
	}
}

func TestDecodeErrors(t *testing.T) {
	const ok = `{"mediaType":"` + DockerConfig + `","digest":"sha256:` + hex64 + `","size":2}`
	for in, msg := range map[string]string{
		`{`:                                   "manifest: unexpected end of JSON input",
		`{"schemaVersion":1}`:                 "manifest: schemaVersion: Docker schema 1 is not supported",
		`{"schemaVersion":3}`:                 "manifest: schemaVersion: 3, want 2",
		`{"schemaVersion":2,"mediaType":"x"}`: `manifest: mediaType: "x", but served as "` + DockerManifest + `"`,
		`{"schemaVersion":2,"manifests":[]}`:  "manifest: manifests: not allowed in an image manifest",
		`{"schemaVersion":2}`:                 `manifest: config.digest: digest "": no algorithm`,
		`{"schemaVersion":2,"config":{"digest":"sha256:` + hex64 + `"}}`:                                 `manifest: config.mediaType: "" is not an image config`,
		`{"schemaVersion":2,"config":` + ok + `,"layers":[` + ok + `]}`:                                  `manifest: layers[0].mediaType: "` + DockerConfig + `" is not a layer`,
		`{"schemaVersion":2,"config":` + ok + `,"layers":[{"digest":"sha256:` + hex64 + `","size":-1}]}`: "manifest: layers[0].size: negative (-1)",
	} {
		if _, err := DecodeManifest([]byte(in), DockerManifest); err == nil || err.Error() != msg {
			t.Errorf("%s:\n got %v\nwant %s", in, err, msg)
		}
	}
	if _, err := DecodeIndex([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:x"}]}`), v1.MediaTypeImageIndex); err == nil ||
		err.Error() != `index: manifests[0].digest: digest "sha256:x": not 64 lower-case hexadecimal digits` {
		t.Error(err)
	}
	if _, err := DecodeConfig([]byte(`{"rootfs":{"type":"layers","diff_ids":["x"]}}`)); err == nil ||
		err.Error() != `config: rootfs.diff_ids[0]: digest "x": no algorithm` {
		t.Error(err)
	}
}

func TestConfigKeepsDockerFields(t *testing.T) {
	c, err := DecodeConfig([]byte(`{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Shell":["/bin/ash"],
		"Healthcheck":{"Test":["CMD","x"],"Interval":5000000000},"OnBuild":["RUN x"]},"rootfs":{"type":"layers","diff_ids":[]}}`))
	if err != nil || c.Config.Env[0] != "A=b" || c.Config.Shell[0] != "/bin/ash" || c.Config.Healthcheck.Interval.Seconds() != 5 ||
		c.Config.OnBuild[0] != "RUN x" || c.Architecture != "amd64" {
		t.Errorf("%+v %v", c, err)
	}
}

func TestChainIDs(t *testing.T) {
	a, b := digest.FromString("a"), digest.FromString("b")
	got := ChainIDs([]digest.Digest{a, b})
	if got[0] != a || got[1] != digest.FromString(a.String()+" "+b.String()) {
		t.Error(got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{},"layers":[{}]}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		t, _ := DetectType(b)
		_, _ = DecodeManifest(b, t)
		_, _ = DecodeIndex(b, t)
		_, _ = DecodeConfig(b)
	})
}
