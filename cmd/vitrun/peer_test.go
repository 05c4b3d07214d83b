package main

import (
	"encoding/json"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestSameAsRunc runs one script with both runtimes: status, and the shape of what a success prints, must agree.
func TestSameAsRunc(t *testing.T) {
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("needs runc")
	}
	dir := bundle(t, func(s *specs.Spec) { s.Version = "1.0.2" })
	own, id := binary, name(t)
	script := [][]string{
		{"list", "-f", "json"},
		{"state", id},
		{"delete", id},
		{"delete", "--force", id},
		{"create", "-b", dir, id},
		{"state", id},
		{"create", "-b", dir, id},
		{"list", "-f", "json"},
		{"list"},
		{"ps", id},
		{"ps", "-f", "json", id},
		{"exec", id, "true"},
		{"exec", id, "sh", "-c", "exit 5"},
		{"exec", id, "nope"},
		{"exec", id},
		{"start", id},
		{"start", id},
		{"ps", id, "-o", "pid,comm"},
		{"resume", id},
		{"pause", id},
		{"pause", id},
		{"state", id},
		{"exec", id, "true"},
		{"delete", id},
		{"resume", id},
		{"resume", id},
		{"delete", id},
		{"kill", id, "FOO"},
		{"kill", id, "KILL"},
		{"sleep"},
		{"state", id},
		{"kill", id},
		{"kill", "--all", id},
		{"pause", id},
		{"start", id},
		{"exec", id, "true"},
		{"delete", id},
		{"ps", id},
		{"kill"},
		{"run", "--nope", id},
		{"nocommand"},
		{"list", "--format", "x"},
		{"list", "-q"},
	}
	type step struct {
		Code  int
		Shape any
	}
	play := func(program string) (out []step) {
		defer func(old string) { binary = old }(binary)
		binary = program
		root := newRoot(t, id)
		for _, args := range script {
			if args[0] == "sleep" { // init's death
				time.Sleep(300 * time.Millisecond)
				continue
			}
			text, code := vitrun(t, root, args...)
			s := step{Code: code}
			if code == 0 {
				s.Shape = shape(text)
			}
			out = append(out, s)
		}
		return out
	}
	theirs, ours := play(runc), play(own)
	steps := slices.DeleteFunc(script, func(a []string) bool { return a[0] == "sleep" })
	for i := range steps {
		if !reflect.DeepEqual(theirs[i], ours[i]) {
			t.Errorf("%v: runc %v, vitrun %v", steps[i], theirs[i], ours[i])
		}
	}
}

// shape is the keys and types of a JSON text, or the words of a table's first line.
func shape(text string) any {
	var v any
	if json.Unmarshal([]byte(text), &v) == nil {
		return shapeOf(v)
	}
	first, _, _ := strings.Cut(text, "\n")
	return strings.Join(strings.Fields(first), " ")
}

func shapeOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			v[k] = shapeOf(x)
		}
		return v
	case []any:
		for i, x := range v {
			v[i] = shapeOf(x)
		}
		return v
	}
	return reflect.TypeOf(v)
}
