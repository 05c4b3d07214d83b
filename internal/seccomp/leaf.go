package seccomp

// ref is a rule as one system call sees it. mux is not 0 for a call that goes through socketcall(2) or ipc(2): the
// first condition is then on that call's number, and takes the place of one on argument 0, as in libseccomp.
type ref struct {
	rule uint16
	mux  uint8
}

// compare orders refs as their rules are in the profile.
func (r ref) compare(s ref) int { return int(r.rule)<<8 + int(r.mux) - int(s.rule)<<8 - int(s.mux) }

// leaf is the decision for a system call with conditions on its arguments.
type leaf struct {
	refs  []ref // as in the profile
	wide  bool
	tests []test // what refs come to, in order of precedence
	at    target
	done  bool
}

// test is a rule of a leaf, with conditions for the architecture's word size.
type test struct {
	ret   uint32
	entry int32
	mux   bool
	conds []cond
}

// newTest fits a rule to a word size and drops conditions that always hold.
func (c *compiler) newTest(r *rule, mux uint8, wide bool) test {
	start := len(c.conds)
	if mux != 0 {
		c.conds = append(c.conds, cond{op: opEQ, val: uint64(mux &^ muxIPC), mask: uint64(^uint32(0))})
	}
	for _, cond := range r.conds {
		if mux != 0 && cond.arg == 0 {
			continue
		}
		if !wide {
			cond.val, cond.mask = uint64(uint32(cond.val)), uint64(uint32(cond.mask))
		}
		if cond.op != opMasked || cond.mask != 0 {
			c.conds = append(c.conds, cond)
		}
	}
	return test{r.ret, r.entry, mux != 0, c.conds[start:len(c.conds):len(c.conds)]}
}

// always reports whether a rule takes every call: it has no condition, or only masks without a bit.
func (r *rule) always(wide bool) bool {
	for i := range r.conds {
		c := &r.conds[i]
		if c.op != opMasked || uint32(c.mask) != 0 || wide && c.mask != 0 {
			return false
		}
	}
	return true
}

// order sorts tests as libseccomp does, and inserts later ones behind their equals (db.c, _db_chain_lt).
func order(tests []test, wide bool) {
	for i := range tests {
		for j := i; j > 0 && before(tests[j].conds, tests[j-1].conds, wide); j-- {
			tests[j], tests[j-1] = tests[j-1], tests[j]
		}
	}
}

// before reports whether conditions a come before b: those on later arguments first, then equality before less than
// before greater than, then by value, smaller values first for less than, larger ones first for the others. What is
// still equal keeps its order. Of two where one is the start of the other the shorter comes first.
func before(a, b []cond, wide bool) bool {
	for i := range a {
		if i == len(b) {
			return false
		}
		if a[i].arg != b[i].arg {
			return a[i].arg > b[i].arg
		}
		class, other := a[i].class(), b[i].class()
		if class != other {
			return class > other
		}
		for _, shift := range [...]uint{32, 0} { // libseccomp compares word by word
			if shift > 0 && !wide {
				continue
			}
			va, vb := uint32(a[i].val>>shift), uint32(b[i].val>>shift)
			if va != vb {
				return (va > vb) == (class != classLess)
			}
			if a[i].kind() != b[i].kind() || uint32(a[i].mask>>shift) != uint32(b[i].mask>>shift) {
				return false
			}
		}
		if a[i].op != b[i].op {
			return false
		}
	}
	return len(a) < len(b)
}

const (
	classGreater = iota
	classLess
	classEqual
)

func (c *cond) class() int {
	switch c.op {
	case opGT, opGE:
		return classGreater
	case opLT, opLE:
		return classLess
	}
	return classEqual
}

// kind is what decides, beside value and mask, whether two conditions are one node of libseccomp's tree.
func (c *cond) kind() cmpOp {
	if c.op == opMasked {
		return opMasked
	}
	return opNone
}

// conflict returns the later of two entries with different actions for the same arguments, or a later one that takes
// all calls of an earlier one with more conditions (libseccomp: EEXIST), and the earlier; -1 when there is none.
func conflict(tests []test) (later, earlier int) {
	for i := range tests {
		for j := range i {
			a, b := &tests[i], &tests[j]
			if a.ret != b.ret && !a.mux && !b.mux && isPrefix(a.conds, b.conds) {
				return int(a.entry), int(b.entry)
			}
		}
	}
	return -1, -1
}

func isPrefix(a, b []cond) bool {
	if len(a) > len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// leaf writes leaf i unless that is done, and returns where it is.
func (e *emitter) leaf(i int) target {
	l := &e.leaves[i]
	if l.done {
		return l.at
	}
	next := ret(e.defaultRet)
	tests := l.tests
	for n := len(tests); n > 0; {
		first := n - 1
		for first > 0 && sameWord(&tests[n-1], &tests[first-1], l.wide) {
			first--
		}
		if n-first > 1 {
			next = e.valueSet(tests[first:n], l.wide, next)
		} else {
			next = e.test(&tests[first], l.wide, next)
		}
		n = first
	}
	l.at, l.done = next, true
	return next
}

// sameWord reports whether two tests are both a single equality on one argument, with the same high word.
func sameWord(a, b *test, wide bool) bool {
	if len(a.conds) != 1 || len(b.conds) != 1 {
		return false
	}
	x, y := &a.conds[0], &b.conds[0]
	return x.op == opEQ && y.op == opEQ && x.arg == y.arg && (!wide || x.val>>32 == y.val>>32)
}

// valueSet writes a search for tests of one argument against several values, which are in descending order.
func (e *emitter) valueSet(tests []test, wide bool, no target) target {
	spans := make([]span, 1, 2*len(tests)+1)
	spans[0] = span{0, no}
	for i := len(tests) - 1; i >= 0; i-- {
		v := uint32(tests[i].conds[0].val)
		if i > 0 && uint32(tests[i-1].conds[0].val) == v {
			continue // the first one decides
		}
		spans = appendSpan(spans, v, ret(tests[i].ret))
		if v == ^uint32(0) {
			break
		}
		spans = appendSpan(spans, v+1, no)
	}
	c := &tests[0].conds[0]
	lo := offArgs + 8*uint16(c.arg) + e.loOff
	yes := e.load(lo, e.search(spans, lo))
	if !wide {
		return yes
	}
	hi := lo ^ 4
	return e.load(hi, e.jump(insnJEQ, uint32(c.val>>32), yes, no, hi))
}

// appendSpan adds a span behind the others, or extends the last one. A span at the last one's start replaces it.
func appendSpan(spans []span, start uint32, to target) []span {
	n := len(spans)
	if n > 0 && spans[n-1].start == start {
		n--
	}
	if n > 0 && spans[n-1].to == to {
		return spans[:n]
	}
	return append(spans[:n], span{start, to})
}

// test writes one rule: its action when all conditions hold, else no.
func (e *emitter) test(t *test, wide bool, no target) target {
	at := ret(t.ret)
	for i := len(t.conds) - 1; i >= 0; i-- {
		at = e.cond(&t.conds[i], wide, at, no)
	}
	return at
}

// cond writes one comparison. A 64-bit one is made of comparisons of the high and of the low word.
func (e *emitter) cond(c *cond, wide bool, yes, no target) target {
	lo := offArgs + 8*uint16(c.arg) + e.loOff
	op := c.op
	switch op { // the negations of what BPF has
	case opNE:
		op, yes, no = opEQ, no, yes
	case opLT:
		op, yes, no = opGE, no, yes
	case opLE:
		op, yes, no = opGT, no, yes
	}
	vhi, vlo := uint32(c.val>>32), uint32(c.val)
	hi := lo ^ 4
	switch op {
	case opMasked:
		at := e.masked(lo, uint32(c.mask), vlo, yes, no)
		return e.masked(hi, uint32(c.mask>>32), vhi, at, no)
	case opEQ:
		at := e.load(lo, e.jump(insnJEQ, vlo, yes, no, lo))
		if !wide {
			return at
		}
		return e.load(hi, e.jump(insnJEQ, vhi, at, no, hi))
	}
	code := uint16(insnJGE)
	if op == opGT {
		code = insnJGT
	}
	at := e.load(lo, e.jump(code, vlo, yes, no, lo))
	if !wide {
		return at
	}
	if vhi != 0 { // a high word that is not above 0 is 0
		at = e.jump(insnJEQ, vhi, at, no, hi)
	}
	return e.load(hi, e.jump(insnJGT, vhi, yes, at, hi))
}

// masked writes word&mask == val.
func (e *emitter) masked(off uint16, mask, val uint32, yes, no target) target {
	switch {
	case mask == 0 || yes == no:
		return yes
	case mask == ^uint32(0):
		return e.load(off, e.jump(insnJEQ, val, yes, no, off))
	case val == 0:
		return e.load(off, e.jump(insnJSET, mask, no, yes, off))
	case val == mask && mask&(mask-1) == 0:
		return e.load(off, e.jump(insnJSET, mask, yes, no, off))
	}
	at := e.jump(insnJEQ, val, yes, no, noAcc)
	e.rev = append(e.rev, Insn{Code: insnAnd, K: mask})
	return e.load(off, target{kind: toPos, pos: at.pos + 1, load: noAcc})
}
