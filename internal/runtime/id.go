package runtime

import "path/filepath"

// nameMax is NAME_MAX: an id is a folder's name.
const nameMax = 255

// checkID holds an id to runc's ^[\w+-\.]+$, in which +-\. is a range: + , - and the dot.
func checkID(id string) error {
	if id == "" {
		return text("container id cannot be empty")
	}
	ok := id != "." && id != ".." && len(id) <= nameMax
	for i := 0; ok && i < len(id); i++ {
		c := id[i]
		ok = c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_' || c >= '+' && c <= '.'
	}
	if !ok {
		return text("invalid container ID format: " + clip(id))
	}
	return nil
}

// clip keeps an error one readable line.
func clip(s string) string {
	if len(s) > 64 {
		return s[:61] + "..."
	}
	return s
}

func (r *Runtime) dir(id string) string { return filepath.Join(r.Root, id) }
