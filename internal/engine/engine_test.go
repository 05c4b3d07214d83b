package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"vitro/internal/image"
	"vitro/internal/store"
	"vitro/internal/sys"
	"vitro/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var update = flag.Bool("update", false, "rewrite golden files")

func testImage() store.Image {
	var c image.Config
	c.Config.Env = []string{"PATH=/bin", "FOO=image"}
	c.Config.Cmd = []string{"sh"}
	return store.Image{ID: "sha256:" + "aa", Config: c}
}

// TestSpec pins the OCI config of two containers; the seccomp profile is cut down to its size.
func TestSpec(t *testing.T) {
	for name, o := range map[string]CreateOptions{
		"default": {Image: "bb"},
		"flags": {
			Image: "bb", Cmd: []string{"id"}, Env: []string{"FOO=flag", "X=1", "PATH"}, WorkingDir: "/w", Hostname: "box", Tty: true,
			HostConfig: HostConfig{
				NetworkMode: "host", Binds: []string{"/srv:/mnt/srv:ro", "/etc/hosts:/etc/hosts"}, CapAdd: []string{"sys_time"}, CapDrop: []string{"ALL"},
				ReadonlyRootfs: true, Memory: 64 << 20, NanoCpus: 5e8, PidsLimit: 10, ConsoleSize: [2]uint{24, 80},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := newContainer(testImage(), o)
			if err != nil {
				t.Fatal(err)
			}
			c.ID = strings.Repeat("0123456789abcdef", 4)
			c.Config.Hostname = pick(c.Config.Hostname, shortID(c.ID))
			u := specs.User{}
			if name == "flags" {
				u = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000}}
			}
			s, err := buildSpec(c, specInput{Rootfs: "/rootfs", Dir: "/c", User: u, Home: "/root"})
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Linux.Seccomp.Syscalls) == 0 || s.Linux.Seccomp.DefaultAction != specs.ActErrno {
				t.Error("not the default profile")
			}
			s.Linux.Seccomp = nil
			got, err := json.MarshalIndent(s, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name+".json"), append(got, '\n'))
		})
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -update): %v\n%s", path, err, got)
	}
}

func TestMergeEnv(t *testing.T) {
	got := mergeEnv([]string{"A=1", "B=2", "C=3"}, []string{"B=x", "A", "D=", "E"})
	if want := []string{"B=x", "C=3", "D="}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestCPULimit(t *testing.T) {
	const refused = "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
	for nano, want := range map[int64]string{0: "", 1e7: "", 2e9: "", 2e9 + 1: refused, 1e7 - 1: refused, -1e9: refused} {
		got := ""
		if err := (&HostConfig{NanoCpus: nano}).checkLimits(2); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%d: %q, want %q", nano, got, want)
		}
	}
}

func TestNewContainer(t *testing.T) {
	img := testImage()
	img.Config.Config.Entrypoint = []string{"/entry", "-x"}
	empty, echo := "", "echo"
	for _, c := range []struct {
		o    CreateOptions
		want string
	}{
		{CreateOptions{}, "/entry -x sh"},
		{CreateOptions{Cmd: []string{"ls"}}, "/entry -x ls"},
		{CreateOptions{Entrypoint: &echo}, "echo"},
		{CreateOptions{Entrypoint: &echo, Cmd: []string{"a"}}, "echo a"},
		{CreateOptions{Entrypoint: &empty, Cmd: []string{"a"}}, "a"},
		{CreateOptions{Entrypoint: &empty}, "error: no command specified"},
		{CreateOptions{HostConfig: HostConfig{Binds: []string{"v:/x"}}}, "error: create v: volume name is too short, names should be at least two alphanumeric characters"},
		{CreateOptions{HostConfig: HostConfig{Binds: []string{"/a:x"}}}, "error: invalid volume specification: '/a:x': invalid mount config for type \"bind\": invalid mount path: 'x' mount path must be absolute"},
		{CreateOptions{HostConfig: HostConfig{Binds: []string{"/a:/b:z"}}}, "error: invalid volume specification: '/a:/b:z': invalid mode: z"},
		{CreateOptions{HostConfig: HostConfig{MemorySwap: 5}}, "error: You should always set the Memory limit when using Memoryswap limit, see usage"},
		{CreateOptions{HostConfig: HostConfig{Memory: 6, Limits: Limits{MemoryReservation: 7}}}, "error: Minimum memory limit can not be less than memory reservation limit, see usage"},
		{CreateOptions{HostConfig: HostConfig{Memory: 6, MemorySwap: 5}}, "error: Minimum memoryswap limit should be larger than memory limit, see usage"},
		{CreateOptions{HostConfig: HostConfig{CapDrop: []string{"x"}}}, `error: invalid CapDrop: unknown capability: "CAP_X"`},
	} {
		got := ""
		if n, err := newContainer(img, c.o); err != nil {
			got = "error: " + err.Error()
		} else {
			got = n.CommandLine()
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.o, got, c.want)
		}
	}
}

// The image's passwd is read inside of the image, whatever links it is made of.
func TestLookupUser(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"etc", "real"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.WriteFile(filepath.Join(root, "real/passwd"), []byte("root:x:0:0::/root:/bin/sh\nuser:x:1000:100::/home:/bin/sh\nwraps:x:4294967296:0::/:\n"), 0o644)
	_ = os.WriteFile(filepath.Join(root, "etc/group"), []byte("users:x:100:\nextra:x:2000:user\n"), 0o644)
	_ = os.Symlink("/../../../real/passwd", filepath.Join(root, "etc/passwd"))
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for who, want := range map[string]specs.User{
		"":           {AdditionalGids: []uint32{0}},
		"user":       {UID: 1000, GID: 100, AdditionalGids: []uint32{100, 2000}},
		"1000":       {UID: 1000, GID: 100, AdditionalGids: []uint32{100, 2000}},
		"user:extra": {UID: 1000, GID: 2000, AdditionalGids: []uint32{2000}},
		"7:8":        {UID: 7, GID: 8, AdditionalGids: []uint32{8}},
	} {
		u, _, err := lookupUser(int(f.Fd()), who)
		if err != nil || u.UID != want.UID || u.GID != want.GID || !slices.Equal(u.AdditionalGids, want.AdditionalGids) {
			t.Errorf("%q: %+v %v, want %+v", who, u, err, want)
		}
	}
	if u, _, err := lookupUser(int(f.Fd()), "wraps"); err == nil {
		t.Errorf("an id of 33 bits became %d", u.UID)
	}
	os.Remove(filepath.Join(root, "etc/group"))
	_ = os.Symlink("/dev/zero", filepath.Join(root, "etc/group"))
	if _, _, err := lookupUser(int(f.Fd()), "user:extra"); err == nil {
		t.Error("a group of a file outside was found")
	}
}

func testEngine(t *testing.T) *Engine {
	t.Helper()
	dir := t.TempDir()
	e, err := Open(filepath.Join(dir, "root"), filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// make writes a record as Create does, without an image.
func (e *Engine) make(t *testing.T, name string) *Container {
	t.Helper()
	c := &Container{ID: newID(), Created: time.Now()}
	if err := os.Mkdir(e.dir(c.ID), 0o710); err != nil {
		t.Fatal(err)
	}
	lock, err := e.newLock(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	if c.Name, err = e.reserve(name, c.ID); err != nil {
		t.Fatal(err)
	}
	if err := e.writeRecord(c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRecords(t *testing.T) {
	e := testEngine(t)
	a, b := e.make(t, "first"), e.make(t, "")
	for _, ref := range []string{a.ID, a.ID[:12], "first", "/first"} {
		if l, err := e.Find(ref); err != nil || l.ID != a.ID || l.Status != Created {
			t.Errorf("%s: %v %v", ref, l, err)
		}
	}
	if _, err := e.Find("nosuch"); !errors.Is(err, ErrNotFound) || err.Error() != "No such container: nosuch" {
		t.Error(err)
	}
	if _, err := e.reserve("first", b.ID); err == nil || !strings.HasPrefix(err.Error(), `Conflict. The container name "/first" is already in use by container "`+a.ID) {
		t.Error(err)
	}
	if _, err := e.reserve("a", b.ID); err == nil || err.Error() != "invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed" {
		t.Error(err)
	}
	if list, err := e.List(); err != nil || len(list) != 2 || list[0].ID != b.ID {
		t.Errorf("%v %v", list, err)
	}
	if err := e.Remove("first", false, false); err != nil {
		t.Error(err)
	}
	if _, err := e.reserve("first", b.ID); err != nil {
		t.Error(err)
	}
}

// A container runs if the very process is there; one whose monitor has died gets an end.
func TestStatus(t *testing.T) {
	e := testEngine(t)
	c := e.make(t, "")
	st, _ := sys.ReadProcStat(os.Getpid())
	run := runState{PID: os.Getpid(), Start: st.Start, Started: time.Now()}
	_ = os.Mkdir(e.runDir(c.ID), 0o700)
	if err := run.write(e.runDir(c.ID)); err != nil {
		t.Fatal(err)
	}
	if l, err := e.Find(c.ID); err != nil || l.Status != Running || l.PID != os.Getpid() {
		t.Fatalf("%+v %v", l, err)
	}
	run.Start++ // the pid is another process's now
	if err := run.write(e.runDir(c.ID)); err != nil {
		t.Fatal(err)
	}
	l, err := e.Find(c.ID)
	if err != nil || l.Status != Exited || l.ExitCode != 255 || l.FinishedAt.IsZero() {
		t.Fatalf("%+v %v", l, err)
	}
}

// A folder that a crash left is swept when it is old; its name is free at once.
func TestSweep(t *testing.T) {
	e := testEngine(t)
	c := e.make(t, "crashed")
	_ = os.Remove(e.dir(c.ID, recordName))
	if _, err := e.List(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(e.dir(c.ID)); err != nil {
		t.Error("swept while it may be in the making")
	}
	old := time.Now().Add(-2 * time.Minute)
	_ = os.Chtimes(e.dir(c.ID), old, old)
	if _, err := e.List(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(e.dir(c.ID)); err == nil {
		t.Error("not swept")
	}
	e.make(t, "crashed")
}
