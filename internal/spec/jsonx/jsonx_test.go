package jsonx

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// read turns the next value into what json.Unmarshal makes of it with UseNumber.
func read(s *Scanner) any {
	switch s.Kind() {
	case '{':
		m := map[string]any{}
		for k := range s.Object {
			m[k] = read(s)
		}
		return m
	case '[':
		l := []any{}
		for range s.Array {
			l = append(l, read(s))
		}
		return l
	case '"':
		return s.String()
	case 't', 'f':
		return s.Bool()
	case '0':
		return s.Float()
	}
	if !s.Null() {
		s.Skip()
	}
	return nil
}

func write(w *Writer, v any) {
	switch v := v.(type) {
	case map[string]any:
		w.BeginObject()
		for k, e := range v {
			w.Key(k)
			write(w, e)
		}
		w.EndObject()
	case []any:
		w.BeginArray()
		for _, e := range v {
			write(w, e)
		}
		w.EndArray()
	case string:
		w.String(v)
	case bool:
		w.Bool(v)
	case float64:
		w.Float(v)
	default:
		w.Null()
	}
}

func FuzzValues(f *testing.F) {
	for _, s := range []string{
		`{}`, `[]`, `[[],{}]`, `{"a":[1,-0.5e+3,1e400,"\u2028\u0000<&>\b\f"],"b":{"c":null,"d":true}}`, ` "x" `, `tru`, `[1 2]`, `-`, `1e`, `0123`, "\"\xc3\x28\"", `"\ud83d\ud83d\ude00"`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var want any
		werr := json.Unmarshal(b, &want)
		s := NewScanner(b)
		have := read(s)
		if err := s.End(); (err == nil) != (werr == nil) {
			t.Fatalf("%q: %v, encoding/json: %v", b, err, werr)
		}
		if werr != nil {
			return
		}
		if !reflect.DeepEqual(have, want) {
			t.Fatalf("%q: have %#v, want %#v", b, have, want)
		}
		for _, indent := range []string{"", "  "} {
			w := Writer{Indent: indent}
			write(&w, have)
			var back any
			if err := json.Unmarshal(w.Bytes(), &back); err != nil || !reflect.DeepEqual(back, want) {
				t.Fatalf("%q: wrote %s: %v", b, w.Bytes(), err)
			}
		}
	})
}

func TestScalarsAsEncodingJSON(t *testing.T) {
	for _, v := range []any{
		"", "a\"\\\n\r\t\b\f\x00\x1f<>&\u2028\u2029é😀", "\xff\xc3(", 0.0, -1.5, 1e21, 1e20, 1e-6, 1e-7, 1.25e-9, 1e-10, 1e100, math.MaxFloat64, true, nil,
		[]any{},
		map[string]any{},
		[]any{1.0, []any{"x"}, map[string]any{"k": []any{}}},
	} {
		for _, indent := range []string{"", "\t"} {
			want, err := json.MarshalIndent(v, "", indent)
			if indent == "" {
				want, err = json.Marshal(v)
			}
			if err != nil {
				t.Fatal(err)
			}
			w := Writer{Indent: indent}
			write(&w, v)
			if !bytes.Equal(w.Bytes(), want) {
				t.Errorf("have %s, want %s", w.Bytes(), want)
			}
		}
	}
	var w Writer
	w.Float(math.NaN())
	w.Line()
	w.Int(math.MinInt64)
	w.Line()
	w.BeginObject()
	w.Key("raw")
	w.Raw([]byte(`[1, 2]`))
	w.Key("n")
	w.Uint(math.MaxUint64)
	w.EndObject()
	if have, want := string(w.Bytes()), "null\n-9223372036854775808\n{\"raw\":[1, 2],\"n\":18446744073709551615}"; have != want {
		t.Errorf("have %s, want %s", have, want)
	}
}

func TestIntegerLimits(t *testing.T) {
	for _, tc := range []struct {
		text, want string
		read       func(*Scanner) bool
	}{
		{"127", "", func(s *Scanner) bool { return s.Int(8) == 127 }},
		{"-128", "", func(s *Scanner) bool { return s.Int(8) == -128 }},
		{"128", "128 is out of range (-128 to 127) (offset 0)", func(s *Scanner) bool { return s.Int(8) == 0 }},
		{"-129", "-129 is out of range (-128 to 127) (offset 0)", func(s *Scanner) bool { return s.Int(8) == 0 }},
		{"-9223372036854775808", "", func(s *Scanner) bool { return s.Int(64) == math.MinInt64 }},
		{"-9223372036854775809", "-9223372036854775809 is out of range (-9223372036854775808 to 9223372036854775807) (offset 0)", func(s *Scanner) bool { return s.Int(64) == 0 }},
		{"18446744073709551615", "", func(s *Scanner) bool { return s.Uint(64) == math.MaxUint64 }},
		{"99999999999999999999999", "99999999999999999999999 is out of range (0 to 18446744073709551615) (offset 0)", func(s *Scanner) bool { return s.Uint(64) == 0 }},
		{"65535", "", func(s *Scanner) bool { return s.Uint(16) == 65535 }},
		{"65536", "65536 is out of range (0 to 65535) (offset 0)", func(s *Scanner) bool { return s.Uint(16) == 0 }},
		{"1e2", "want a whole number, got 1e2 (offset 0)", func(s *Scanner) bool { return s.Uint(16) == 0 }},
		{"null", "", func(s *Scanner) bool { return s.Uint(16) == 0 }},
	} {
		s := NewScanner([]byte(tc.text))
		ok := tc.read(s)
		have := ""
		if err := s.End(); err != nil {
			have = err.Error()
		}
		if !ok || have != tc.want {
			t.Errorf("%s: %v, have %q, want %q", tc.text, ok, have, tc.want)
		}
	}
}

// A loop may end early, and a value may stay unread.
func TestUnreadValues(t *testing.T) {
	s := NewScanner([]byte(`{"a":{"x":[1,2,{}]},"b":[3,4,5],"c":{"d":"e"}}`))
	var first int64
	var raw []byte
	for k := range s.Object {
		switch k {
		case "b":
			for range s.Array {
				first = s.Int(64)
				break
			}
		case "c":
			raw = s.Raw()
		}
	}
	if err := s.End(); err != nil || first != 3 || string(raw) != `{"d":"e"}` {
		t.Error(err, first, string(raw))
	}
	s = NewScanner([]byte(`{"a":[1,}`))
	for range s.Object {
	}
	if err := s.End(); err == nil || err.Error() != "a[1]: unexpected '}', want a value (offset 8)" {
		t.Error(err)
	}
}

func TestLongPath(t *testing.T) {
	s := NewScanner([]byte(strings.Repeat(`{"é":`, 10100)))
	s.Skip()
	err := s.End()
	if err == nil || len(err.Error()) > 300 || !strings.HasSuffix(err.Error(), ": nested too deeply (offset 60000)") || !utf8.ValidString(err.Error()) {
		t.Error(err)
	}
}
