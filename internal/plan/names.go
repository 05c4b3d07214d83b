package plan

// Verb is the op in a word: the system call's name.
func (o *Op) Verb() string {
	switch o.Kind {
	case Test:
		if o.Args[1].V == 0 && o.Args[2].V == 0 {
			return "skip"
		} else if o.Args[1].V == 0 {
			return "fail"
		}
		return "check"
	case Copy:
		return "copy"
	case Call:
		return o.Name
	case Clone:
		return "clone3"
	}
	if n := CallName(int(o.Nr)); n != "" {
		return n
	}
	return "system call"
}
