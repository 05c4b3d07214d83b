package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"vitro/internal/explain"
	"vitro/internal/runtime"
	"vitro/internal/store"
)

// vitrunRoot is where vitrun keeps its containers' state when it is not told otherwise.
const vitrunRoot = "/run/vitrun"

func explainCmd(a *app) *cobra.Command {
	var views []string
	var format string
	cmd := &cobra.Command{
		Use: "explain [OPTIONS] CONTAINER|PID", Short: "Show what a container or process is made of, and what it could do to the host", Args: oneArg(),
		RunE: func(cmd *cobra.Command, args []string) error {
			s := a.seen()
			pid, name, err := s.find(args[0])
			if err != nil {
				return err
			}
			f, err := explain.Gather(explain.Options{
				PID: pid, Name: name, Views: views, Containers: s.containers(), Layers: s.layers,
				Volumes: []string{filepath.Join(a.root, "volumes")},
			})
			if err != nil {
				return err
			}
			return show(cmd, format, f, func(p explain.Page) string {
				if views != nil {
					p.Rows = 0
				}
				return f.Text(p)
			})
		},
	}
	cmd.Flags().StringSliceVar(&views, "view", nil, "Show only: "+strings.Join(explain.Views, ", "))
	formatFlag(cmd, &format)
	return cmd
}

func oneArg() cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return fmt.Errorf("%q requires exactly 1 argument.\nSee '%s --help'.\n\nUsage:  %s\n\n%s", cmd.CommandPath(), cmd.CommandPath(), cmd.UseLine(), cmd.Short)
	}
}

func formatFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVar(format, "format", "text", "'text' or 'json'")
}

// show prints v as JSON, or as text for the terminal there is.
func show(cmd *cobra.Command, format string, v any, text func(explain.Page) string) error {
	w := cmd.OutOrStdout()
	switch format {
	case "json":
		b, err := explain.JSON(v)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	case "text":
		_, err := io.WriteString(w, text(page(w)))
		return err
	}
	return fmt.Errorf("--format: %q is neither text nor json", format)
}

// page is the size of the terminal; without one lines are whole, and a view has as many as fit on a usual screen.
func page(w io.Writer) explain.Page {
	p := explain.Page{Rows: 40}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return p
	}
	p.Color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if cols, rows, err := term.GetSize(int(f.Fd())); err == nil && cols > 0 {
		p.Width, p.Rows = max(cols, 60), max(rows-1, 20)
	}
	return p
}

// sight is what runs on the machine by vitro's and vitrun's state folders. It only reads: engine.List would clear away what
// crashed commands left.
type sight struct {
	root string
	list []seenContainer
}

type seenContainer struct {
	id, name string
	pid      int
}

// names are those of vitro's containers, by id.
func (a *app) names() map[string]string {
	names := map[string]string{}
	links, _ := os.ReadDir(filepath.Join(a.root, "names"))
	for _, l := range links {
		if id, err := os.Readlink(filepath.Join(a.root, "names", l.Name())); err == nil {
			names[id] = l.Name()
		}
	}
	return names
}

func (a *app) seen() *sight {
	allProcessors() // what reads the machine reads it side by side
	s := &sight{root: a.root}
	names := a.names()
	for _, root := range []string{filepath.Join(a.runRoot, "runtime"), vitrunRoot} {
		states, err := (&runtime.Runtime{Root: root}).List()
		if err != nil {
			continue // not there
		}
		for _, st := range states {
			if st.Pid == 0 || st.Status == specs.StateStopped {
				continue
			}
			s.list = append(s.list, seenContainer{st.ID, names[st.ID], st.Pid})
		}
	}
	return s
}

func (c *seenContainer) title() string {
	if c.name != "" {
		return c.name
	}
	return c.id
}

func (s *sight) containers() (out []explain.Container) {
	for i := range s.list {
		out = append(out, explain.Container{Name: s.list[i].title(), PID: s.list[i].pid})
	}
	return out
}

// find names a container by name, id or the begin of an id; else a process.
func (s *sight) find(ref string) (pid int, name string, err error) {
	if ref == "" {
		return 0, "", errors.New("a container or process is needed: the name is empty")
	}
	for i := range s.list {
		if c := &s.list[i]; c.name == strings.TrimPrefix(ref, "/") || c.id == ref {
			return c.pid, c.title(), nil
		}
	}
	if n, err := strconv.Atoi(ref); err == nil && n > 0 {
		if _, err := os.Stat("/proc/" + strconv.Itoa(n)); err == nil {
			return n, "", nil
		}
	}
	var found []*seenContainer
	for i := range s.list {
		if ref != "" && strings.HasPrefix(s.list[i].id, ref) {
			found = append(found, &s.list[i])
		}
	}
	switch {
	case len(found) == 1:
		return found[0].pid, found[0].title(), nil
	case len(found) > 1:
		return 0, "", fmt.Errorf("multiple IDs found with provided prefix: %s", ref)
	case s.known(ref):
		return 0, "", fmt.Errorf("container %s is not running: there is no process to explain", ref)
	}
	return 0, "", fmt.Errorf("no running container and no process: %s", ref)
}

// known: a container of vitro's that does not run.
func (s *sight) known(ref string) bool {
	ids, _ := os.ReadDir(filepath.Join(s.root, "containers"))
	if _, err := os.Lstat(filepath.Join(s.root, "names", filepath.Base(ref))); err == nil {
		return true
	}
	return slices.ContainsFunc(ids, func(d os.DirEntry) bool { return len(ref) > 3 && strings.HasPrefix(d.Name(), ref) })
}

// layers reads what the store noted of the lower folders that are its own: <root>/layers/<chain ID>/fs.
func (s *sight) layers(dirs []string) (out []explain.Layer) {
	for _, d := range dirs {
		l := explain.Layer{Path: d}
		if strings.HasPrefix(d, filepath.Join(s.root, "layers")+"/") {
			var r store.Record
			if b, err := os.ReadFile(filepath.Join(filepath.Dir(d), "layer.json")); err == nil && json.Unmarshal(b, &r) == nil {
				l.Digest, l.Size = r.DiffID.String(), r.Size
			}
		}
		out = append(out, l)
	}
	return out
}
