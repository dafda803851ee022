/* Stacks of a process' system calls, the kernel's own names of addresses, and hits of uprobes. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(max_entries, 1024); __uint(key_size, 4); __uint(value_size, 8 * 127); } stacks SEC(".maps");
/* a map of its own: in one map, a stack that falls into another's place is -EEXIST */
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(max_entries, 16); __uint(key_size, 4); __uint(value_size, 8 * 127); } kernel_stacks SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_STACK_BUILD_ID);
	__uint(key_size, 4);
	__uint(value_size, 32 * 127);
} build_ids SEC(".maps");

__u64 address;
char text[128];
__u32 pid;
int kernel_stack = -1, user_stack = -1, build_id_stack = -1;
__u32 hits;

SEC("xdp") int name_of(void *ctx)
{
	__u64 arguments[] = { address };

	bpf_snprintf(text, sizeof(text), "%pS", arguments, sizeof(arguments));
	return XDP_PASS;
}

SEC("raw_tp/sys_enter") int take_stacks(void *ctx)
{
	if (bpf_get_current_pid_tgid() >> 32 != pid || kernel_stack >= 0)
		return 0;
	user_stack = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	build_id_stack = bpf_get_stackid(ctx, &build_ids, BPF_F_USER_STACK);
	kernel_stack = bpf_get_stackid(ctx, &kernel_stacks, 0);
	return 0;
}

SEC("uprobe") int on_call(void *ctx)
{
	__sync_fetch_and_add(&hits, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
