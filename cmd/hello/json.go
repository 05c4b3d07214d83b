package main

import "strconv"

// A member of an object keeps its place: the report reads in the order it was written.
type member struct {
	key   string
	value any
}

type object []member

// appendJSON renders the types a report is made of, indented by two blanks a level. Lists of scalars stay on a line.
func appendJSON(b []byte, v any, depth int) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case uint64:
		return strconv.AppendUint(b, v, 10)
	case string:
		return appendString(b, v)
	case []int:
		return appendList(b, len(v), ", ", func(b []byte, i int) []byte { return strconv.AppendInt(b, int64(v[i]), 10) })
	case []string:
		return appendList(b, len(v), ", ", func(b []byte, i int) []byte { return appendString(b, v[i]) })
	case []object:
		sep := "," + indent(depth+1)
		if len(v) > 0 {
			b = append(append(b, '['), indent(depth+1)...)
			for i, o := range v {
				if i > 0 {
					b = append(b, sep...)
				}
				b = appendJSON(b, o, depth+1)
			}
			return append(append(b, indent(depth)...), ']')
		}
		return append(b, "[]"...)
	case object:
		if len(v) == 0 {
			return append(b, "{}"...)
		}
		b = append(b, '{')
		for i, m := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(append(b, indent(depth+1)...), m.key)
			b = appendJSON(append(b, ": "...), m.value, depth+1)
		}
		return append(append(b, indent(depth)...), '}')
	}
	panic("appendJSON: a type that no report has")
}

func appendList(b []byte, n int, sep string, item func([]byte, int) []byte) []byte {
	b = append(b, '[')
	for i := range n {
		if i > 0 {
			b = append(b, sep...)
		}
		b = item(b, i)
	}
	return append(b, ']')
}

func indent(depth int) string {
	const blanks = "\n                "
	return blanks[:1+2*depth]
}

// appendString quotes s. Bytes that are not UTF-8 (file names may hold any) become U+FFFD, as encoding/json has it.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return append(b, '"')
}
