package seccomp

// call is one row of an architecture's table: the number as encoded by gen (see arch.number) and the name's index.
type call struct{ nr, name uint16 }

// muxIPC marks the entries of nameMux that go through ipc(2); the others go through socketcall(2).
const muxIPC = 0x80

// hashName is FNV-1a, folded so that its low bits are good; gen/gen.go computes the same.
func hashName(s string) uint32 {
	h := uint32(2166136261)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h ^ h>>16
}

// lookupName returns the index of a system call's name, or -1 when no architecture has a call of that name.
func lookupName(s string) int {
	for h := hashName(s); ; h++ {
		i := int(nameHash[h%nameHashSize]) - 1
		if i < 0 || nameAt(i) == s {
			return i
		}
	}
}

func nameAt(i int) string {
	start := uint16(0)
	if i > 0 {
		start = nameEnd[i-1]
	}
	return nameText[start:nameEnd[i]]
}
