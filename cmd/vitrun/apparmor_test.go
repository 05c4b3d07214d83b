package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"vitro/internal/probe"
)

// A profile is applied or refused, never dropped; "unconfined" is right on every host.
func TestAppArmor(t *testing.T) {
	id := name(t)
	root, dir := newRoot(t, id), bundle(t, func(s *specs.Spec) {
		s.Process.Args, s.Process.ApparmorProfile = []string{"true"}, "unconfined"
	})
	expect(t, root, "", 0, "run", "-b", dir, id)
	none := ": AppArmor is not enabled on this host"
	if probe.AppArmor() {
		none = ": write exec vitro-absent (ENOENT: no such profile is loaded, see apparmor_parser(8)): no such file or directory"
	}
	absent := bundle(t, func(s *specs.Spec) { s.Process.ApparmorProfile = "vitro-absent" })
	expect(t, root, "vitrun run failed: unable to start container process: process.apparmorProfile (vitro-absent)"+none+"\n", 1, "run", "-b", absent, id)

	long := bundle(t, func(*specs.Spec) {})
	expect(t, root, "", 0, "run", "-d", "-b", long, id)
	defer vitrun(t, root, "delete", "--force", id)
	out, code := vitrun(t, root, "exec", "--apparmor", "vitro-absent", id, "true")
	if code == 0 || !strings.Contains(out, "process.apparmorProfile (vitro-absent)"+none) {
		t.Errorf("exec: %d %q", code, out)
	}
}

// TestAppArmorApplied loads a profile, which takes a kernel with AppArmor: that of test/vm/run -m qemu.
func TestAppArmorApplied(t *testing.T) {
	parser, err := exec.LookPath("apparmor_parser")
	if !probe.AppArmor() || err != nil {
		t.Skip("needs AppArmor and apparmor_parser")
	}
	id := name(t)
	parse := func(flag string) error {
		cmd := exec.Command(parser, "-K", flag)
		cmd.Stdin = strings.NewReader("profile " + id + " flags=(attach_disconnected) { file, capability, signal, deny /proc/version r, }\n")
		cmd.Stderr = os.Stderr
		return cmd.Run()
	}
	if err := parse("-r"); err != nil {
		t.Skip("cannot load a profile: ", err)
	}
	defer parse("-R") //nolint:errcheck // the machine goes with it
	for _, priv := range []bool{true, false} {
		root, dir := newRoot(t, id), bundle(t, func(s *specs.Spec) {
			s.Process.ApparmorProfile, s.Process.NoNewPrivileges = id, priv
			s.Process.Args = []string{"sh", "-c", "cat /proc/self/attr/current; sleep 60 & wait"}
		})
		out, code := vitrun(t, root, "run", "-d", "-b", dir, id)
		if code != 0 {
			t.Fatal(out)
		}
		out, code = vitrun(t, root, "exec", id, "cat", "/proc/self/attr/current", "/proc/1/attr/current")
		if line := id + " (enforce)\n"; code != 0 || out != line+line {
			t.Errorf("exec, no_new_privs %v: %d %q", priv, code, out)
		}
		if out, code = vitrun(t, root, "exec", id, "cat", "/proc/version"); code == 0 || !strings.Contains(strings.ToLower(out), "permission denied") {
			t.Errorf("a file that the profile denies: %d %q", code, out)
		}
		vitrun(t, root, "delete", "--force", id)
	}
}
