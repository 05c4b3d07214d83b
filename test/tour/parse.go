package main

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// command is one "$ …" of the file.
type command struct {
	text    string   // of several lines where it was continued
	want    []string // the lines below it
	got     []string // what replaces them
	changed bool
	line    int // of the file, from 1
	end     int // the line after want
	step    int // number of the heading that it stands under; atEnd under "## Clean up"
	block   int
	only    string
	where   [][2]string // has PATH, since and before KERNEL
	numbers bool
}

const (
	begin = 0             // before the first step: what the others need
	atEnd = math.MaxInt32 // always run
)

type document struct {
	lines    []string
	commands []*command
}

var heading = regexp.MustCompile(`^## (\d+)\.`)

func parse(text string) (*document, error) {
	d := &document{lines: strings.Split(text, "\n")}
	step, block, inside := begin, 0, false
	var fence command // what its info string says
	for i := 0; i < len(d.lines); i++ {
		l := d.lines[i]
		switch {
		case !inside && strings.HasPrefix(l, "```console"):
			block++
			inside, fence = true, command{block: block}
			for _, w := range strings.Fields(l)[1:] {
				switch w {
				case "v1", "v2":
					fence.only = w
				case "numbers":
					fence.numbers = true
				default:
					if key, value, ok := strings.Cut(w, ":"); ok && key == "has" || key == "since" || key == "before" {
						fence.where = append(fence.where, [2]string{key, value})
						continue
					}
					return nil, fmt.Errorf("line %d: unknown word %q after console", i+1, w)
				}
			}
		case inside && strings.HasPrefix(l, "```"):
			inside = false
		case inside && strings.HasPrefix(l, "$ "):
			i = d.command(i, step, fence)
		case inside:
			return nil, fmt.Errorf("line %d: output without a command", i+1)
		default:
			if m := heading.FindStringSubmatch(l); m != nil {
				step, _ = strconv.Atoi(m[1])
			} else if l == "## Clean up" {
				step = atEnd
			}
		}
	}
	if inside {
		return nil, fmt.Errorf("the last block is not closed")
	}
	return d, nil
}

// command reads the command at line i and gives the last line that is its own.
func (d *document) command(i, step int, fence command) int {
	c := fence
	c.text, c.line, c.step = d.lines[i][2:], i+1, step
	for i++; i < len(d.lines) && strings.HasPrefix(d.lines[i], "> "); i++ {
		c.text += "\n" + d.lines[i][2:]
	}
	from := i
	for i < len(d.lines) && !strings.HasPrefix(d.lines[i], "$ ") && !strings.HasPrefix(d.lines[i], "```") {
		i++
	}
	c.want, c.end = d.lines[from:i], i
	d.commands = append(d.commands, &c)
	return i - 1
}

// rules are those of each command, in order.
func (d *document) rules() []rules {
	exact := map[int]map[string]bool{}
	for _, c := range d.commands {
		if exact[c.step] == nil {
			exact[c.step] = map[string]bool{}
		}
		for _, n := range number.FindAllString(c.text, -1) {
			exact[c.step][n] = true
		}
	}
	all := make([]rules, len(d.commands))
	for i, c := range d.commands {
		all[i] = rules{numbers: c.numbers, exact: exact[c.step], bound: map[string]string{}}
		if i > 0 && d.commands[i-1].block == c.block {
			all[i].bound = all[i-1].bound
		}
	}
	return all
}

// render is the file with the output that was printed.
func (d *document) render() string {
	var out []string
	at := 0
	for _, c := range d.commands {
		if c.changed {
			out = append(append(out, d.lines[at:c.end-len(c.want)]...), c.got...)
			at = c.end
		}
	}
	return strings.Join(append(out, d.lines[at:]...), "\n")
}
