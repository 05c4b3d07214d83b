package explain

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vitro/internal/testenv"
)

// An overlay is known by its upper folder's inode, not by its name: a container can mount its own, of folders of a FUSE server of its own.
func TestKnownOverlay(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.MountNS, testenv.Overlay)
	for _, c := range []struct {
		name, hide string
		want       bool
	}{{"the host's folders", ":", true}, {"names that mean others inside", "mount -t tmpfs t h; mkdir h/u h/w", false}} {
		root, dir := testenv.Rootfs(t), t.TempDir()
		for _, d := range []string{"/h", "/h/u", "/h/w", "/m"} {
			if err := os.Mkdir(dir+d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		script := fmt.Sprintf("cd %s; mount --make-rprivate /; %s; mount -t overlay o -o lowerdir=%s,upperdir=$PWD/h/u,workdir=$PWD/h/w m; exec chroot m /bin/sleep 995", dir, c.hide, root)
		pid := spawn(t, unix.CLONE_NEWNS, "sh", "-ec", script)
		eventually(t, "the chroot", func() bool {
			f, err := Gather(Options{PID: pid, Views: []string{"processes"}})
			return err == nil && strings.HasPrefix(f.Command, "/bin/sleep")
		})
		m, err := scan(nil, false)
		if err != nil {
			t.Fatal(err)
		}
		tg, err := m.target(pid)
		if err != nil {
			t.Fatal(err)
		}
		if mt := tg.rootMount(); mt == nil || mt.Type != "overlay" || tg.knownOverlay(mt) != c.want {
			t.Errorf("%s: %+v, known: want %v", c.name, mt, c.want)
		}
		tg.close()
	}
}
