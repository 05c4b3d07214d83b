package main

import (
	"maps"
	"regexp"
	"strings"
)

// kinds are the words that differ from run to run, the first that matches wins. What stands in the file becomes the pattern got.
var kinds = []struct {
	want  string // in the file
	got   string // in what was printed; "" is the word itself
	bound bool   // equal words in a block stay equal, different ones different
	exact bool   // not if the number stands in a command of the step: it is meant
}{
	{want: `\b[0-9a-f]{64}\b`, got: `[0-9a-f]{64}`, bound: true},
	{want: `\b[0-9a-f]{12}\b`, got: `[0-9a-f]{12}`, bound: true},
	{want: `\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b`, got: `(?:[0-9a-f]{2}:){5}[0-9a-f]{2}`, bound: true},
	{want: `\b(?:veth|vitro|br-)[0-9a-f]{8,12}\b`, got: `(?:veth|vitro|br-)[0-9a-f]{8,12}`, bound: true},
	{want: `\bfe80::[0-9a-f:]+`, got: `fe80::[0-9a-f:]+`, bound: true},
	{want: `\b4026\d{6}\b`, got: `4026\d{6}`, bound: true}, // inode of a namespace
	{want: `\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z| ?[+-]\d\d:?\d\d)?(?: UTC)?`, got: `\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z| ?[+-]\d\d:?\d\d)?(?: UTC)?`},
	{want: `\b\d\d:\d\d:\d\d(?:\.\d+)?\b`, got: `\d\d:\d\d:\d\d(?:\.\d+)?`},
	{want: `\b(?:Less than a second|About an? \w+|\d+ (?:seconds?|minutes?|hours?))(?: ago)?\b`, got: `(?:Less than a second|About an? \w+|\d+ (?:seconds?|minutes?|hours?))(?: ago)?`},
	{want: `\b\d+(?:\.\d+)? ?(?:ns|µs|ms|s)\b`, got: `\d+(?:\.\d+)? ?(?:ns|µs|ms|s)`},
	{want: `\b\d+(?:\.\d+)? ?(?:[kKMG]i?)?B\b`, got: `\d+(?:\.\d+)? ?(?:[kKMG]i?)?B`, exact: true},
	{want: `\b\d{1,3}(?:\.\d{1,3}){3}\b`},               // an address is meant
	{want: `\b[1-9]\d{2,8}\b`, got: `\d+`, exact: true}, // pids, inodes, counters
}

var (
	word   = regexp.MustCompile(alternatives())
	number = regexp.MustCompile(`\d+(?:\.\d+)?`)
	ansi   = regexp.MustCompile(`\x1b\[[0-9;]*m`)
	blanks = regexp.MustCompile(`[ \t]+`)
)

func alternatives() string {
	var all []string
	for _, k := range kinds {
		all = append(all, "("+k.want+")")
	}
	return strings.Join(all, "|")
}

// rules say how the output of one command is compared.
type rules struct {
	numbers bool              // every number may differ
	exact   map[string]bool   // numbers that stand in the commands of the step
	bound   map[string]string // of the block: word of the file → word printed, and back with a 0 byte in front
}

// pattern is the line of the file as a regular expression; bound has a name for each group: the word that it stands for.
func (r rules) pattern(line string) (re *regexp.Regexp, bound []string) {
	var b strings.Builder
	b.WriteString(`^`)
	plain := func(s string) {
		for i, part := range strings.Split(s, "…") {
			if i > 0 {
				b.WriteString(`.*`)
			}
			if !r.numbers {
				b.WriteString(regexp.QuoteMeta(part))
				continue
			}
			at := 0
			for _, m := range number.FindAllStringIndex(part, -1) {
				b.WriteString(regexp.QuoteMeta(part[at:m[0]]) + `\d+(?:\.\d+)?`)
				at = m[1]
			}
			b.WriteString(regexp.QuoteMeta(part[at:]))
		}
	}
	at := 0
	for _, m := range word.FindAllStringSubmatchIndex(line, -1) {
		text := line[m[0]:m[1]]
		k := 0
		for m[2+2*k] < 0 {
			k++
		}
		kind := kinds[k]
		if kind.got == "" || kind.exact && r.exact[number.FindString(text)] {
			continue
		}
		plain(line[at:m[0]])
		if kind.bound {
			bound = append(bound, text)
			b.WriteString(`(` + kind.got + `)`)
		} else {
			b.WriteString(kind.got)
		}
		at = m[1]
	}
	plain(line[at:])
	return regexp.MustCompile(b.String() + `$`), bound
}

// clean takes away what only looks: colours, and blanks, since columns move with what stands in them.
func clean(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = strings.TrimSpace(blanks.ReplaceAllString(ansi.ReplaceAllString(l, ""), " "))
	}
	return out
}

// same compares what the file shows with what was printed, and keeps in r.bound which word stands for which.
func (r rules) same(want, got []string) bool {
	bound, ok := r.match(clean(want), clean(got), r.bound)
	if ok {
		maps.Copy(r.bound, bound)
	}
	return ok
}

func (r rules) match(want, got []string, bound map[string]string) (map[string]string, bool) {
	for ; len(want) > 0; want, got = want[1:], got[1:] {
		if want[0] == "…" {
			for i := 0; i <= len(got); i++ {
				if b, ok := r.match(want[1:], got[i:], bound); ok {
					return b, true
				}
			}
			return nil, false
		}
		if len(got) == 0 {
			return nil, false
		}
		var ok bool
		if bound, ok = r.line(want[0], got[0], bound); !ok {
			return nil, false
		}
	}
	return bound, len(got) == 0
}

func (r rules) line(want, got string, bound map[string]string) (map[string]string, bool) {
	re, words := r.pattern(want)
	m := re.FindStringSubmatch(got)
	if m == nil {
		return nil, false
	}
	bound = maps.Clone(bound)
	for i, w := range words {
		w, g := short(w), short(m[i+1])
		if b, ok := bound[w]; ok && b != g {
			return nil, false
		}
		if b, ok := bound["\x00"+g]; ok && b != w {
			return nil, false
		}
		bound[w], bound["\x00"+g] = g, w
	}
	return bound, true
}

// short is a container's id as it is printed in a table.
func short(id string) string {
	if len(id) == 64 {
		return id[:12]
	}
	return id
}

// translate puts the file's words for what is bound in the place of those printed.
func (r rules) translate(got []string) []string {
	out := make([]string, len(got))
	for i, l := range got {
		out[i] = word.ReplaceAllStringFunc(l, func(w string) string {
			if b, ok := r.bound["\x00"+short(w)]; ok {
				return b + w[len(short(w)):]
			}
			return w
		})
	}
	return out
}
