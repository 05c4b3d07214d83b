package jsonx

import (
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// maxDepth is the nesting that encoding/json accepts.
const maxDepth = 10000

// Error is the first thing wrong with a text.
type Error struct {
	Path   string // process.user.uid, mounts[2].options; empty at the top
	Msg    string
	Offset int // bytes from the start of the text
}

func (e *Error) Error() string {
	at := " (offset " + strconv.Itoa(e.Offset) + ")"
	if e.Path == "" {
		return e.Msg + at
	}
	return brief(e.Path) + ": " + e.Msg + at
}

// brief keeps both ends of a path that nesting or a name has made long.
func brief(path string) string {
	const head, tail = 120, 80
	if len(path) <= head+tail {
		return path
	}
	return strings.ToValidUTF8(path[:head], "") + "..." + strings.ToValidUTF8(path[len(path)-tail:], "")
}

// Warning is something that was read, or skipped, against the writer's likely intent.
type Warning struct {
	Path   string
	Msg    string
	Offset int
}

func (w Warning) String() string { return (*Error)(&w).Error() }

type step struct {
	name  string
	index int // or one of the two below
}

const (
	isKey = -1 // name counts
	isNew = -2 // no key was read yet
)

// Scanner reads one JSON text.
type Scanner struct {
	Warnings []Warning

	buf  []byte
	pos  int
	err  *Error
	path []step
}

// NewScanner reads b, which must not change while anything that was read is in use.
func NewScanner(b []byte) *Scanner {
	s := &Scanner{}
	s.Reset(b)
	return s
}

// Reset starts on a new text.
func (s *Scanner) Reset(b []byte) {
	*s = Scanner{buf: b, path: make([]step, 0, 12)}
	s.space()
}

// End checks that nothing follows the value, and returns the first error.
func (s *Scanner) End() error {
	s.space()
	if s.err == nil && s.pos < len(s.buf) {
		s.failAt(s.pos, "unexpected data after the JSON value")
	}
	return s.Err()
}

// Err returns the first error so far.
func (s *Scanner) Err() error {
	if s.err == nil {
		return nil
	}
	return s.err
}

// Offset is the position of the value that is read next.
func (s *Scanner) Offset() int { return s.pos }

// Fail makes msg the error, at the value that is read next.
func (s *Scanner) Fail(msg string) { s.failAt(s.pos, msg) }

// Warn adds a warning at the value that is read next.
func (s *Scanner) Warn(msg string) {
	s.Warnings = append(s.Warnings, Warning{s.Path(), msg, s.pos})
}

// Unknown warns that the current field is not known; its value is skipped.
func (s *Scanner) Unknown() { s.Warn("unknown field, ignored") }

// Once warns when bit is in seen, and returns seen with bit.
func (s *Scanner) Once(seen, bit uint32) uint32 {
	if seen&bit != 0 {
		s.Warn("repeated field, the last one counts")
	}
	return seen | bit
}

// Fold looks for the current field's name among known (parted by blanks) without
// regard to case, as encoding/json does, and warns. It returns "" when there is none.
func (s *Scanner) Fold(name, known string) string {
	for known != "" {
		var k string
		k, known, _ = strings.Cut(known, " ")
		if strings.EqualFold(k, name) {
			s.Warn("read as \"" + k + "\"")
			s.path[len(s.path)-1].name = k
			return k
		}
	}
	s.Unknown()
	return ""
}

// Path is where the scanner is: linux.namespaces[1].type.
func (s *Scanner) Path() string {
	var b []byte
	for _, p := range s.path {
		switch {
		case p.index == isNew:
		case p.index >= 0:
			b = append(b, '[')
			b = strconv.AppendInt(b, int64(p.index), 10)
			b = append(b, ']')
		case plain(p.name):
			if len(b) > 0 {
				b = append(b, '.')
			}
			b = append(b, p.name...)
		default:
			b = append(b, '[')
			b = strconv.AppendQuote(b, p.name)
			b = append(b, ']')
		}
	}
	return string(b)
}

func plain(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-' {
			continue
		}
		return false
	}
	return name != ""
}

func (s *Scanner) failAt(pos int, msg string) {
	if s.err == nil {
		s.err = &Error{s.Path(), msg, pos}
	}
}

func (s *Scanner) space() {
	for s.pos < len(s.buf) {
		switch s.buf[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// Kind is the first byte of the next value: one of { [ " t f n, '0' for a number, 0 for none.
func (s *Scanner) Kind() byte {
	if s.err != nil || s.pos >= len(s.buf) {
		return 0
	}
	switch c := s.buf[s.pos]; c {
	case '{', '[', '"', 't', 'f', 'n':
		return c
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return '0'
	}
	return 0
}

// want reports whether the next value is of kind; a null is read and reported as false.
func (s *Scanner) want(kind byte, name string) bool {
	if s.Kind() == kind {
		return true
	}
	if s.Null() || s.err != nil {
		return false
	}
	got := ""
	switch s.Kind() {
	case '{':
		got = "an object"
	case '[':
		got = "an array"
	case '"':
		got = "a string"
	case 't', 'f':
		got = "a boolean"
	case '0':
		got = "a number"
	default:
		s.unexpected("a value")
		return false
	}
	s.Fail("want " + name + ", got " + got)
	return false
}

func (s *Scanner) unexpected(want string) {
	if s.pos >= len(s.buf) {
		s.Fail("unexpected end of the text, want " + want)
		return
	}
	r, _ := utf8.DecodeRune(s.buf[s.pos:])
	s.Fail("unexpected " + strconv.QuoteRune(r) + ", want " + want)
}

func (s *Scanner) literal(word string) bool {
	if s.err != nil {
		return false
	}
	if !strings.HasPrefix(view(s.buf[s.pos:]), word) {
		s.unexpected("a value")
		return false
	}
	s.pos += len(word)
	return true
}

func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Null reads a null, if that is next.
func (s *Scanner) Null() bool { return s.Kind() == 'n' && s.literal("null") }

// Bool reads true or false.
func (s *Scanner) Bool() bool {
	switch s.Kind() {
	case 't':
		return s.literal("true")
	case 'f':
		s.literal("false")
		return false
	}
	s.want('t', "a boolean")
	return false
}

// Object reads an object: the loop's body runs for each key and reads its value.
func (s *Scanner) Object(yield func(name string) bool) {
	if !s.want('{', "an object") || !s.push() {
		return
	}
	more := true
	for first := true; s.next('}', first); first = false {
		if s.Kind() != '"' {
			s.unexpected("a key")
			return
		}
		name := s.String()
		s.space()
		if s.err != nil {
			return
		}
		if s.pos >= len(s.buf) || s.buf[s.pos] != ':' {
			s.unexpected("':'")
			return
		}
		s.pos++
		s.space()
		s.path[len(s.path)-1] = step{name, isKey}
		start := s.pos
		if more {
			more = yield(name)
		}
		if s.pos == start {
			s.Skip()
		}
	}
}

// Array reads an array: the loop's body runs for each element and reads it.
func (s *Scanner) Array(yield func(i int) bool) {
	if !s.want('[', "an array") || !s.push() {
		return
	}
	more := true
	for i := 0; s.next(']', i == 0); i++ {
		s.path[len(s.path)-1] = step{"", i}
		start := s.pos
		if more {
			more = yield(i)
		}
		if s.pos == start {
			s.Skip()
		}
	}
}

func (s *Scanner) push() bool {
	if len(s.path) >= maxDepth {
		s.Fail("nested too deeply")
		return false
	}
	s.pos++
	s.path = append(s.path, step{"", isNew})
	return true
}

// next reads what comes before an element: nothing, a comma, or the end of the group.
func (s *Scanner) next(end byte, first bool) bool {
	if s.err != nil {
		return false
	}
	s.space()
	if s.pos < len(s.buf) {
		switch c := s.buf[s.pos]; {
		case c == end:
			s.pos++
			s.path = s.path[:len(s.path)-1]
			return false
		case first:
			return true
		case c == ',':
			s.pos++
			s.space()
			return true
		}
	}
	if first {
		s.unexpected("a value or '" + string(end) + "'")
	} else {
		s.unexpected("',' or '" + string(end) + "'")
	}
	return false
}

// Skip checks and skips the next value.
func (s *Scanner) Skip() {
	switch s.Kind() {
	case '{':
		for range s.Object { // an unread value is skipped
		}
	case '[':
		for range s.Array { // as above
		}
	case '"':
		_ = s.String()
	case 't', 'f':
		s.Bool()
	case 'n':
		s.Null()
	case '0':
		s.number()
	default:
		s.unexpected("a value")
	}
}

// Raw checks the next value and returns its text.
func (s *Scanner) Raw() []byte {
	start := s.pos
	s.Skip()
	if s.err != nil {
		return nil
	}
	return s.buf[start:s.pos:s.pos]
}
