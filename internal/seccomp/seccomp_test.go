package seccomp

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	dockerseccomp "github.com/moby/profiles/seccomp"
)

func dockerProfile(tb testing.TB) *specs.LinuxSeccomp {
	p, err := dockerseccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// A hand-made and Docker's profile must fit in the kernel's limit with room to spare.
func TestDockerSize(t *testing.T) {
	f, err := Compile(dockerProfile(t), Native())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(f.Prog))
	if len(f.Prog) > 1000 {
		t.Errorf("Docker's profile is %d instructions", len(f.Prog))
	}
}

func BenchmarkCompile(b *testing.B) {
	p := dockerProfile(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(p, Native()); err != nil {
			b.Fatal(err)
		}
	}
}
