package layer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A path that is too long to be looked at is named in one short line.
func TestLongPathInError(t *testing.T) {
	top := t.TempDir()
	dir, err := unix.Open(top, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("a", 200)
	for range 30 {
		if err := unix.Mkdirat(dir, name, 0o755); err != nil {
			t.Fatal(err)
		}
		sub, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(dir)
		dir = sub
	}
	_ = unix.Close(dir)
	root, err := os.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	lower := filepath.Join(t.TempDir(), "l")
	if err := os.Mkdir(lower, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = Changes(t.Context(), Tree{Root: root, Lowers: []string{lower}})
	want := `layer: compare: "` + name[:64] + `"… (`
	if err == nil || !strings.HasPrefix(err.Error(), want) || len(err.Error()) > 200 {
		t.Errorf("%v, want %s…", err, want)
	}
}
