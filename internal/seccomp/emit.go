package seccomp

// A classic BPF program only jumps forward, so it is written backwards: every target is there before the jump to it.
// Conditional jumps name both of their targets and nothing falls through from one, so a return or a long jump can be
// put between any two of them whenever a target is too far away (more than 255 instructions).

// maxJump is the reach of a conditional jump.
const maxJump = 255

// noAcc says that nothing is known of the accumulator.
const noAcc = 0xffff

type targetKind uint8

const (
	toRet  targetKind = iota // return k
	toPos                    // the instruction at pos
	toLeaf                   // leaf number k, which is written when it is first needed
)

// target is where a jump goes. Positions count from the program's end.
type target struct {
	kind targetKind
	load uint16 // toPos: the offset that the instruction there loads, noAcc if it is not a load
	k    uint32
	pos  int32
}

func ret(k uint32) target { return target{kind: toRet, k: k, load: noAcc} }

// span is a range of values that starts here, ends where the next one starts, and has one target.
type span struct {
	start uint32
	to    target
}

// placed remembers where the nearest copy of a return, or the nearest long jump to a position, is.
type placed struct {
	k   uint32
	pos int
}

type emitter struct {
	rev    []Insn // the program, last instruction first
	rets   []placed
	jumps  []placed // k is the position that the long jump at pos goes to
	leaves []leaf

	defaultRet uint32
	loOff      uint16 // offset of an argument's low word: 0, or 4 on a big-endian architecture
}

// place returns a position within reach that has the effect of t when the accumulator holds the word at offset acc.
func (e *emitter) place(t target, acc uint16) int {
	if t.kind == toRet {
		return e.placeRet(t.k)
	}
	if t.kind == toLeaf {
		t = e.leaf(int(t.k))
		if t.kind == toRet {
			return e.placeRet(t.k)
		}
	}
	pos := int(t.pos)
	if t.load == acc && acc != noAcc {
		pos-- // skip the load
	}
	if len(e.rev)-pos-1 <= maxJump {
		return pos
	}
	for i := len(e.jumps) - 1; i >= 0; i-- {
		if j := e.jumps[i]; int(j.k) == pos && len(e.rev)-j.pos-1 <= maxJump {
			return j.pos
		}
	}
	e.rev = append(e.rev, Insn{Code: insnJA, K: uint32(len(e.rev) - pos - 1)})
	e.jumps = append(e.jumps, placed{uint32(pos), len(e.rev) - 1})
	return len(e.rev) - 1
}

func (e *emitter) placeRet(k uint32) int {
	for i := range e.rets {
		if r := &e.rets[i]; r.k == k {
			if len(e.rev)-r.pos-1 > maxJump {
				r.pos = len(e.rev)
				e.rev = append(e.rev, Insn{Code: insnRet, K: k})
			}
			return r.pos
		}
	}
	e.rets = append(e.rets, placed{k, len(e.rev)})
	e.rev = append(e.rev, Insn{Code: insnRet, K: k})
	return len(e.rev) - 1
}

// jump writes a conditional jump, for an accumulator that holds the word at offset acc.
func (e *emitter) jump(code uint16, k uint32, yes, no target, acc uint16) target {
	if yes == no {
		return yes
	}
	for {
		jt := e.place(yes, acc)
		jf := e.place(no, acc)
		n := len(e.rev)
		if n-jt-1 > maxJump {
			continue // what was written for no pushed yes out of reach
		}
		e.rev = append(e.rev, Insn{Code: code, Jt: uint8(n - jt - 1), Jf: uint8(n - jf - 1), K: k})
		return target{kind: toPos, pos: int32(n), load: noAcc}
	}
}

// load writes the load of a word before next.
func (e *emitter) load(off uint16, next target) target {
	if next.kind != toPos || next.load == off {
		return next
	}
	if int(next.pos) != len(e.rev)-1 {
		e.rev = append(e.rev, Insn{Code: insnJA, K: uint32(len(e.rev) - int(next.pos) - 1)})
	}
	e.rev = append(e.rev, Insn{Code: insnLoad, K: uint32(off)})
	return target{kind: toPos, pos: int32(len(e.rev) - 1), load: off}
}

// maxExceptions is how many single values are tested one by one before the range around them is.
const maxExceptions = 2

// item is a few spans that are decided together: one target, but for some single values.
type item struct {
	first, end int32 // spans[first:end]
	base       int32 // the span whose target is the item's
}

// search writes a binary search for the accumulator's span.
func (e *emitter) search(spans []span, acc uint16) target {
	items := make([]item, 0, len(spans))
	for i, n := int32(0), int32(len(spans)); i < n; {
		it := item{first: i, base: i, end: i + 1}
		room := maxExceptions
		if single(spans, i) && i+1 < n {
			it.base, it.end, room = i+1, i+2, room-1
		}
		for ; room > 0 && it.end+1 < n && single(spans, it.end) && spans[it.end+1].to == spans[it.base].to; room-- {
			it.end += 2
		}
		items = append(items, it)
		i = it.end
	}
	return e.searchItems(spans, items, acc)
}

// single reports whether a span is one value.
func single(spans []span, i int32) bool {
	return int(i)+1 < len(spans) && spans[i+1].start-spans[i].start == 1
}

func (e *emitter) searchItems(spans []span, items []item, acc uint16) target {
	if len(items) == 1 {
		it := items[0]
		t := spans[it.base].to
		for i := it.end - 1; i >= it.first; i-- {
			if spans[i].to != spans[it.base].to {
				t = e.jump(insnJEQ, spans[i].start, spans[i].to, t, acc)
			}
		}
		return t
	}
	mid := len(items) / 2
	right := e.searchItems(spans, items[mid:], acc)
	left := e.searchItems(spans, items[:mid], acc)
	return e.jump(insnJGE, spans[items[mid].first].start, right, left, acc)
}
