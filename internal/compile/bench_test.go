package compile

import (
	"testing"

	"vitro/internal/spec"
	"vitro/internal/stub"
)

func BenchmarkContainer(b *testing.B) {
	s := spec.Example()
	s.Process.Terminal = false
	in := &Input{Spec: s, ID: "t", Bundle: "/b", ConsoleFD: -1, RootFD: -1}
	for b.Loop() {
		p, err := Container(in)
		if err != nil {
			b.Fatal(err)
		}
		_ = stub.Encode(p, make([]uint64, p.NSlots), 3)
	}
}
