// peer compiles profiles with libseccomp, for differential_test.go. Input, one command a line:
//   P ACTION            new profile with a default action
//   N ARCH              replaces the native architecture, A ARCH adds one
//   R ACTION NAME N (ARG OP A B)*N
//   E                   writes the program: its size in bytes and itself, or ~0 when a rule was refused
//   F                   the same with the filter as pseudo code
// Each profile has a process of its own, since libseccomp 2.5 crashes or loops on some.
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int add_rule(scmp_filter_ctx ctx, const char *line)
{
	struct scmp_arg_cmp args[6];
	char name[64];
	uint32_t action;
	unsigned count;
	int used, more;

	if (sscanf(line, "R %" SCNu32 " %63s %u%n", &action, name, &count, &used) != 3 || count > 6)
		return -1;
	for (unsigned i = 0; i < count; i++, used += more) {
		unsigned arg, op;
		if (sscanf(line + used, " %u %u %" SCNu64 " %" SCNu64 "%n", &arg, &op, &args[i].datum_a, &args[i].datum_b, &more) != 4)
			return -1;
		args[i].arg = arg;
		args[i].op = op;
	}
	int nr = seccomp_syscall_resolve_name(name);
	return nr == __NR_SCMP_ERROR ? 0 : seccomp_rule_add_array(ctx, action, nr, count, args);
}

// compile runs the commands in text, and writes to fd. It returns 0 if libseccomp took everything.
static int compile(char *text, int fd)
{
	scmp_filter_ctx ctx = NULL;
	int rc = 0, rules = 0;
	uint32_t v = 0;

	for (char *line = strtok(text, "\n"); line && rc == 0; line = strtok(NULL, "\n")) {
		sscanf(line + 1, "%" SCNu32, &v);
		switch (line[0]) {
		case 'P':
			ctx = seccomp_init(v);
			break;
		case 'N':
			rc = seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE) || seccomp_arch_add(ctx, v);
			break;
		case 'A':
			rc = seccomp_arch_add(ctx, v);
			break;
		case 'R':
			rules++;
			rc = add_rule(ctx, line);
			break;
		default:
			if (rules > 32) // as runc does
				seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
			rc = (line[0] == 'E' ? seccomp_export_bpf : seccomp_export_pfc)(ctx, fd);
		}
	}
	return rc != 0;
}

int main(void)
{
	static char text[1 << 20], out[1 << 20];
	size_t len = 0;
	int fd = fileno(tmpfile());

	while (fgets(text + len, sizeof text - len, stdin)) {
		char cmd = text[len];
		len += strlen(text + len);
		if (cmd != 'E' && cmd != 'F')
			continue;
		if (ftruncate(fd, 0) || lseek(fd, 0, SEEK_SET))
			return 1;
		pid_t pid = fork();
		if (pid == 0) {
			alarm(2);
			_exit(compile(text, fd));
		}
		int status;
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			return 1;
		uint32_t size = lseek(fd, 0, SEEK_END);
		lseek(fd, 0, SEEK_SET);
		if (status != 0 || size > sizeof out || read(fd, out, size) != size)
			size = ~0u;
		fwrite(&size, 4, 1, stdout);
		if (size != ~0u)
			fwrite(out, 1, size, stdout);
		fflush(stdout);
		len = 0;
	}
	return 0;
}
