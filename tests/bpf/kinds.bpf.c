/* A program of each kind that attaches in a way of its own. None is loaded unless asked for; each counts its runs. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));
struct task_struct {
	int pid;
} __attribute__((preserve_access_index));
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} __attribute__((preserve_access_index));
struct bpf_nf_ctx;

struct { __uint(type, BPF_MAP_TYPE_SOCKMAP); __uint(max_entries, 4); __type(key, __u32); __type(value, __u32); } sockets SEC(".maps");

__u64 hits;
__u64 others;

#define COUNTING(section, name, result) \
	SEC(section) int name(void *ctx) { __sync_fetch_and_add(&hits, 1); return result; }

COUNTING("?kprobe", on_kprobe, 0)
COUNTING("?kretprobe", on_kretprobe, 0)
COUNTING("?ksyscall", on_ksyscall, 0)
COUNTING("?kprobe.multi", on_kprobes, 0)
COUNTING("?kprobe.session", on_session, 0)
COUNTING("?uprobe", on_uprobe, 0)
COUNTING("?uprobe.multi", on_uprobes, 0)
COUNTING("?tracepoint", on_tracepoint, 0)
COUNTING("?raw_tracepoint/sys_enter", on_raw_tracepoint, 0)
COUNTING("?tp_btf/sys_enter", on_tp_btf, 0)
COUNTING("?fentry", on_fentry, 0)
COUNTING("?fexit", on_fexit, 0)
COUNTING("?fmod_ret", on_fmod_ret, 0)
COUNTING("?lsm/file_open", on_lsm, 0)
COUNTING("?lsm_cgroup/socket_post_create", on_lsm_cgroup, 1)
COUNTING("?perf_event", on_sample, 0)
COUNTING("?cgroup_skb/egress", on_egress, 1)
COUNTING("?cgroup/sock_create", on_socket, 1)
COUNTING("?xdp", on_xdp, XDP_PASS)
COUNTING("?tc", on_tc, 0)
COUNTING("?tcx/ingress", on_tcx, -1)
COUNTING("?netkit/primary", on_netkit, 0)
COUNTING("?netfilter", on_netfilter, 1)
COUNTING("?sk_lookup", on_lookup, 1)
COUNTING("?sk_skb/stream_verdict", on_verdict, 1)

SEC("?raw_tracepoint/sys_enter")
int on_raw_tracepoint_too(void *ctx)
{
	__sync_fetch_and_add(&others, 1);
	return 0;
}

SEC("?xdp")
int on_xdp_too(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&others, 1);
	return XDP_PASS;
}

SEC("?tc")
int on_tc_too(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&others, 1);
	return 0;
}

SEC("?iter/task")
int list_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task)
		BPF_SEQ_PRINTF(ctx->meta->seq, "task %d\n", task->pid);
	return 0;
}

__attribute__((noinline)) int replaceable(struct xdp_md *ctx)
{
	volatile int verdict = XDP_DROP;

	return ctx ? verdict : XDP_ABORTED;
}

SEC("?xdp")
int with_function(struct xdp_md *ctx)
{
	return replaceable(ctx);
}

SEC("?freplace/replaceable")
int replacement(struct xdp_md *ctx)
{
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
