package probe

import "testing"

// This kernel has everything; what a kernel without a feature answers is shown with calls that no kernel has.
func TestProbe(t *testing.T) {
	for _, f := range features() {
		if got := f.Probe(); got != Present {
			t.Errorf("%s: %v", f.Name, got)
		}
	}
	if m := Missing(); m != "" {
		t.Error(m)
	}
}
