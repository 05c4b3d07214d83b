package main

import (
	"regexp"
	"strings"
)

// masks replace what differs from run to run.
var masks = []struct {
	of *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`\x1b\[[0-9;]*m`), ""},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "ID64"},
	{regexp.MustCompile(`\bsha256:[0-9a-f]{12}\b`), "sha256:ID"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "ID"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| ?[+-]\d\d:?\d\d)?( UTC)?`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d(\.\d+)?\b`), "CLOCK"},
	{regexp.MustCompile(`\b(Less than a second|About an? \w+|\d+ (seconds?|minutes?|hours?))( ago)?`), "AGO"},
	{regexp.MustCompile(`\b402653\d{4}\b`), "INODE"},
	{regexp.MustCompile(`\b(time=)?\d+(\.\d+)? ?(ms|µs)\b`), "DURATION"},
	{regexp.MustCompile(`\b\d{3,7}\b`), "N"}, // pids, counters, inodes
	{regexp.MustCompile(`[ \t]+`), " "},      // columns move with what stands in them
}

var number = regexp.MustCompile(`\d+(\.\d+)?`)

func mask(lines []string, numbers bool) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		for _, m := range masks {
			l = m.of.ReplaceAllString(l, m.by)
		}
		if numbers {
			l = number.ReplaceAllString(l, "#")
		}
		out[i] = strings.TrimSpace(l)
	}
	return out
}

// same compares lines after masking. "…" alone on a line of want is any number of lines, "…" in a line any text.
func same(want, got []string, numbers bool) bool {
	return match(mask(want, numbers), mask(got, numbers))
}

func match(want, got []string) bool {
	for len(want) > 0 {
		if want[0] == "…" {
			for i := 0; i <= len(got); i++ {
				if match(want[1:], got[i:]) {
					return true
				}
			}
			return false
		}
		if len(got) == 0 || !matchLine(want[0], got[0]) {
			return false
		}
		want, got = want[1:], got[1:]
	}
	return len(got) == 0
}

func matchLine(want, got string) bool {
	parts := strings.Split(want, "…")
	if len(parts) == 1 {
		return want == got
	}
	if !strings.HasPrefix(got, parts[0]) {
		return false
	}
	got = got[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(got, p)
		if i < 0 {
			return false
		}
		got = got[i+len(p):]
	}
	return strings.HasSuffix(got, parts[len(parts)-1])
}
