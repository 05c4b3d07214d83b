package jsonx

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// String reads a string. Bytes that are not UTF-8 and lone surrogates become U+FFFD.
func (s *Scanner) String() string {
	if !s.want('"', "a string") {
		return ""
	}
	start := s.pos + 1
	for i := start; i < len(s.buf); i++ {
		switch c := s.buf[i]; {
		case c == '"':
			s.pos = i + 1
			return view(s.buf[start:i])
		case c == '\\' || c < ' ' || c >= utf8.RuneSelf:
			return s.unescape(start, i)
		}
	}
	s.pos = len(s.buf)
	s.unexpected("'\"'")
	return ""
}

// unescape reads the string that began at start and is plain up to i.
func (s *Scanner) unescape(start, i int) string {
	var out []byte
	from := start // bytes in [from, i) are still to be copied
	for i < len(s.buf) {
		c := s.buf[i]
		switch {
		case c == '"':
			s.pos = i + 1
			if from == start {
				return view(s.buf[start:i])
			}
			return view(append(out, s.buf[from:i]...))
		case c < ' ':
			s.failAt(i, "control character in a string")
			return ""
		case c == '\\':
			out = append(out, s.buf[from:i]...)
			r, n := s.escape(i)
			if n == 0 {
				return ""
			}
			out = utf8.AppendRune(out, r)
			i += n
			from = i
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(s.buf[i:])
			if r == utf8.RuneError && n == 1 {
				s.Warn("not valid UTF-8, replaced by U+FFFD")
				out = utf8.AppendRune(append(out, s.buf[from:i]...), r)
				from = i + 1
			}
			i += n
		}
	}
	s.pos = len(s.buf)
	s.unexpected("'\"'")
	return ""
}

// escape decodes the escape at i and returns its length, 0 when it is wrong.
func (s *Scanner) escape(i int) (rune, int) {
	if i+1 < len(s.buf) {
		switch c := s.buf[i+1]; c {
		case '"', '\\', '/':
			return rune(c), 2
		case 'b':
			return '\b', 2
		case 'f':
			return '\f', 2
		case 'n':
			return '\n', 2
		case 'r':
			return '\r', 2
		case 't':
			return '\t', 2
		case 'u':
			if r := s.hex(i); r >= 0 {
				if utf16.IsSurrogate(r) {
					if p := utf16.DecodeRune(r, s.hex(i+6)); p != utf8.RuneError {
						return p, 12
					}
					r = utf8.RuneError
				}
				return r, 6
			}
		}
	}
	s.failAt(i, "invalid escape in a string")
	return 0, 0
}

// hex reads \uXXXX at i; -1 when that is not there.
func (s *Scanner) hex(i int) rune {
	if i+6 > len(s.buf) || s.buf[i] != '\\' || s.buf[i+1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range s.buf[i+2 : i+6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

func (s *Scanner) digits() bool {
	start := s.pos
	for s.pos < len(s.buf) && s.buf[s.pos] >= '0' && s.buf[s.pos] <= '9' {
		s.pos++
	}
	if s.pos == start {
		s.unexpected("a digit")
	}
	return s.pos > start
}

func (s *Scanner) accept(a, b byte) bool {
	if s.pos < len(s.buf) && (s.buf[s.pos] == a || s.buf[s.pos] == b) {
		s.pos++
		return true
	}
	return false
}

// number reads a number's text.
func (s *Scanner) number() string {
	start := s.pos
	s.accept('-', '-')
	if !s.accept('0', '0') && !s.digits() {
		return ""
	}
	if s.accept('.', '.') && !s.digits() {
		return ""
	}
	if s.accept('e', 'E') {
		s.accept('+', '-')
		if !s.digits() {
			return ""
		}
	}
	return view(s.buf[start:s.pos])
}

// Int reads a whole number of at most bits bits.
func (s *Scanner) Int(bits uint) int64 {
	n, neg, text, at := s.whole()
	limit := uint64(1) << (bits - 1)
	switch {
	case text == "":
		return 0
	case neg && n <= limit:
		return -int64(n)
	case !neg && n < limit:
		return int64(n)
	}
	s.outOfRange(at, text, "-"+strconv.FormatUint(limit, 10), limit-1)
	return 0
}

// Uint reads a whole number, not below 0, of at most bits bits.
func (s *Scanner) Uint(bits uint) uint64 {
	n, neg, text, at := s.whole()
	limit := ^uint64(0) >> (64 - bits)
	// The text tells a number past 64 bits from the largest one.
	if neg || n > limit || n == ^uint64(0) && text != "18446744073709551615" {
		s.outOfRange(at, text, "0", limit)
		return 0
	}
	return n
}

// whole reads an integer. A magnitude past 64 bits is cut to the largest one;
// text is "" after an error or a null.
func (s *Scanner) whole() (n uint64, neg bool, text string, at int) {
	at = s.pos
	if !s.want('0', "a number") {
		return 0, false, "", at
	}
	text = s.number()
	if s.err != nil {
		return 0, false, "", at
	}
	neg = text[0] == '-'
	for i := range len(text) {
		c := uint64(text[i] - '0')
		switch {
		case c > 9 && i == 0:
		case c > 9:
			s.failAt(at, "want a whole number, got "+text)
			return 0, false, "", at
		case n > (^uint64(0)-c)/10:
			n = ^uint64(0)
		default:
			n = n*10 + c
		}
	}
	return n, neg, text, at
}

func (s *Scanner) outOfRange(at int, text, lo string, hi uint64) {
	s.failAt(at, text+" is out of range ("+lo+" to "+strconv.FormatUint(hi, 10)+")")
}

// Float reads any number.
func (s *Scanner) Float() float64 {
	at := s.pos
	if !s.want('0', "a number") {
		return 0
	}
	text := s.number()
	if s.err != nil {
		return 0
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		s.failAt(at, text+" is out of range")
	}
	return f
}
