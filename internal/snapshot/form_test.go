package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestForms mounts by each way to tell the kernel of 70 layers.
func TestForms(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
	dir := t.TempDir()
	mk := func(name string) string {
		p := filepath.Join(dir, name)
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	var lowers []string
	for i := range 70 {
		lowers = append(lowers, mk(fmt.Sprintf("%d:,%s", i, strings.Repeat("long", 20))))
		if err := os.WriteFile(filepath.Join(lowers[i], fmt.Sprint(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := Overlay(lowers, mk("upper"), mk("work"), Options{})
	target := mk("target")
	legacy := false
	for _, form := range []Form{FormFD, FormAdd, FormString} {
		if form == FormAdd && legacy {
			continue
		}
		tree, got, err := m.openOverlay(form)
		if errors.Is(err, errForm) { // an older kernel: the next form is for it
			legacy = errors.Is(err, unix.EOPNOTSUPP)
			continue
		}
		if err != nil || got != form {
			t.Fatalf("%s: %s, %v", form, got, err)
		}
		err = Attach(tree, target)
		tree.Close()
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		names, err := os.ReadDir(target)
		if uerr := Unmount(target); uerr != nil {
			t.Fatal(uerr)
		}
		if err != nil || len(names) != len(lowers) {
			t.Fatalf("%s: %d names, %v", form, len(names), err)
		}
	}
}

func TestTooManyForAPage(t *testing.T) {
	lowers := make([]string, 400)
	for i := range lowers {
		lowers[i] = t.TempDir()
	}
	_, files, err := Overlay(lowers, "", "", Options{}).data()
	closeAll(files)
	if err == nil || !strings.HasPrefix(err.Error(), "snapshot: overlay: 400 layers need ") {
		t.Errorf("got %v", err)
	}
}
