// SPDX-License-Identifier: GPL-2.0
/* Counts how long threads wait for a CPU: from when they could run until they do.
 * Raw tracepoint programs read the kernel's structs through BPF_CORE_READ(), so they also work with an embedded BTF. */
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
} __attribute__((preserve_access_index));

/* Linux 5.14 renamed the member and changed its size. The name up to ___ is the kernel's. */
struct task_struct___before_5_14 {
	long state;
} __attribute__((preserve_access_index));

struct wait_key {
	__u32 pid; /* the process, or 0 for all of them together */
	__u32 slot; /* log2 of the time */
};

const volatile __u64 unit_ns = 1000;
const volatile bool by_process = false;
/* The process whose threads count; 0 for all. */
const volatile __u32 only_tgid = 0;

/* When each thread began to wait. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
} waiting_since SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct wait_key);
	__type(value, __u64);
} waits SEC(".maps");

static __always_inline __u32 log2_of(__u64 value)
{
	__u32 power = 0;

#pragma unroll
	for (int shift = 32; shift; shift /= 2) {
		if (value >> shift) {
			value >>= shift;
			power += shift;
		}
	}
	return power;
}

static __always_inline void begin_wait(struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, pid), tgid = BPF_CORE_READ(task, tgid);
	__u64 now = bpf_ktime_get_ns();

	/* pid 0 is the idle thread */
	if (pid && (!only_tgid || only_tgid == tgid))
		bpf_map_update_elem(&waiting_since, &pid, &now, BPF_ANY);
}

static __always_inline void end_wait(struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, pid);
	__u64 *since = bpf_map_lookup_elem(&waiting_since, &pid), *number, zero = 0;
	struct wait_key key = {};

	if (!since)
		return;
	if (by_process)
		key.pid = BPF_CORE_READ(task, tgid);
	key.slot = log2_of((bpf_ktime_get_ns() - *since) / unit_ns);
	bpf_map_delete_elem(&waiting_since, &pid);
	bpf_map_update_elem(&waits, &key, &zero, BPF_NOEXIST);
	number = bpf_map_lookup_elem(&waits, &key);
	if (number)
		__sync_fetch_and_add(number, 1);
}

static __always_inline bool can_run(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return BPF_CORE_READ(task, __state) == TASK_RUNNING;
	return BPF_CORE_READ((struct task_struct___before_5_14 *)task, state) == TASK_RUNNING;
}

SEC("raw_tp/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *task)
{
	begin_wait(task);
	return 0;
}

SEC("raw_tp/sched_wakeup_new")
int BPF_PROG(on_new, struct task_struct *task)
{
	begin_wait(task);
	return 0;
}

SEC("raw_tp/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *previous, struct task_struct *next)
{
	/* whoever loses the CPU without going to sleep waits for the next turn */
	if (preempt || can_run(previous))
		begin_wait(previous);
	end_wait(next);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
