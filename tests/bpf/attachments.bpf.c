/* A program for each way to attach; each counts what it sees. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct group {
	__u32 a, b;
};

__u32 caller; /* count the calls of this process alone; 0: those of every process */
__u64 tracepoints;
__u64 raw_tracepoints;
__u64 packets_xdp;
__u64 packets_tc;
__u64 packets_cgroup;
__u64 uprobes;
struct group pair = { 1, 2 };
__u32 table[4] = { 10, 20, 30, 40 };
__u32 odd SEC(".data.odd") = 7;
const volatile char word[8] = "hello";
const volatile __u32 scale SEC(".rodata.tuned") = 3;
static volatile __u32 hidden;

SEC("tracepoint/syscalls/sys_enter_getppid")
int on_tracepoint(void *ctx)
{
	if (caller && bpf_get_current_pid_tgid() >> 32 != caller)
		return 0;
	__sync_fetch_and_add(&tracepoints, scale);
	pair.a++;
	odd++;
	hidden++;
	return 0;
}

SEC("raw_tracepoint/sys_enter")
int on_raw_tracepoint(void *ctx)
{
	__sync_fetch_and_add(&raw_tracepoints, 1);
	return 0;
}

SEC("raw_tp")
int nowhere(void *ctx)
{
	__sync_fetch_and_add(&raw_tracepoints, 1);
	return 0;
}

SEC("xdp")
int on_xdp(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&packets_xdp, 1);
	return XDP_PASS;
}

SEC("tc")
int on_tc(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&packets_tc, 1);
	return TC_ACT_OK;
}

SEC("cgroup_skb/egress")
int on_cgroup(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&packets_cgroup, 1);
	return 1;
}

SEC("uprobe")
int on_uprobe(void *ctx)
{
	__sync_fetch_and_add(&uprobes, 1);
	return 0;
}

SEC("?fentry/this_function_is_not_there")
int optional(void *ctx)
{
	return 0;
}

char _license[] SEC("license") = "GPL";
