// SPDX-License-Identifier: GPL-2.0
/* Counts what runs, by process and stacks, each time that a timer of the perf subsystem fires. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAX_DEPTH 127 /* the kernel's own limit, kernel.perf_event_max_stack */

struct sample_key {
	__u32 pid;
	/* ids in the map of stacks, or negative error numbers */
	__s32 kernel_stack;
	__s32 user_stack;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct sample_key);
	__type(value, __u64);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 16384);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, MAX_DEPTH * sizeof(__u64));
} stacks SEC(".maps");

SEC("perf_event")
int on_sample(void *ctx)
{
	struct sample_key key = {.pid = bpf_get_current_pid_tgid() >> 32};
	__u64 *number, zero = 0;

	if (!key.pid) /* the idle thread */
		return 0;
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	key.kernel_stack = bpf_get_stackid(ctx, &stacks, 0);
	key.user_stack = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	bpf_map_update_elem(&samples, &key, &zero, BPF_NOEXIST);
	number = bpf_map_lookup_elem(&samples, &key);
	if (number)
		__sync_fetch_and_add(number, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
