package seccomp

import (
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// numbers adds to spans the decision for every system call number of one AUDIT_ARCH. x86_64 and x32 share theirs; either
// may be nil, and x32 is nil for all others.
func (c *compiler) numbers(spans []span, a, x32 *arch) []span {
	def, kill, newer := ret(c.defaultRet), ret(retKillThread), ret(retENOSYS)
	if a != nil && a.name != specs.ArchX86_64 {
		spans, _ = c.calls(spans, a, 0)
		return spans
	}
	stub, stub32 := false, false
	if a != nil {
		spans, stub = c.calls(spans, a, 0)
	} else {
		spans = appendSpan(spans, 0, kill)
	}
	foreign := def // what runc's ENOSYS stub sees as x86_64 and libseccomp as x32
	switch {
	case x32 != nil:
		spans, stub32 = c.calls(spans, x32, x32Bit)
	default:
		spans = appendSpan(spans, x32Bit, kill)
		foreign = kill
	}
	if stub {
		foreign = newer
	}
	spans = appendSpan(spans, 1<<31, foreign)
	switch {
	case stub32:
		spans = appendSpan(spans, 1<<31|x32Bit, newer)
	case x32 != nil:
		spans = appendSpan(spans, 1<<31|x32Bit, def)
	default: // -1 is a tracer's way to skip a call
		spans = appendSpan(spans, 1<<31|x32Bit, kill)
		spans = appendSpan(spans, ^uint32(0), def)
	}
	return spans
}

// calls adds the decisions for the numbers of one architecture from start up. It reports whether the last span is
// ENOSYS, for calls newer than any that the profile names.
func (c *compiler) calls(spans []span, a *arch, start uint32) ([]span, bool) {
	def := ret(c.defaultRet)
	last, any := c.lastNumber(a)
	next := start
	if c.enosys && any && (a.name == specs.ArchS390 || a.name == specs.ArchS390X) {
		// Number 0 stands for every number that the kernel does not know.
		spans = appendSpan(spans, 0, ret(retENOSYS))
		next = 1
	}
	for i := 0; i < len(a.calls); {
		nr := a.number(a.calls[i])
		refs := c.refs[:0]
		for ; i < len(a.calls) && a.number(a.calls[i]) == nr; i++ {
			refs = c.gather(refs, int(a.calls[i].name))
		}
		c.refs = refs
		slices.SortFunc(refs, ref.compare)
		if len(refs) == 0 || nr < next {
			continue
		}
		if nr > next {
			spans = appendSpan(spans, next, def)
		}
		spans = appendSpan(spans, nr, c.decide(refs, a.wide))
		next = nr + 1
	}
	if c.enosys && any {
		if last >= next {
			spans = appendSpan(spans, next, def)
		}
		return appendSpan(spans, last+1, ret(retENOSYS)), true
	}
	return appendSpan(spans, next, def), false
}

// lastNumber returns the largest number that the profile names, as runc counts it: 0 alone is none.
func (c *compiler) lastNumber(a *arch) (uint32, bool) {
	for i := len(a.calls) - 1; i >= 0; i-- {
		if c.named[a.calls[i].name] {
			nr := a.number(a.calls[i])
			return nr, nr != 0
		}
	}
	return 0, false
}

// gather adds the rules of a name. socketcall and ipc also get the rules of the calls that they carry.
func (c *compiler) gather(refs []ref, name int) []ref {
	for l := c.heads[name]; l != 0; l = c.links[l].next {
		refs = append(refs, ref{rule: c.links[l].rule})
	}
	if name != nameSocketcall && name != nameIPC {
		return refs
	}
	for id, mux := range nameMux {
		if mux == 0 || (mux&muxIPC != 0) != (name == nameIPC) {
			continue
		}
		for l := c.heads[id]; l != 0; l = c.links[l].next {
			refs = append(refs, ref{c.links[l].rule, mux})
		}
	}
	return refs
}

// decide returns the target for a system call with these rules. The first unconditional one decides alone.
func (c *compiler) decide(refs []ref, wide bool) target {
	for _, r := range refs {
		if r.mux == 0 && c.rules[r.rule].always(wide) {
			return ret(c.rules[r.rule].ret)
		}
	}
	for i := range c.leaves {
		if l := &c.leaves[i]; l.wide == wide && slices.Equal(l.refs, refs) {
			return leafTarget(i)
		}
	}
	l := leaf{refs: slices.Clone(refs), wide: wide, tests: make([]test, 0, len(refs))}
	for _, r := range refs {
		l.tests = append(l.tests, c.newTest(&c.rules[r.rule], r.mux, wide))
	}
	if later, earlier := conflict(l.tests); later >= 0 && c.err == nil {
		c.err = &fieldError{
			entryField(later, "args"), "another action for the same arguments as syscalls[" + strconv.Itoa(earlier) + "]",
		}
	}
	order(l.tests, wide)
	c.leaves = append(c.leaves, l)
	return leafTarget(len(c.leaves) - 1)
}

func leafTarget(i int) target {
	return target{kind: toLeaf, k: uint32(i), load: noAcc}
}
