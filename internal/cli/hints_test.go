package cli

import (
	"os"
	"regexp"
	"testing"
)

// Each flag that the security view names is one of run's, and not one that is refused.
func TestHintsAreFlags(t *testing.T) {
	source, err := os.ReadFile("../explain/security.go")
	if err != nil {
		t.Fatal(err)
	}
	flags := runCmdFor(&app{}, &runFlags{}).Flags()
	names := regexp.MustCompile(`(vitrun's )?--([a-z-]*[a-z])`).FindAllSubmatch(source, -1)
	if len(names) < 10 {
		t.Fatalf("%q", names)
	}
	for _, n := range names {
		if f := flags.Lookup(string(n[2])); len(n[1]) == 0 && (f == nil || f.Hidden) {
			t.Errorf("vitro run has no --%s", n[2])
		}
	}
}
