package explain

import (
	"fmt"
	"slices"
	"strings"
)

// Page is how to print.
type Page struct {
	Color bool
	Width int // columns; 0: lines are as long as they are
	Rows  int // of a view; 0: all
}

// maxCell bounds a text in a table, in columns.
const maxCell = 200

type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

// cell is a text and its colour. Whatever it holds, it goes through Safe.
type cell struct {
	text  string
	style style
}

func c(a ...any) cell                 { return cell{text: fmt.Sprint(a...)} }
func cs(s style, a ...any) cell       { return cell{fmt.Sprint(a...), s} }
func cf(format string, a ...any) cell { return cell{text: fmt.Sprintf(format, a...)} }
func row(cells ...cell) []cell        { return cells }
func texts(st style, t ...string) (out []cell) {
	for _, s := range t {
		out = append(out, cell{s, st})
	}
	return out
}

// printer collects lines.
type printer struct {
	Page
	b     strings.Builder
	begin int // lines of this view so far
}

func (p *printer) put(s style, text string) {
	if p.Color && s != plain && text != "" {
		p.b.WriteString("\x1b[" + string(s) + "m" + text + "\x1b[0m")
		return
	}
	p.b.WriteString(text)
}

func (p *printer) title(name string, more ...string) {
	if p.b.Len() > 0 {
		p.b.WriteByte('\n')
	}
	p.begin = 0
	p.put(bold, strings.ToUpper(name))
	for _, m := range more {
		if m != "" {
			p.put(dim, "  "+Safe(m, maxCell))
		}
	}
	p.line()
}

func (p *printer) line() { p.b.WriteByte('\n'); p.begin++ }

// say prints a sentence, over as many lines as it needs.
func (p *printer) say(s style, format string, a ...any) {
	text := Safe(fmt.Sprintf(format, a...), 5*maxCell)
	limit := p.Width
	if limit == 0 {
		limit = 120
	}
	for text != "" {
		rest := ""
		if width(text) > limit-2 {
			if i := strings.LastIndexByte(text[:min(len(text), limit-2)], ' '); i > 0 {
				text, rest = text[:i], text[i+1:]
			}
		}
		p.b.WriteString("  ")
		p.put(s, text)
		p.line()
		text = rest
	}
}

// table prints aligned columns; a page's rows are not exceeded, and lines are cut at its width.
func (p *printer) table(head []string, rows [][]cell) {
	left := len(rows)
	if p.Rows > 0 {
		left = max(3, p.Rows-p.begin-2)
	}
	more := max(0, len(rows)-left)
	if more == 1 {
		more = 0 // the line that says so is as long
	}
	rows = rows[:len(rows)-more]
	if head != nil {
		rows = append([][]cell{texts(dim, head...)}, rows...)
	}
	widths := []int{}
	safe := make([][]cell, len(rows))
	for i, r := range rows {
		for j, c := range r {
			c.text = Safe(c.text, maxCell)
			safe[i] = append(safe[i], c)
			if j == len(widths) {
				widths = append(widths, 0)
			}
			widths[j] = max(widths[j], width(c.text))
		}
	}
	p.narrow(widths)
	for _, r := range safe {
		p.row(r, widths)
	}
	if more > 0 {
		p.say(dim, "… %d more (--view shows all)", more)
	}
}

// narrow takes from the widest columns until the line fits.
func (p *printer) narrow(widths []int) {
	for total := 2 * len(widths); p.Width > 0; {
		sum := total
		for _, w := range widths {
			sum += w
		}
		i := slices.Index(widths, slices.Max(append(widths, 0)))
		if over := sum - p.Width; over <= 0 || i < 0 || widths[i] <= 12 {
			return
		}
		widths[i] = max(12, widths[i]-max(1, min(sum-p.Width, widths[i]/4)))
	}
}

func (p *printer) row(r []cell, widths []int) {
	last := len(r) - 1
	for last >= 0 && r[last].text == "" {
		last--
	}
	for j := 0; j <= last; j++ {
		text := cut(r[j].text, widths[j])
		p.b.WriteString("  ")
		p.put(r[j].style, text)
		if j < last {
			p.b.WriteString(strings.Repeat(" ", widths[j]-width(text)))
		}
	}
	p.line()
}

// fields prints names and values.
func (p *printer) fields(rows ...[]cell) {
	for i := range rows {
		rows[i][0].style = dim
	}
	p.table(nil, rows)
}

// Text is the whole explanation for people.
func (f *Facts) Text(page Page) string {
	p := &printer{Page: page}
	name := f.Name
	if name == "" {
		name = f.Command
	}
	p.put(bold, Safe(name, maxCell))
	p.put(dim, fmt.Sprintf("  pid %d", f.PID))
	if f.Hostname != "" {
		p.put(dim, "  hostname "+Safe(f.Hostname, 64))
	}
	p.line()
	for _, v := range []func(*printer){
		f.processes, f.namespaces, f.cgroup, f.capabilities, f.mounts, f.users, f.network, f.security,
	} {
		v(p)
	}
	return p.b.String()
}
