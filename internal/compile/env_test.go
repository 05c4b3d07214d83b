package compile

import (
	"slices"
	"testing"
)

func TestEnvironmentOfMany(t *testing.T) {
	var few []string
	few = append(few, "A=1", "HOME=", "B=2", "A=3")
	want := environment(few, "/h")
	many := slices.Clone(few)
	for k := range 300 {
		many = append(many, "X"+itoa(k)+"=1")
	}
	got := environment(many, "/h")
	if !slices.Equal(got[:2], want[:2]) || len(got) != len(want)+300 || got[len(got)-1] != "HOME=/h" {
		t.Errorf("few: %q, many: %q", want, got[:5])
	}
}
