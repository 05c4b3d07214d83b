// Package testenv is what tests share: when a test may skip, real root filesystems, our own programs, and the check
// that a test run leaves the machine as it found it. Only tests import it.
//
// # Skips
//
// Need names a Feature. A test that lacks one skips and says which; with MUST_WORK=1 (.ci/run sets it) the skip is a
// failure, unless the feature is newer than the running kernel or the host can be set up without it (Optional).
//
// # Leaks
//
// Main runs a package's tests between two looks at the machine. Packages are tested at the same time, and other
// things run too, so a leak is only charged to a run that can be recognised in it: Main points TMPDIR at a folder of
// its own (t.TempDir is below it), and ID makes container names with the run's token. What holds either of them and
// was not there before is a leak: mounts, cgroups, links, folders of /run/vitrun and /run/vitro, processes; so are
// the run's own children and open files. `make test` looks once more around everything, with the program leakcheck.
//
// Links have no room for a token: name a test's links with ID's last 11 bytes, or leave them to leakcheck.
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
//	func TestRun(t *testing.T) {
//		testenv.Need(t, testenv.Root)
//		rootfs := testenv.Rootfs(t)
//		cmd := exec.Command(testenv.VitrunPath(t), "run", "--bundle", bundle(rootfs), testenv.ID(t))
//		…
//	}
package testenv
