package safepath

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHostile(t *testing.T) {
	outside := t.TempDir()
	dir := t.TempDir()
	for _, err := range []error{
		os.WriteFile(outside+"/secret", []byte("host"), 0o644),
		os.Mkdir(dir+"/etc", 0o755),
		os.WriteFile(dir+"/etc/passwd", []byte("inside"), 0o644),
		os.WriteFile(dir+"/secret", []byte("inside"), 0o644),
		os.Symlink(outside+"/secret", dir+"/abs"),
		os.Symlink("../../../../../../../../etc/passwd", dir+"/etc/up"),
		os.Symlink("/etc", dir+"/e"),
		os.Symlink("/proc/self/root", dir+"/magic"),
		unix.Mkfifo(dir+"/fifo", 0o644),
		os.WriteFile(dir+"/big", make([]byte, 100), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for path, want := range map[string]error{
		"etc/passwd": nil, "/etc/passwd": nil, "../../etc/passwd": nil, "e/passwd": nil, "etc/up": nil,
		"abs": unix.ENOENT, "magic/etc/passwd": unix.ENOENT, "fifo": unix.EINVAL, "etc": unix.EINVAL, "big": unix.EFBIG,
	} {
		got, err := ReadFile(int(root.Fd()), path, 50)
		if !errors.Is(err, want) || want == nil && string(got) != "inside" {
			t.Errorf("%s: %q %v, want %v", path, got, err, want)
		}
	}
}
