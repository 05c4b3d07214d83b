// Package vitro holds scripts (txtar, see github.com/rogpeppe/go-internal/testscript) that run vitro as a user does. They
// use Docker's verbs only, so that most of them also say what docker does: VITRO_TEST_PROGRAM=docker runs them against it.
//
// Each script has a store of its own (VITRO_ROOT) with the image bb, Debian's busybox, and must leave no mount, cgroup,
// process or folder.
package vitro
