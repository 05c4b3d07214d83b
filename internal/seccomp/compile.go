package seccomp

import (
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxInsns is BPF_MAXINSNS: the longest program that the kernel takes.
const maxInsns = 4096

// Filter is a program for seccomp(2), SECCOMP_SET_MODE_FILTER.
type Filter struct {
	Prog  []Insn
	Flags uint32 // SECCOMP_FILTER_FLAG_*
}

// Bytes returns the program as an array of struct sock_filter in little-endian byte order.
func (f *Filter) Bytes() []byte {
	b := make([]byte, 0, 8*len(f.Prog))
	for _, in := range f.Prog {
		b = append(b, byte(in.Code), byte(in.Code>>8), in.Jt, in.Jf,
			byte(in.K), byte(in.K>>8), byte(in.K>>16), byte(in.K>>24))
	}
	return b
}

// compiler holds a profile whose names are resolved: for each name the list of its rules.
type compiler struct {
	emitter
	profile *specs.LinuxSeccomp
	rules   []rule
	links   []link            // what heads and next point into, from 1
	heads   [nameCount]uint16 // first rule of a name, 0 for none
	tails   [nameCount]uint16
	named   [nameCount]bool // the profile names it, maybe only in rules that are skipped
	refs    []ref           // scratch
	spans   []span          // scratch
	conds   []cond          // what rules and tests point into
	enosys  bool            // calls newer than the profile get ENOSYS
	err     error
}

// link is an element of a name's list of rules.
type link struct{ rule, next uint16 }

// Compile translates a profile for a kernel whose own architecture is native, which is always part of the filter.
// A nil profile, or one with neither default action nor rules, is no filter: the result is nil.
func Compile(profile *specs.LinuxSeccomp, native specs.Arch) (*Filter, error) {
	if profile == nil || profile.DefaultAction == "" && len(profile.Syscalls) == 0 {
		return nil, nil
	}
	c := &compiler{profile: profile}
	archs, err := parseArchs(profile.Architectures, native)
	if err != nil {
		return nil, err
	}
	flags, err := parseFlags(profile.Flags)
	if err != nil {
		return nil, err
	}
	if err := c.parse(len(archs)); err != nil {
		return nil, err
	}
	c.rev = make([]Insn, 0, 512)
	c.program(archs)
	if c.err != nil {
		return nil, c.err
	}
	if len(c.rev) > maxInsns {
		return nil, &fieldError{
			"syscalls", "the filter has " + strconv.Itoa(len(c.rev)) + " instructions, the kernel takes 4096",
		}
	}
	for i, j := 0, len(c.rev)-1; i < j; i, j = i+1, j-1 {
		c.rev[i], c.rev[j] = c.rev[j], c.rev[i]
	}
	return &Filter{Prog: c.rev, Flags: flags}, nil
}

// parseArchs returns the native architecture and the configured ones, each once.
func parseArchs(names []specs.Arch, native specs.Arch) ([]arch, error) {
	first, ok := lookupArch(native)
	if !ok {
		return nil, &fieldError{"architectures", "seccomp is not supported on this architecture"}
	}
	archs := append(make([]arch, 0, 1+len(names)), first)
next:
	for i, name := range names {
		for j := range archs {
			if archs[j].name == name {
				continue next
			}
		}
		a, ok := lookupArch(name)
		field := "architectures[" + strconv.Itoa(i) + "]"
		if !ok {
			return nil, &fieldError{field, "unknown architecture " + strconv.Quote(string(name))}
		}
		if a.bigEndian() != first.bigEndian() {
			return nil, &fieldError{field, string(name) + " has another byte order than " + string(native)}
		}
		archs = append(archs, a)
	}
	return archs, nil
}

// parse checks the profile, and fills in rules and the lists of rules by name.
func (c *compiler) parse(archs int) error {
	p := c.profile
	def, err := parseAction(p.DefaultAction, p.DefaultErrnoRet, -1)
	if err != nil {
		return err
	}
	switch {
	case p.ListenerPath != "":
		return &fieldError{"listenerPath", "SCMP_ACT_NOTIFY is not supported"}
	case p.ListenerMetadata != "":
		return &fieldError{"listenerMetadata", "SCMP_ACT_NOTIFY is not supported"}
	}
	c.defaultRet = def
	switch p.DefaultAction {
	case specs.ActAllow, specs.ActLog, specs.ActTrace: // a tracer is to decide about new calls itself
	default:
		c.enosys = p.DefaultErrnoRet == nil || *p.DefaultErrnoRet != eNOSYS
	}
	names, args := 0, 0
	for i := range p.Syscalls {
		names += len(p.Syscalls[i].Names)
		args += len(p.Syscalls[i].Args)
	}
	c.links = make([]link, 1, 1+names)
	c.rules = make([]rule, 0, len(p.Syscalls))
	c.conds = make([]cond, 0, args*(1+archs)) // an architecture has its own copy
	c.spans = make([]span, 0, 256)
	for i := range p.Syscalls {
		if err := c.parseEntry(i); err != nil {
			return err
		}
	}
	if len(c.links) > 0xffff || len(c.rules) > 0xffff {
		return &fieldError{"syscalls", "too many rules"}
	}
	return nil
}

// parseEntry adds the rules of linux.seccomp.syscalls[i].
func (c *compiler) parseEntry(i int) error {
	s := &c.profile.Syscalls[i]
	ret, err := parseAction(s.Action, s.ErrnoRet, i)
	if err != nil {
		return err
	}
	conds, split, err := c.parseArgs(i, s.Args)
	if err != nil {
		return err
	}
	first := len(c.rules)
	switch {
	case ret == c.defaultRet: // says nothing, but its names are known to the profile
	case split:
		for j := range conds {
			c.rules = append(c.rules, rule{ret, int32(i), conds[j : j+1]})
		}
	default:
		c.rules = append(c.rules, rule{ret, int32(i), conds})
	}
	for j, name := range s.Names {
		if name == "" {
			return &fieldError{entryField(i, "names["+strconv.Itoa(j)+"]"), "is empty"}
		}
		id := lookupName(name)
		if id < 0 {
			continue // unknown to all kernels that we know of
		}
		c.named[id] = true
		switch mux := nameMux[id]; { // not so in runc, which answers such a call with ENOSYS if nothing above it is named
		case mux&muxIPC != 0:
			c.named[nameIPC] = true
		case mux != 0:
			c.named[nameSocketcall] = true
		}
		for r := first; r < len(c.rules); r++ {
			c.link(id, r)
		}
	}
	return nil
}

// link adds a rule to a name's list.
func (c *compiler) link(id, rule int) {
	at := uint16(len(c.links))
	c.links = append(c.links, link{rule: uint16(rule)})
	if c.heads[id] == 0 {
		c.heads[id] = at
	} else {
		c.links[c.tails[id]].next = at
	}
	c.tails[id] = at
}

// program writes the whole filter: a test of the architecture, then a search for the number. The native
// architecture comes last, which is first in the program. Others are killed, as by libseccomp.
func (c *compiler) program(archs []arch) {
	if archs[0].bigEndian() {
		c.loOff = 4
	}
	at := make([]target, len(archs))
	for i := len(archs) - 1; i >= 0; i-- {
		a, x32 := &archs[i], (*arch)(nil)
		switch partner := sameAudit(archs, i); {
		case a.name != specs.ArchX32:
			x32 = partner
		case partner == nil:
			a, x32 = nil, a
		default:
			continue // written with x86_64
		}
		c.spans = c.numbers(c.spans[:0], a, x32)
		at[i] = c.load(offNr, c.search(c.spans, offNr))
	}
	entry := ret(retKillThread)
	for i := len(archs) - 1; i >= 0; i-- {
		if archs[i].name != specs.ArchX32 || sameAudit(archs, i) == nil {
			entry = c.jump(insnJEQ, archs[i].audit, at[i], entry, offArch)
		}
	}
	entry = c.load(offArch, entry)
	if pos := c.place(entry, noAcc); pos != len(c.rev)-1 {
		c.rev = append(c.rev, Insn{Code: insnJA, K: uint32(len(c.rev) - pos - 1)})
	}
}

// sameAudit returns the other architecture with the AUDIT_ARCH of archs[i]: x32 for x86_64 and the other way round.
func sameAudit(archs []arch, i int) *arch {
	for j := range archs {
		if archs[j].audit == archs[i].audit && j != i {
			return &archs[j]
		}
	}
	return nil
}
