// tables prints "<arch> <number> <name>" for every system call that libseccomp knows, and "mux" lines for
// the calls that socketcall(2) and ipc(2) carry. Run by gen.go; never part of the product.
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>

static const struct { const char *name; unsigned token; } archs[] = {
	{"x86", SCMP_ARCH_X86}, {"x86_64", SCMP_ARCH_X86_64}, {"x32", SCMP_ARCH_X32},
	{"arm", SCMP_ARCH_ARM}, {"aarch64", SCMP_ARCH_AARCH64},
	{"mips", SCMP_ARCH_MIPS}, {"mips64", SCMP_ARCH_MIPS64}, {"mips64n32", SCMP_ARCH_MIPS64N32},
	{"ppc", SCMP_ARCH_PPC}, {"ppc64", SCMP_ARCH_PPC64},
	{"s390", SCMP_ARCH_S390}, {"s390x", SCMP_ARCH_S390X},
	{"parisc", SCMP_ARCH_PARISC}, {"parisc64", SCMP_ARCH_PARISC64}, {"riscv64", SCMP_ARCH_RISCV64},
};

static void scan(const char *arch, unsigned token, int from, int to)
{
	for (int nr = from; nr < to; nr++) {
		char *name = seccomp_syscall_resolve_num_arch(token, nr);
		if (!name)
			continue;
		if (nr >= 0)
			printf("%s %d %s\n", arch, nr, name);
		else if (nr > -1000 && token == SCMP_ARCH_X86)
			printf("mux %d %s\n", -nr, name);
		// A number may have two names, and resolves to the first only: ask for each name on every architecture.
		for (unsigned i = 0; i < sizeof archs / sizeof *archs; i++) {
			int n = seccomp_syscall_resolve_name_arch(archs[i].token, name);
			if (n >= 0)
				printf("%s %d %s\n", archs[i].name, n, name);
		}
		free(name);
	}
}

int main(void)
{
	for (unsigned i = 0; i < sizeof archs / sizeof *archs; i++) {
		scan(archs[i].name, archs[i].token, -10500, 7000);
		if (archs[i].token == SCMP_ARCH_X32)
			scan("x32", SCMP_ARCH_X32, 0x40000000, 0x40000400);
		if (archs[i].token == SCMP_ARCH_ARM)
			scan("arm", SCMP_ARCH_ARM, 0xf0000, 0xf0010);
	}
	return 0;
}
