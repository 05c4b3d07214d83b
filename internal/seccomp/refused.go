package seccomp

// Refused lists those of the native system calls names that a filter (as Filter.Bytes has it) does not let through, with arguments of
// zero. It is for texts of errors.
func Refused(filter []byte, names ...string) (out []string) {
	a, ok := lookupArch(Native())
	if !ok {
		return nil
	}
	prog := make([]Insn, len(filter)/8)
	for i := range prog {
		b := filter[8*i:]
		prog[i] = Insn{
			uint16(b[0]) | uint16(b[1])<<8, b[2], b[3],
			uint32(b[4]) | uint32(b[5])<<8 | uint32(b[6])<<16 | uint32(b[7])<<24,
		}
	}
	for _, name := range names {
		id := lookupName(name)
		for _, c := range a.calls {
			if int(c.name) != id {
				continue
			}
			ret, err := Run(prog, Data{Nr: int32(a.number(c)), Arch: a.audit})
			if act := ret &^ 0xffff; err == nil && act != retAllow && act != retLog {
				out = append(out, name)
			}
		}
	}
	return out
}
