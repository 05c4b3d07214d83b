package main

import "strings"

// parseMountinfo reads proc_pid_mountinfo(5): id parent dev root target options [optional…] - type source super.
func parseMountinfo(s string) []mount {
	var mounts []mount
	for line := range strings.Lines(s) {
		head, tail, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		h, t := strings.Fields(head), strings.Split(tail, " ")
		if !ok || len(h) < 6 || len(t) < 3 {
			continue
		}
		mounts = append(mounts, mount{
			root: unescape(h[3]), target: unescape(h[4]), options: h[5],
			fstype: t[0], source: unescape(t[1]), super: t[2],
			readonly: h[5] == "ro" || strings.HasPrefix(h[5], "ro,") || t[2] == "ro" || strings.HasPrefix(t[2], "ro,"),
		})
	}
	return mounts
}

// unescape undoes the octal that the kernel writes for blank, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && octal(s[i+1]) && octal(s[i+2]) && octal(s[i+3]) {
			b = append(b, (s[i+1]-'0')<<6|(s[i+2]-'0')<<3|(s[i+3]-'0'))
			i += 3
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

func octal(c byte) bool { return c >= '0' && c <= '7' }
