package registry

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/term"

	"vitro/internal/store"
)

// Progress shows the events of one pull or load. Close after the last event.
type Progress interface {
	Event(store.Event)
	Close()
}

// NewProgress returns bars when w is a terminal and plain lines elsewhere.
func NewProgress(w io.Writer) Progress {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return NewBars(w, func() (int, int) {
			cols, rows, err := term.GetSize(int(f.Fd()))
			if err != nil {
				return 80, 24
			}
			return cols, rows
		})
	}
	return NewLines(w)
}

// lines writes each new state of a layer as docker does without a terminal.
type lines struct {
	w    io.Writer
	last map[int]store.State
}

// NewLines returns a Progress of plain lines.
func NewLines(w io.Writer) Progress { return &lines{w: w, last: map[int]store.State{}} }

func (l *lines) Event(e store.Event) {
	if e.State == store.Retrying {
		fmt.Fprintf(l.w, "%s: Retrying: %v\n", e.ID(), e.Err)
		return
	}
	if e.State == l.last[e.Layer] || moving(e.State) {
		return
	}
	l.last[e.Layer] = e.State
	fmt.Fprintf(l.w, "%s: %s\n", e.ID(), e.State)
}

func (l *lines) Close() {}

const (
	redraw   = 80 * time.Millisecond
	barWidth = 50
)

// bars keeps one line for each layer and redraws them in place.
type bars struct {
	w     io.Writer
	size  func() (cols, rows int)
	state []store.Event // by layer
	seen  []bool
	drawn int // lines on the screen
	last  time.Time
}

// NewBars returns a Progress for a terminal; size gives its columns and rows.
func NewBars(w io.Writer, size func() (cols, rows int)) Progress { return &bars{w: w, size: size} }

func (b *bars) Event(e store.Event) {
	for len(b.state) <= e.Layer {
		b.state, b.seen = append(b.state, store.Event{}), append(b.seen, false)
	}
	same := b.seen[e.Layer] && b.state[e.Layer].State == e.State
	b.state[e.Layer], b.seen[e.Layer] = e, true
	if same && time.Since(b.last) < redraw {
		return
	}
	b.draw()
}

func (b *bars) Close() { b.draw() }

// draw writes all lines in one write. When there are more layers than rows, finished ones are left out first.
func (b *bars) draw() {
	b.last = time.Now()
	cols, rows := b.size()
	var show []store.Event
	for i, e := range b.state {
		if b.seen[i] {
			show = append(show, e)
		}
	}
	if over := len(show) - (rows - 1); over > 0 && rows > 1 {
		kept := show[:0]
		for _, e := range show {
			if over > 0 && finished(e) {
				over--
				continue
			}
			kept = append(kept, e)
		}
		show = kept[:min(len(kept), rows-1)]
	}
	var s strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", b.drawn)
	}
	for _, e := range show {
		line := barLine(e, cols)
		if len(line) > cols && cols > 0 {
			line = line[:cols]
		}
		s.WriteString("\r\x1b[K" + line + "\n")
	}
	if b.drawn > len(show) {
		s.WriteString("\x1b[J")
	}
	b.drawn = len(show)
	_, _ = io.WriteString(b.w, s.String())
}

func finished(e store.Event) bool {
	return e.State == store.PullComplete || e.State == store.AlreadyExists || e.State == Pushed || e.State == LayerAlreadyExists
}

// moving tells a state that says how far it is.
func moving(s store.State) bool {
	return s == store.Downloading || s == store.Extracting || s == Pushing
}

func barLine(e store.Event, cols int) string {
	line := fmt.Sprintf("%s: %s", e.ID(), e.State)
	if !moving(e.State) || e.Total == 0 {
		return line
	}
	amount := fmt.Sprintf("%s/%s", units.HumanSizeWithPrecision(float64(e.Current), 4), units.HumanSizeWithPrecision(float64(e.Total), 4))
	width := min(barWidth, cols-len(line)-len(amount)-6)
	if width < 5 {
		return line + " " + amount
	}
	n := int(int64(width) * min(e.Current, e.Total) / e.Total)
	bar := strings.Repeat("=", n)
	if n < width {
		bar += ">" + strings.Repeat(" ", width-n-1)
	}
	return fmt.Sprintf("%s [%s] %s", line, bar, amount)
}
