// SPDX-License-Identifier: GPL-2.0
/* Reports how long threads that could run waited for a CPU. Each program is here twice: in tp_btf, which reads the kernel's
 * structs directly and needs the kernel's own BTF, and in raw_tp, which also works with an embedded one. The option
 * `alternatives` in pyproject.toml makes pairs of them: the first of each that the kernel takes is used. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define TASK_RUNNING 0

struct task_struct {
	int pid;
	int tgid;
	unsigned int __state;
	char comm[16];
} __attribute__((preserve_access_index));

/* Linux 5.14 renamed the member and changed its size. The name up to ___ is the kernel's. */
struct task_struct___before_5_14 {
	volatile long state;
} __attribute__((preserve_access_index));

struct wait_event {
	__u32 pid;
	__u32 prev_pid; /* the thread that had the CPU */
	__u64 waited_ns;
	char comm[16];
};

/* clang leaves types that no variable has out of the BTF, and with them the skeleton's wait_event. */
struct wait_event *unused_wait_event __attribute__((unused));

/* When each thread began to wait. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, __u64);
} since SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} wait_events SEC(".maps");

const volatile __u64 min_ns = 0;
/* The process whose threads to watch; 0 for all. */
const volatile __u32 target_tgid = 0;

static __always_inline void wants_cpu(__u32 pid, __u32 tgid)
{
	__u64 now = bpf_ktime_get_ns();

	if (pid && (!target_tgid || target_tgid == tgid))
		bpf_map_update_elem(&since, &pid, &now, BPF_ANY);
}

/* The event of a thread that gets the CPU, without its name; NULL if it did not wait long enough. */
static __always_inline struct wait_event *gets_cpu(__u32 pid, __u32 prev_pid)
{
	__u64 now = bpf_ktime_get_ns(), *start = bpf_map_lookup_elem(&since, &pid), waited;
	struct wait_event *event = 0;

	if (!start)
		return 0;
	waited = now - *start;
	if (waited >= min_ns)
		event = bpf_ringbuf_reserve(&wait_events, sizeof(*event), 0);
	if (event) {
		event->pid = pid;
		event->prev_pid = prev_pid;
		event->waited_ns = waited;
	}
	bpf_map_delete_elem(&since, &pid);
	return event;
}

static __always_inline bool is_running(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return task->__state == TASK_RUNNING;
	return ((struct task_struct___before_5_14 *)task)->state == TASK_RUNNING;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(btf_sched_wakeup, struct task_struct *task)
{
	wants_cpu(task->pid, task->tgid);
	return 0;
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(btf_sched_wakeup_new, struct task_struct *task)
{
	wants_cpu(task->pid, task->tgid);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(btf_sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct wait_event *event;

	/* whoever loses the CPU without going to sleep waits for the next turn */
	if (preempt || is_running(prev))
		wants_cpu(prev->pid, prev->tgid);
	event = gets_cpu(next->pid, prev->pid);
	if (event) {
		bpf_probe_read_kernel_str(event->comm, sizeof(event->comm), next->comm);
		bpf_ringbuf_submit(event, 0);
	}
	return 0;
}

static __always_inline bool is_running_probed(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return BPF_CORE_READ(task, __state) == TASK_RUNNING;
	return BPF_CORE_READ((struct task_struct___before_5_14 *)task, state) == TASK_RUNNING;
}

SEC("raw_tp/sched_wakeup")
int BPF_PROG(raw_sched_wakeup, struct task_struct *task)
{
	wants_cpu(BPF_CORE_READ(task, pid), BPF_CORE_READ(task, tgid));
	return 0;
}

SEC("raw_tp/sched_wakeup_new")
int BPF_PROG(raw_sched_wakeup_new, struct task_struct *task)
{
	wants_cpu(BPF_CORE_READ(task, pid), BPF_CORE_READ(task, tgid));
	return 0;
}

SEC("raw_tp/sched_switch")
int BPF_PROG(raw_sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct wait_event *event;

	if (preempt || is_running_probed(prev))
		wants_cpu(BPF_CORE_READ(prev, pid), BPF_CORE_READ(prev, tgid));
	event = gets_cpu(BPF_CORE_READ(next, pid), BPF_CORE_READ(prev, pid));
	if (event) {
		BPF_CORE_READ_STR_INTO(&event->comm, next, comm);
		bpf_ringbuf_submit(event, 0);
	}
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
