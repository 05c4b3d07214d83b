package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"vitro/internal/engine"
	"vitro/internal/layer"
)

// copier is one cp.
type copier struct {
	e                      *engine.Engine
	archive, follow, quiet bool
}

func cpCmd(a *app) *cobra.Command {
	c := &copier{}
	cmd := &cobra.Command{
		Use: "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tvitro cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH", Short: "Copy files/folders between a container and the local filesystem",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if args[0] == "" {
				return errors.New("source can not be empty")
			}
			if args[1] == "" {
				return errors.New("destination can not be empty")
			}
			from, src := splitCp(args[0])
			to, dst := splitCp(args[1])
			switch {
			case from != "" && to != "":
				return errors.New("copying between containers is not supported")
			case from == "" && to == "":
				return errors.New("must specify at least one container source")
			}
			if c.e, err = a.open(); err != nil {
				return err
			}
			if from != "" {
				return c.out(cmd.Context(), from, src, dst)
			}
			return c.in(cmd.Context(), src, to, dst)
		},
	}
	cmd.Flags().BoolVarP(&c.archive, "archive", "a", false, "Archive mode (copy all uid/gid information)")
	cmd.Flags().BoolVarP(&c.follow, "follow-link", "L", false, "Always follow symbol link in SRC_PATH")
	cmd.Flags().BoolVarP(&c.quiet, "quiet", "q", false, "Suppress progress output during copy")
	return cmd
}

// splitCp splits CONTAINER:PATH. A path that begins with a slash or a dot is local, whatever colons are in it.
func splitCp(s string) (container, p string) {
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") {
		return "", s
	}
	container, p, ok := strings.Cut(s, ":")
	if !ok || strings.HasPrefix(container, ".") {
		return "", s
	}
	return container, p
}

// end is one end of a copy.
type end struct {
	path        string
	base        string // last component; "." asks for a folder's content
	exists, dir bool
}

// dirAsked: the path can only be a folder's.
func dirAsked(p string) bool { return strings.HasSuffix(p, "/") || contentAsked(p) }

func contentAsked(p string) bool { return p == "." || strings.HasSuffix(p, "/.") }

// splitEntry is the folder and the name in it.
func splitEntry(p string) (dir, base string) {
	clean := path.Clean(p)
	if contentAsked(p) {
		return clean, "."
	}
	return path.Dir(clean), path.Base(clean)
}

// place finds the folder to unpack in, and the name that the source gets there: docker cp's rules.
func place(src, dst end) (dir, name string, err error) {
	switch dir, name = splitEntry(dst.path); {
	case dst.dir:
		return dst.path, src.base, nil
	case dst.exists && src.dir:
		return "", "", errors.New("cannot copy directory")
	case !dst.exists && !src.dir && dirAsked(dst.path):
		return "", "", errors.New("no such directory")
	}
	return dir, name, nil
}

// out copies from a container to a local path, or to standard output as a tar stream.
func (c *copier) out(ctx context.Context, container, src, dst string) error {
	if src == "" {
		return errors.New("bad parameter: path cannot be empty")
	}
	v, err := c.e.OpenView(container)
	if err != nil {
		return err
	}
	defer v.Close()
	_, base := splitEntry(path.Join("/", src) + map[bool]string{true: "/."}[contentAsked(src)])
	st, err := v.Stat(container, src)
	if err == nil && st.IsLink() && c.follow {
		src = linkTarget(src, st.LinkTarget)
		st, err = v.Stat(container, src)
	}
	if err != nil {
		return err
	}
	if base == "/" {
		base = "."
	}
	if dst == "-" {
		if term.IsTerminal(1) {
			return errors.New("cowardly refusing to copy an archive to a terminal")
		}
		return v.Pack(ctx, os.Stdout, container, src, base)
	}
	to, err := localDestination(dst)
	if err != nil {
		return err
	}
	dir, name, err := place(end{path: src, base: base, exists: true, dir: st.IsDir()}, to)
	if err != nil {
		return err
	}
	if st.IsDir() && !strings.HasSuffix(src, "/") {
		src += "/"
	}
	n, err := pipe(
		func(w io.Writer) error { return v.Pack(ctx, w, container, src, name) },
		func(r io.Reader) error {
			_, err := layer.Apply(ctx, r, dir, layer.ApplyOptions{Format: layer.Plain, Owner: &layer.Owner{UID: os.Geteuid(), GID: os.Getegid()}})
			return err
		})
	if err == nil {
		c.done(n, dst)
	}
	return err
}

// linkTarget is where a link leads, as a path of the container.
func linkTarget(link, target string) string {
	if path.IsAbs(target) {
		return target
	}
	return path.Join("/", path.Dir(strings.TrimRight(link, "/")), target)
}

func kindOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return "a pipe"
	case unix.S_IFSOCK:
		return "a socket"
	}
	return "a device"
}

// localPath makes a path absolute, and keeps what it ends with.
func localPath(p string) string {
	abs, err := filepath.Abs(p)
	if err != nil {
		return p
	}
	switch {
	case contentAsked(p):
		return strings.TrimSuffix(abs, "/") + "/."
	case strings.HasSuffix(p, "/") && abs != "/":
		return abs + "/"
	}
	return abs
}

func localDestination(dst string) (end, error) {
	dst = localPath(dst)
	to := end{path: dst}
	fi, err := os.Stat(dst)
	switch {
	case err == nil:
		to.exists, to.dir = true, fi.IsDir()
		if !fi.IsDir() && !fi.Mode().IsRegular() {
			return to, fmt.Errorf("destination %q must be a directory or a regular file: got %s", dst, kindOf(fi.Sys().(*syscall.Stat_t).Mode))
		}
		if to.path, err = filepath.EvalSymlinks(dst); err != nil {
			return to, err
		}
	case errors.Is(err, unix.ENOTDIR) && dirAsked(dst):
		return to, errors.New("not a directory")
	default:
		parent, _ := splitEntry(dst)
		if fi, err := os.Stat(parent); err != nil || !fi.IsDir() {
			if dirAsked(dst) {
				return to, errors.New("no such directory")
			}
			return to, fmt.Errorf("invalid output path: directory %q does not exist", parent)
		}
	}
	return to, nil
}

// in copies a local path, or a tar stream from standard input, into a container.
func (c *copier) in(ctx context.Context, src, container, dst string) error {
	v, err := c.e.OpenView(container)
	if err != nil {
		return err
	}
	defer v.Close()
	if dst == "" {
		return errors.New("no such directory")
	}
	to := end{path: dst}
	st, err := v.Stat(container, to.path)
	if err == nil && st.IsLink() {
		to.path = linkTarget(to.path, st.LinkTarget)
		st, err = v.Stat(container, to.path)
	}
	if err == nil {
		if !st.IsDir() && !st.IsRegular() && !st.IsLink() {
			return fmt.Errorf("destination \"%s:%s\" must be a directory or a regular file: got %s", container, dst, kindOf(st.Mode))
		}
		to.exists, to.dir = true, st.IsDir()
	}
	if src == "-" {
		if !to.dir {
			return fmt.Errorf("destination \"%s:%s\" must be a directory", container, dst)
		}
		return v.Unpack(ctx, os.Stdin, container, to.path, c.archive)
	}
	from, err := c.localSource(src)
	if err != nil {
		return err
	}
	dir, name, err := place(from, to)
	if err != nil {
		return err
	}
	parent, base := filepath.Split(from.path)
	fd, err := unix.Open(pick(parent, "."), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", parent, err)
	}
	defer unix.Close(fd)
	n, err := pipe(
		func(w io.Writer) error { return layer.Pack(ctx, w, fd, pick(base, "."), name, layer.PackOptions{}) },
		func(r io.Reader) error { return v.Unpack(ctx, r, container, dir, c.archive) })
	if err == nil {
		c.done(n, container+":"+dst)
	}
	return err
}

// localSource follows links on the way to the last component, and that one with -L or if a folder is asked for.
func (c *copier) localSource(src string) (end, error) {
	src = localPath(src)
	from := end{path: src, exists: true}
	_, from.base = splitEntry(src)
	fi, err := os.Lstat(src)
	if err == nil && fi.Mode()&os.ModeSymlink != 0 && c.follow {
		if from.path, err = filepath.EvalSymlinks(src); err == nil {
			fi, err = os.Lstat(from.path)
		}
	}
	if errors.Is(err, unix.ENOTDIR) && dirAsked(src) {
		return from, errors.New("not a directory")
	}
	if err != nil {
		return from, err
	}
	if from.dir = fi.IsDir(); from.dir {
		from.path += "/" // pack opens it, then what is in it
	}
	if from.base == ".." || from.base == "/" {
		from.base = "."
	}
	return from, nil
}

// pipe runs both ends, and counts what goes through.
func pipe(pack func(io.Writer) error, unpack func(io.Reader) error) (int64, error) {
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(w)
		w.CloseWithError(err) // nil is the end of the file
		packed <- err
	}()
	n := &counter{r: r}
	err := unpack(n)
	r.CloseWithError(errors.New("the other end has failed"))
	if e := <-packed; e != nil && err == nil {
		err = e
	}
	return n.n, err
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// done says what Docker says on a terminal.
func (c *copier) done(n int64, to string) {
	if !c.quiet && term.IsTerminal(2) {
		fmt.Fprintln(os.Stderr, "Successfully copied", units.HumanSizeWithPrecision(float64(n), 3), "to", to)
	}
}
