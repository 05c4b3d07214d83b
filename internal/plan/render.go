package plan

import (
	"bytes"
	"encoding/binary"
	"io"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Render writes the program for people: one aligned line an op,
//
//	index  doer  call  operands → result  errnos  # field (object): step
//
// operands as the system call's man page names them.
func (p *Program) Render(w io.Writer) error {
	var b strings.Builder
	width := 0
	lines := make([]string, len(p.Ops))
	for i := range p.Ops {
		lines[i] = p.line(&p.Ops[i])
		if n := len([]rune(lines[i])); n > width && n <= 96 {
			width = n
		}
	}
	for i := range p.Ops {
		o := &p.Ops[i]
		pad(&b, strconv.Itoa(i), 4, true)
		b.WriteString("  ")
		pad(&b, [...]string{"parent", "sync", "stub"}[o.Do], 8, false)
		pad(&b, lines[i], width, false)
		b.WriteString("  # " + o.Field)
		if o.Object != "" {
			b.WriteString(" (" + printable(o.Object) + ")")
		}
		if o.What != "" {
			b.WriteString(": " + printable(o.What))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func pad(b *strings.Builder, s string, n int, right bool) {
	fill := strings.Repeat(" ", max(0, n-len([]rune(s))))
	if right {
		b.WriteString(fill + s)
		return
	}
	b.WriteString(s + fill)
}

func (p *Program) line(o *Op) string {
	s := o.Verb()
	pre := ""
	if len(s) < 14 {
		pre = strings.Repeat(" ", 14-len(s))
	}
	s += pre + " " + p.operands(o)
	if o.Result != 0 {
		s += " → s" + strconv.Itoa(int(o.Result))
	}
	if o.Expects {
		s += " =" + strconv.FormatUint(o.Expect, 10)
	}
	if o.OnOK != 0 {
		s += "  ok:+" + strconv.Itoa(int(o.OnOK))
	}
	for _, c := range o.Cases[:o.NCases] {
		s += "  " + caseText(c, o.Retries)
	}
	return s
}

func caseText(c Case, retries uint16) string {
	name := unix.ErrnoName(syscall.Errno(c.Errno))
	if syscall.Errno(c.Errno) == AnyErrno {
		name = "error"
	}
	switch c.Skip {
	case 0:
		return name + ":ok"
	case Retry:
		return name + ":retry×" + strconv.Itoa(int(retries))
	}
	return name + ":+" + strconv.Itoa(int(c.Skip))
}

func (p *Program) operands(o *Op) string {
	switch o.Kind {
	case Test:
		if o.Args[1].V == 0 && o.Args[2].V == 0 {
			return ""
		} else if o.Args[1].V == 0 {
			return unix.ErrnoName(syscall.Errno(o.Nr))
		}
		return p.place(o.Args[0]) + ":" + strconv.Itoa(int(o.Width)) + " & " + hex(o.Args[1].V) + " == " + hex(o.Args[2].V)
	case Copy:
		return p.place(o.Args[0]) + " ← " + p.place(o.Args[1]) + ":" + strconv.Itoa(int(o.Width))
	case Clone:
		return flagNames(uint64(p.Clone.Flags), cloneFlags) + p.cloneText()
	}
	var out []string
	for i := range int(o.NArgs) {
		if t := p.operand(o, i); t != "" {
			out = append(out, t)
		}
	}
	return strings.Join(out, " ")
}

func (p *Program) cloneText() string {
	s := ""
	if p.Clone.CgroupFD != 0 {
		s += " INTO_CGROUP=s" + strconv.Itoa(int(p.Clone.CgroupFD))
	}
	for _, m := range [...]struct {
		name string
		ids  []IDMap
	}{{"uid", p.Clone.UIDs}, {"gid", p.Clone.GIDs}} {
		for _, x := range m.ids {
			s += " " + m.name + ":" + u(uint64(x.Inside)) + "→" + u(uint64(x.Outside)) + "×" + u(uint64(x.Size))
		}
	}
	return s
}

// place is an operand as an address.
func (p *Program) place(a Arg) string {
	switch a.Kind {
	case RW:
		return "buf+" + u(a.V)
	case SlotAddr, SlotVal:
		return "s" + u(a.V)
	case ErrFD:
		return "errfd"
	case RO:
		return p.data(a)
	}
	return u(a.V)
}

func (p *Program) operand(o *Op, i int) string {
	a := o.Args[i]
	switch a.Kind {
	case SlotVal:
		return "s" + u(a.V)
	case Decimal:
		return "dec(s" + u(a.V) + ")"
	case Imm:
		if i > 0 && o.Args[i-1].Kind == Decimal {
			return ""
		}
		return immediate(o, i, a.V)
	case RO:
		if t := p.special(o, i, a); t != "" {
			return t
		}
	}
	return p.place(a)
}

// data is read-only memory as text where it is text, as words where it is not.
func (p *Program) data(a Arg) string {
	raw := p.Data[a.V : a.V+uint64(a.Len)]
	for _, r := range p.Relocs {
		if uint64(r.At) == a.V && !r.Buf {
			return p.vector(a)
		}
	}
	if n := len(raw); n > 0 && raw[n-1] == 0 && !hasControl(raw[:n-1]) {
		if n == 1 {
			return `""`
		}
		return printable(string(raw[:n-1]))
	}
	if line := bytes.TrimSuffix(raw, []byte("\n")); len(line) > 0 && text(line) {
		return string(line)
	}
	if len(raw) > 64 || len(raw)%4 != 0 {
		return "[" + strconv.Itoa(len(raw)) + " bytes]"
	}
	var out []string
	for len(raw) > 0 {
		n := 4
		v := uint64(binary.LittleEndian.Uint32(raw))
		if len(raw) >= 8 && a.Len%8 == 0 {
			n, v = 8, binary.LittleEndian.Uint64(raw)
		}
		out = append(out, hex(v))
		raw = raw[n:]
	}
	return "{" + strings.Join(out, ",") + "}"
}

func (p *Program) vector(a Arg) string {
	var out []string
	for at := uint32(a.V); at < uint32(a.V)+a.Len; at += 8 {
		for _, r := range p.Relocs {
			if r.At == at && !r.Buf {
				s, _, _ := strings.Cut(string(p.Data[r.To:]), "\x00")
				out = append(out, strconv.Quote(s))
			}
		}
		if len(out) == 6 {
			out = append(out, "…")
			break
		}
	}
	return "[" + strings.Join(out, " ") + "]"
}

// text tells whether bytes without a 0 at their end are ASCII text.
func text(b []byte) bool {
	return !hasControl(b) && !bytes.ContainsFunc(b, func(r rune) bool { return r >= 0x7f })
}

func hasControl(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return true
		}
	}
	return false
}

// printable keeps control characters of a config out of the terminal.
func printable(s string) string {
	if !hasControl([]byte(s)) {
		return s
	}
	return strconv.Quote(s)
}

func u(v uint64) string { return strconv.FormatUint(v, 10) }

func hex(v uint64) string {
	if v < 10 {
		return u(v)
	}
	return "0x" + strconv.FormatUint(v, 16)
}
