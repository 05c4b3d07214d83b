/*
 * floor: the kernel's share of "run the default spec bundle".
 *
 *	floor ROOTFS ID
 *
 * Makes what the default config.json of runc asks for, with nothing in between: a cgroup in every hierarchy, five or
 * six namespaces, the mounts, devices, masks and read-only paths, then /bin/true. It reads no configuration, checks
 * no path and takes no care of a hostile root filesystem. No runtime can be faster; how much slower one is, is its own.
 *
 * On v2 the clone goes straight into the cgroup. On v1 and hybrid the child is moved into each v1 hierarchy.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <mntent.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define CGROUP "/sys/fs/cgroup"
#define MAX_HIERARCHIES 16
#define PATH 512

struct hierarchy {
	char name[64];   /* last element of its mount point */
	char group[PATH]; /* our folder in it */
};

static struct hierarchy hierarchies[MAX_HIERARCHIES];
static int count, unified;

#define CHECK(call)                                                                   \
	do {                                                                          \
		if ((call) < 0) {                                                     \
			fprintf(stderr, "floor: %s: %s\n", #call, strerror(errno));   \
			exit(125);                                                    \
		}                                                                     \
	} while (0)

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[PATH * 2];
	int fd;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	CHECK(fd = open(path, O_WRONLY | O_CLOEXEC));
	CHECK(write(fd, text, strlen(text)));
	close(fd);
}

/* A cpuset takes no process before it has CPUs and memory nodes: hand down the parent's. */
static void copy_cpuset(const char *group, const char *name)
{
	char path[PATH * 2], text[256];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "%s/../%s", group, name);
	CHECK(fd = open(path, O_RDONLY | O_CLOEXEC));
	CHECK(n = read(fd, text, sizeof text - 1));
	close(fd);
	text[n] = 0;
	write_file(group, name, text);
}

static void find_hierarchies(const char *id)
{
	struct statfs fs;
	struct mntent *m;
	FILE *mounts;

	CHECK(statfs(CGROUP, &fs));
	unified = fs.f_type == CGROUP2_SUPER_MAGIC;
	if (unified) {
		snprintf(hierarchies[0].group, PATH, CGROUP "/%s", id);
		count = 1;
		return;
	}
	mounts = setmntent("/proc/self/mounts", "re");
	while (mounts && (m = getmntent(mounts)) && count < MAX_HIERARCHIES) {
		struct hierarchy *h = &hierarchies[count];

		if (strcmp(m->mnt_type, "cgroup") || strncmp(m->mnt_dir, CGROUP "/", sizeof CGROUP))
			continue;
		snprintf(h->name, sizeof h->name, "%s", m->mnt_dir + sizeof CGROUP);
		snprintf(h->group, PATH, "%s/%s", m->mnt_dir, id);
		count++;
	}
	if (mounts)
		endmntent(mounts);
}

static void make_groups(void)
{
	for (int i = 0; i < count; i++) {
		CHECK(mkdir(hierarchies[i].group, 0755));
		if (!strcmp(hierarchies[i].name, "cpuset")) {
			copy_cpuset(hierarchies[i].group, "cpuset.cpus");
			copy_cpuset(hierarchies[i].group, "cpuset.mems");
		}
	}
}

static void remove_groups(void)
{
	for (int i = 0; i < count; i++)
		CHECK(rmdir(hierarchies[i].group));
}

static void mount_cgroups(void)
{
	char target[PATH * 2];

	if (unified) {
		CHECK(mount("cgroup", "sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY | MS_RELATIME, NULL));
		return;
	}
	CHECK(mount("tmpfs", "sys/fs/cgroup", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755"));
	for (int i = 0; i < count; i++) {
		snprintf(target, sizeof target, "sys/fs/cgroup/%s", hierarchies[i].name);
		CHECK(mkdir(target, 0755));
		CHECK(mount(hierarchies[i].group, target, NULL, MS_BIND | MS_REC, NULL));
	}
	CHECK(mount(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
}

static void make_dev(void)
{
	static const struct { const char *path; int major, minor; } nodes[] = {
		{"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7},
		{"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
	};
	static const char *const links[][2] = {
		{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
		{"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"},
	};

	CHECK(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
	CHECK(mkdir("dev/pts", 0755));
	CHECK(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
	CHECK(mkdir("dev/shm", 0755));
	CHECK(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=65536k"));
	CHECK(mkdir("dev/mqueue", 0755));
	CHECK(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL));
	for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
		CHECK(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		CHECK(symlink(links[i][0], links[i][1]));
}

/* What is not there needs no cover, so these may fail. */
static void cover_kernel_paths(void)
{
	static const char *const files[] = {"/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug"};
	static const char *const dirs[] = {"/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware"};
	static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;

	for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++)
		if (!mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL))
			CHECK(mount(NULL, readonly[i], NULL, MS_REMOUNT | MS_BIND | flags, NULL));
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		mount("/dev/null", files[i], NULL, MS_BIND, NULL);
	for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
		mount("tmpfs", dirs[i], "tmpfs", MS_RDONLY, NULL);
}

static void container(const char *root, int go)
{
	char *const argv[] = {"/bin/true", NULL}, *const envp[] = {"PATH=/bin", NULL};
	char byte;

	/* On v1 the cgroup namespace is made once the parent has moved us; v2 was cloned in place. */
	if (!unified) {
		if (read(go, &byte, 1) != 1)
			_exit(125);
		CHECK(unshare(CLONE_NEWCGROUP));
	}
	CHECK(setsid());
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
	CHECK(mount(root, root, NULL, MS_BIND | MS_REC, NULL));
	CHECK(chdir(root));
	umask(0);
	CHECK(mount("proc", "proc", "proc", 0, NULL));
	make_dev();
	CHECK(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, NULL));
	mount_cgroups();
	CHECK(syscall(SYS_pivot_root, ".", "."));
	CHECK(umount2(".", MNT_DETACH));
	CHECK(chdir("/"));
	CHECK(sethostname("floor", 5));
	cover_kernel_paths();
	CHECK(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	umask(0022);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	execve(argv[0], argv, envp);
	perror("floor: /bin/true");
	_exit(127);
}

int main(int argc, char **argv)
{
	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
		.exit_signal = SIGCHLD,
	};
	char pid_text[16];
	int go[2], status, group;
	pid_t pid;

	if (argc != 3) {
		fprintf(stderr, "usage: floor ROOTFS ID\n");
		return 2;
	}
	find_hierarchies(argv[2]);
	make_groups();
	if (unified) {
		CHECK(group = open(hierarchies[0].group, O_PATH | O_CLOEXEC));
		args.cgroup = group;
		args.flags |= CLONE_NEWCGROUP | CLONE_INTO_CGROUP;
	}
	CHECK(pipe2(go, O_CLOEXEC));
	CHECK(pid = syscall(SYS_clone3, &args, sizeof args));
	if (pid == 0)
		container(argv[1], go[0]);
	if (!unified) {
		snprintf(pid_text, sizeof pid_text, "%d", pid);
		for (int i = 0; i < count; i++)
			write_file(hierarchies[i].group, "cgroup.procs", pid_text);
		CHECK(write(go[1], "", 1));
	}
	CHECK(waitpid(pid, &status, 0));
	remove_groups();
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
