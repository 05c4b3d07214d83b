package explain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// Safe is the one way from a foreign text to a terminal: control characters, line ends, bidirectional marks, invisible
// and unassigned characters and invalid UTF-8 become escapes as in Go and C, a backslash becomes two, and what is longer
// than max columns is cut and ends in "…" (max 0: not cut). Two texts that differ stay different, unless cut.
func Safe(s string, max int) string {
	plain := len(s) <= max || max == 0
	for i := 0; plain && i < len(s); i++ {
		plain = s[i] >= ' ' && s[i] < 0x7f && s[i] != '\\'
	}
	if plain {
		return s
	}
	var b strings.Builder
	marks := 0
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) {
			marks++
		} else {
			marks = 0
		}
		// One byte of input is at most four columns: no need to look at more of a text that will be cut.
		if max > 0 && b.Len() > 16*max {
			break
		}
		escape(&b, s[i:i+n], r, marks)
		i += n
	}
	return cut(b.String(), max)
}

// escape writes one rune. More than two marks on one letter run over the lines above.
func escape(b *strings.Builder, raw string, r rune, marks int) {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		fmt.Fprintf(b, `\x%02x`, raw[0])
	case r == '\\':
		b.WriteString(`\\`)
	case unicode.IsPrint(r) && marks <= 2 && !blank(r):
		b.WriteRune(r)
	default:
		q := strconv.QuoteRuneToASCII(r)
		b.WriteString(q[1 : len(q)-1])
	}
}

// blank are letters and symbols that a terminal shows as nothing.
func blank(r rune) bool {
	switch r {
	case 0x115f, 0x1160, 0x2800, 0x3164, 0xffa0, 0x034f, 0x17b4, 0x17b5:
		return true
	}
	return r >= 0xfe00 && r <= 0xfe0f || r >= 0xe0100 && r <= 0xe01ef || r >= 0x180b && r <= 0x180f
}

// cut shortens what is safe already.
func cut(s string, max int) string {
	if max <= 0 || width(s) <= max {
		return s
	}
	n, cols := 0, 0
	for n < len(s) {
		g, _, w, _ := uniseg.FirstGraphemeClusterInString(s[n:], -1)
		if cols+w > max-1 {
			break
		}
		n, cols = n+len(g), cols+w
	}
	return s[:n] + "…"
}

// width is the number of columns of a safe text.
func width(s string) int {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return uniseg.StringWidth(s)
		}
	}
	return len(s)
}

// JSON encodes v; characters that Safe would escape are \u escapes, so it may be shown on a terminal as well.
func JSON(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return EscapeJSON(out.Bytes()), nil
}

// EscapeJSON makes \u escapes of what Safe would escape; encoding/json has replaced what is not UTF-8.
func EscapeJSON(text []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(text) {
		switch {
		case r == '\n' || unicode.IsPrint(r) && !blank(r):
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}
