//go:build ignore

// Reports each execve to a ring buffer. Built by `go generate`; the object is committed as exec.bpf.o.
// Only the fields that are used are declared: libbpf's relocations (CO-RE) find them in the running kernel's BTF.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define CORE __attribute__((preserve_access_index))

struct ns_common { unsigned int inum; } CORE;
struct pid_namespace { struct ns_common ns; } CORE;
struct upid { int nr; struct pid_namespace *ns; } CORE;
struct pid { unsigned int level; struct upid numbers[1]; } CORE;
struct mm_struct { unsigned long arg_start, arg_end; } CORE;
typedef struct { unsigned int val; } kuid_t;
struct cred { kuid_t euid; } CORE;
struct kernfs_node { const char *name; } CORE;
struct cgroup { struct kernfs_node *kn; } CORE;
struct cgroup_subsys_state { struct cgroup *cgroup; } CORE;
enum cgroup_subsys_id { pids_cgrp_id = 1 };
struct css_set { struct cgroup_subsys_state *subsys[16]; struct cgroup *dfl_cgrp; } CORE;
struct task_struct {
	int tgid;
	char comm[16];
	struct task_struct *real_parent;
	struct pid *thread_pid;
	struct mm_struct *mm;
	const struct cred *cred;
	struct css_set *cgroups;
} CORE;

// event is decoded by parseEvent in bpf.go.
struct event {
	__u64 time; // CLOCK_MONOTONIC
	__u32 pid, inner, ppid, uid, pidns;
	__u32 size;  // bytes of args
	__u32 whole; // bytes that the command line has
	__u32 pad;
	char comm[16];
	char group[96];   // last part of the cgroup's path, on v2
	char group1[96];  // in v1's pids hierarchy
	char args[1024];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

const volatile __u32 only_pidns; // inode; 0 takes all

static int wanted(struct pid *p, unsigned int level)
{
	if (!only_pidns)
		return 1;
	for (unsigned int i = 0; i < 33; i++) { // MAX_PID_NS_LEVEL
		struct upid u;

		if (i > level)
			break;
		bpf_core_read(&u, sizeof(u), &p->numbers[i]);
		if (BPF_CORE_READ(u.ns, ns.inum) == only_pidns)
			return 1;
	}
	return 0;
}

SEC("raw_tp/sched_process_exec")
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *t = (void *)ctx->args[0];
	struct pid *p = BPF_CORE_READ(t, thread_pid);
	unsigned int level = BPF_CORE_READ(p, level);
	struct upid u;
	struct event *e;
	__u32 zero = 0;

	if (level > 32 || !wanted(p, level))
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		__u64 *n = bpf_map_lookup_elem(&lost, &zero);

		if (n)
			__sync_fetch_and_add(n, 1);
		return 0;
	}
	bpf_core_read(&u, sizeof(u), &p->numbers[level]);
	e->time = bpf_ktime_get_ns();
	e->pid = BPF_CORE_READ(t, tgid);
	e->inner = u.nr;
	e->pidns = BPF_CORE_READ(u.ns, ns.inum);
	e->ppid = BPF_CORE_READ(t, real_parent, tgid);
	e->uid = BPF_CORE_READ(t, cred, euid.val);
	e->pad = 0;
	e->group[0] = e->group1[0] = 0;
	bpf_core_read_str(e->comm, sizeof(e->comm), &t->comm);

	struct css_set *set = BPF_CORE_READ(t, cgroups);
	const char *name = BPF_CORE_READ(set, dfl_cgrp, kn, name);
	bpf_probe_read_kernel_str(e->group, sizeof(e->group), name);
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id)) {
		struct cgroup_subsys_state *css = 0;

		bpf_core_read(&css, sizeof(css), &set->subsys[bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id)]);
		name = BPF_CORE_READ(css, cgroup, kn, name);
		bpf_probe_read_kernel_str(e->group1, sizeof(e->group1), name);
	}

	struct mm_struct *mm = BPF_CORE_READ(t, mm);
	unsigned long from = BPF_CORE_READ(mm, arg_start), to = BPF_CORE_READ(mm, arg_end);
	__u64 size = to - from;

	e->whole = size;
	asm volatile("" : "+r"(size)); // the verifier must see the bound on the register that is passed
	if (size > sizeof(e->args))
		size = sizeof(e->args);
	e->size = size;
	if (bpf_probe_read_user(e->args, size, (void *)from))
		e->size = 0;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

char _license[] SEC("license") = "GPL";
