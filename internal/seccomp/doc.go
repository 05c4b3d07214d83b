// Package seccomp compiles the seccomp profile of an OCI config (config-linux.md, "Seccomp") into a classic BPF
// program for seccomp(2). It needs no libseccomp, and does what runc with libseccomp does:
//
//   - conditions of one rule must all hold, unless two are on the same argument: then each is a rule of its own;
//   - rules with the default action say nothing and are skipped; names that no architecture knows are ignored;
//   - the first rule without conditions wins over all others of its call. Conditions are tried in libseccomp's order
//     (see before in leaf.go), and two actions for the same conditions are refused;
//   - 32-bit architectures (x32 among them) look at the low word of an argument and of the value only;
//   - calls that x86, s390, ppc and mips carry in socketcall(2) and ipc(2) are allowed there, too, by the call number
//     in the first argument; conditions on the others can't be checked there and are matched as libseccomp does;
//   - calls with an architecture that is not in the profile kill the thread;
//   - calls with a number above the largest one that the profile names get ENOSYS and not the default action, so that
//     a libc newer than the profile falls back to an older call (runc's patchbpf). Not so where the default action is
//     ALLOW, LOG or TRACE, or defaultErrnoRet is ENOSYS.
//
// It differs where the peers are wrong or undefined: SCMP_ACT_NOTIFY is refused by name, as is an errnoRet with an
// action that takes none (the specification wants that); SCMP_CMP_LE on 32-bit architectures is right, and so are
// several rules of one call whose comparisons fail half-way (libseccomp 2.5 tests the wrong word there); rules with
// different actions whose NE, less and greater comparisons overlap are simply tried in order; and socketcall and ipc
// count as named when a call that they carry is.
//
// The program tests the architecture, then searches the number in a binary tree of ranges with one decision, so a call
// costs about six comparisons. Numbers come from tables that go generate makes (gen/gen.go).
//
//	filter, err := seccomp.Compile(spec.Linux.Seccomp, seccomp.Native())
//	if err != nil {
//		return err // linux.seccomp.syscalls[3].action: SCMP_ACT_NOTIFY is not supported
//	}
//	if filter != nil {
//		load(filter.Flags, filter.Bytes()) // PR_SET_NO_NEW_PRIVS or CAP_SYS_ADMIN, then seccomp(2)
//	}
package seccomp

//go:generate go run gen/gen.go
