package plan

import (
	"io"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// RenderJSON writes the program as a JSON array of objects
// {"op","do","call","operands","result","onSuccessSkip","on":{"ENOENT":n,…},"field","object","step"}.
func (p *Program) RenderJSON(w io.Writer) error {
	b := []byte{'['}
	for i := range p.Ops {
		o := &p.Ops[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, "\n {\"op\":"...)
		b = strconv.AppendInt(b, int64(i), 10)
		b = str(b, "do", [...]string{"parent", "sync", "stub"}[o.Do])
		b = str(b, "call", o.Verb())
		b = str(b, "operands", p.operands(o))
		if o.Result != 0 {
			b = str(b, "result", "s"+u(uint64(o.Result)))
		}
		if o.OnOK != 0 {
			b = append(b, `,"onSuccessSkip":`...)
			b = strconv.AppendInt(b, int64(o.OnOK), 10)
		}
		b = cases(b, o)
		b = str(b, "field", o.Field)
		b = str(b, "object", o.Object)
		b = str(b, "step", o.What)
		b = append(b, '}')
	}
	b = append(b, "\n]\n"...)
	_, err := w.Write(b)
	return err
}

func cases(b []byte, o *Op) []byte {
	if o.NCases == 0 {
		return b
	}
	b = append(b, `,"on":{`...)
	for k, c := range o.Cases[:o.NCases] {
		if k > 0 {
			b = append(b, ',')
		}
		name := unix.ErrnoName(syscall.Errno(c.Errno))
		if syscall.Errno(c.Errno) == AnyErrno {
			name = "*"
		}
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, `":`...)
		if c.Skip == Retry {
			b = append(b, `"retry"`...)
		} else {
			b = strconv.AppendInt(b, int64(c.Skip), 10)
		}
	}
	return append(b, '}')
}

func str(b []byte, key, s string) []byte {
	if s == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, key...)
	b = append(b, '"', ':', '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20 || r == 0x7f:
			b = append(b, `\u00`...)
			b = append(b, "0123456789abcdef"[r>>4], "0123456789abcdef"[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return append(b, '"')
}
