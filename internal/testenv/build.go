package testenv

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Repo is the root folder of the repository.
func Repo(t testing.TB) string {
	t.Helper()
	dir, err := repo()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var repo = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
})

// VitrunPath builds vitrun as `make build` does, once in a run, and gives its path. VITRUN=path uses another program
// (a peer, or an older build).
func VitrunPath(t testing.TB) string { t.Helper(); return program(t, "vitrun", vitrun) }

// VitroPath is VitrunPath for vitro; VITRO=path uses another program.
func VitroPath(t testing.TB) string { t.Helper(); return program(t, "vitro", vitro) }

// HelloPath is the program of the embedded image: static, and useful in a root filesystem with no shell.
func HelloPath(t testing.TB) string { t.Helper(); return program(t, "hello", hello) }

var (
	vitrun = sync.OnceValues(func() (string, error) { return build("vitrun") })
	vitro  = sync.OnceValues(func() (string, error) { return build("vitro") })
	hello  = sync.OnceValues(func() (string, error) { return build("hello") })
)

func program(t testing.TB, name string, build func() (string, error)) string {
	t.Helper()
	if p := os.Getenv(strings.ToUpper(name)); p != "" {
		return p
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// build puts the program in the run's own folder: `go build -o` over a program that another test binary runs is ETXTBSY.
func build(name string) (string, error) {
	if runDir == "" {
		return "", fmt.Errorf("build %s: TestMain of this package does not call testenv.Main", name)
	}
	dir, err := repo()
	if err != nil {
		return "", err
	}
	out := filepath.Join(runDir, "bin", name)
	flags := "-s -w"
	if name != "hello" {
		flags += " -E vitro/internal/boot.Entry"
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", flags, "-o", out, "./cmd/"+name)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOEXPERIMENT=norandomizedheapbase64")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/%s: %w\n%s", name, err, b)
	}
	return out, nil
}

// Rootfs makes a root filesystem from Debian's static busybox in t.TempDir: all applets as links in /bin, the usual
// empty folders, and /etc/passwd and /etc/group with root and user (1000).
func Rootfs(t testing.TB) string {
	t.Helper()
	const busybox = "/bin/busybox"
	Need(t, Tool("busybox"))
	root := filepath.Join(t.TempDir(), "rootfs")
	if err := MakeRootfs(root, busybox); err != nil {
		t.Fatal(err)
	}
	return root
}

// MakeRootfs is Rootfs for the benchmarks: root must not be there yet.
func MakeRootfs(root, busybox string) error {
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", busybox, err)
	}
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "var"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	if err := copyFile(filepath.Join(root, "bin/busybox"), busybox, 0o755); err != nil {
		return err
	}
	for _, a := range strings.Fields(string(applets)) {
		if a == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n",
		"group":  "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n",
	} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(to, from string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
