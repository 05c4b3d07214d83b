package jsonx

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// Writer builds one JSON text; the zero value writes it without blanks.
// Calls must come in the order of the text: nothing is checked.
type Writer struct {
	Indent string // one level, as json.MarshalIndent's; "" for compact text

	buf   []byte
	depth int
	comma bool // a comma is due before the next key or element
	keyed bool // a key was just written
}

// Bytes is what was written so far.
func (w *Writer) Bytes() []byte { return w.buf }

// Grow makes room for n bytes.
func (w *Writer) Grow(n int) {
	if cap(w.buf)-len(w.buf) < n {
		w.buf = append(make([]byte, 0, len(w.buf)+n), w.buf...)
	}
}

// Line ends one record of a stream, such as a log line: the next value starts afresh.
func (w *Writer) Line() {
	w.buf = append(w.buf, '\n')
	w.depth, w.comma, w.keyed = 0, false, false
}

func (w *Writer) newline() {
	if w.Indent == "" {
		return
	}
	w.buf = append(w.buf, '\n')
	for range w.depth {
		w.buf = append(w.buf, w.Indent...)
	}
}

// before writes what parts the next value from the last.
func (w *Writer) before() {
	switch {
	case w.keyed:
		w.keyed = false
	case w.depth > 0:
		if w.comma {
			w.buf = append(w.buf, ',')
		}
		w.newline()
	}
	w.comma = true
}

// BeginObject writes {.
func (w *Writer) BeginObject() { w.begin('{') }

// BeginArray writes [.
func (w *Writer) BeginArray() { w.begin('[') }

// EndObject writes }.
func (w *Writer) EndObject() { w.end('}') }

// EndArray writes ].
func (w *Writer) EndArray() { w.end(']') }

func (w *Writer) begin(c byte) {
	w.before()
	w.buf = append(w.buf, c)
	w.depth++
	w.comma = false
}

func (w *Writer) end(c byte) {
	w.depth--
	if w.comma {
		w.newline()
	}
	w.buf = append(w.buf, c)
	w.comma = true
}

// Key writes a field's name; its value must follow.
func (w *Writer) Key(name string) {
	w.String(name)
	w.buf = append(w.buf, ':')
	if w.Indent != "" {
		w.buf = append(w.buf, ' ')
	}
	w.keyed = true
}

// Null writes null.
func (w *Writer) Null() {
	w.before()
	w.buf = append(w.buf, "null"...)
}

// Bool writes true or false.
func (w *Writer) Bool(v bool) {
	w.before()
	w.buf = strconv.AppendBool(w.buf, v)
}

// Int writes a number.
func (w *Writer) Int(v int64) {
	w.before()
	w.buf = strconv.AppendInt(w.buf, v, 10)
}

// Uint writes a number.
func (w *Writer) Uint(v uint64) {
	w.before()
	w.buf = strconv.AppendUint(w.buf, v, 10)
}

// Float writes a number in its shortest form; what JSON cannot hold (NaN, ±Inf) becomes null.
func (w *Writer) Float(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		w.Null()
		return
	}
	w.before()
	format := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	start := len(w.buf)
	w.buf = strconv.AppendFloat(w.buf, v, format, -1, 64)
	// 1e-09 is written 1e-9.
	if n := len(w.buf); format == 'e' && n-start >= 4 && w.buf[n-4] == 'e' && w.buf[n-3] == '-' && w.buf[n-2] == '0' {
		w.buf[n-2] = w.buf[n-1]
		w.buf = w.buf[:n-1]
	}
}

// Raw writes a value that is JSON already; its layout is kept.
func (w *Writer) Raw(v []byte) {
	w.before()
	w.buf = append(w.buf, v...)
}

// String writes a string; <, > and & are escaped as encoding/json does.
func (w *Writer) String(v string) {
	w.before()
	const hex = "0123456789abcdef"
	b := append(w.buf, '"')
	from := 0
	for i := 0; i < len(v); {
		c := v[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(v[i:])
			switch {
			case r == utf8.RuneError && n == 1:
				b = append(append(b, v[from:i]...), `\ufffd`...)
				from = i + 1
			case r == '\u2028' || r == '\u2029': // JavaScript's line ends
				b = append(append(b, v[from:i]...), `\u202`...)
				b = append(b, hex[r&0xf])
				from = i + n
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
			i++
			continue
		}
		b = append(b, v[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&0xf])
		}
		i++
		from = i
	}
	w.buf = append(append(b, v[from:]...), '"')
}
