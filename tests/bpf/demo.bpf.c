/* What the examples of docs/api.md use: a map of each kind, and a program for each way to attach.
 *
 * on_getppid counts the calls of one process to getppid(), and tells of each through a ring buffer and a perf buffer.
 * Programs in SEC("?...") are loaded only on demand.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/usdt.bpf.h>

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));
struct task_struct {
	int pid;
	char comm[16];
} __attribute__((preserve_access_index));
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} __attribute__((preserve_access_index));
struct sock;
struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	char name[16];
};

enum state { STATE_IDLE, STATE_BUSY = 5 };
enum access { ACCESS_READ = 1, ACCESS_WRITE = 2, ACCESS_EXEC = 4 };

struct event {
	__u32 pid;
	enum state state;
	enum access access;
	char comm[16];
	__u32 path[3];
};

struct flow {
	__u32 addr;
	__u16 port;
	__u16 proto;
};

union address {
	__u32 v4;
	__u8 v6[16];
};

struct traffic {
	__u64 packets;
	__u64 bytes;
	union address from;
};

struct prefix {
	__u32 prefixlen;
	__u8 addr[4];
};

struct disk_slot {
	char disk[8];
	__u32 slot;
};

struct order {
	__u32 amount;
};

struct task {
	int pid;
	char comm[16];
};

struct event *unused_event __attribute__((unused));
struct order *unused_order __attribute__((unused));
struct task *unused_task __attribute__((unused));

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, __u32); __type(value, __u64); } counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, struct flow); __type(value, struct traffic); } flows SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, struct disk_slot); __type(value, __u64); } by_disk SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); } slots SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 64); __type(key, __u32); __type(value, __u64); } cpu_counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, __u32); __type(value, __u64); } cpu_totals SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(max_entries, 64); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, struct prefix); __type(value, __u32); } routes SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 3); __type(value, __u32); } jobs SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_BLOOM_FILTER); __uint(max_entries, 100); __type(value, __u32); } seen SEC(".maps");
/* Two stacks in one bucket: the second is not kept. Hence so many buckets. */
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(max_entries, 4096); __uint(key_size, 4); __uint(value_size, 8 * 32); } stacks SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(max_entries, 64); __uint(map_flags, BPF_F_STACK_BUILD_ID); __uint(key_size, 4); __uint(value_size, 32 * 32); } build_ids SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_SOCKHASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); } sockets SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_TASK_STORAGE); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, int); __type(value, __u64); } per_task SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 16); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } perf_events SEC(".maps"), counters SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_USER_RINGBUF); __uint(max_entries, 1 << 12); } orders SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 4); } jumps SEC(".maps");
struct inner { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16); __type(key, __u32); __type(value, __u64); };
struct { __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(max_entries, 4); __type(key, __u32); __array(values, struct inner); } tenants SEC(".maps");

extern int LINUX_KERNEL_VERSION __kconfig;

const volatile __u32 pid;
__u64 limit = 1000;
__u64 calls;
int user_stack = -1, kernel_stack = -1, build_id_stack = -1;
__u64 samples;
__u64 ordered;
__u64 hits;

static long take_order(struct bpf_dynptr *dynptr, void *context)
{
	struct order *order = bpf_dynptr_data(dynptr, 0, sizeof(*order));

	if (order)
		ordered += order->amount;
	return 0;
}

static void count(void)
{
	__u32 key = pid, slot = 0;
	__u64 one = 1, *value = bpf_map_lookup_elem(&counts, &key);

	calls++;
	if (value)
		__sync_fetch_and_add(value, 1);
	else
		bpf_map_update_elem(&counts, &key, &one, BPF_ANY);
	value = bpf_map_lookup_elem(&cpu_totals, &slot);
	if (value)
		++*value;
}

SEC("tp/syscalls/sys_enter_getppid")
int on_getppid(void *ctx)
{
	struct event event = { .state = STATE_BUSY, .access = ACCESS_READ | ACCESS_WRITE, .path = { 1, 2, 3 } };

	if (bpf_get_current_pid_tgid() >> 32 != pid || calls >= limit || LINUX_KERNEL_VERSION < 0)
		return 0;
	count();
	user_stack = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	kernel_stack = bpf_get_stackid(ctx, &stacks, 0);
	build_id_stack = bpf_get_stackid(ctx, &build_ids, BPF_F_USER_STACK);
	event.pid = pid;
	bpf_get_current_comm(event.comm, sizeof(event.comm));
	bpf_ringbuf_output(&events, &event, sizeof(event), 0);
	bpf_perf_event_output(ctx, &perf_events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	bpf_user_ringbuf_drain(&orders, take_order, 0, 0);
	bpf_printk("call %d", (int)calls);
	return 0;
}

/* The kernel has no such call, so this one is left out: it is optional. */
SEC("?tp/syscalls/sys_enter_getppid2")
int on_getppid2(void *ctx)
{
	return 0;
}

#define COUNTING(section, name, result) \
	SEC(section) int name(void *ctx) { __sync_fetch_and_add(&hits, 1); return result; }

COUNTING("?kprobe", on_kprobe, 0)
COUNTING("?ksyscall", on_ksyscall, 0)
COUNTING("?kprobe.multi", on_kprobes, 0)
COUNTING("?uprobe", on_uprobe, 0)
COUNTING("?uprobe.multi", on_uprobes, 0)
COUNTING("?usdt", on_usdt, 0)
COUNTING("?tracepoint", on_tracepoint, 0)
COUNTING("?raw_tracepoint", on_raw_tracepoint, 0)
COUNTING("?fentry", on_fsync, 0)
COUNTING("?perf_event", on_sample, 0)
COUNTING("?cgroup_skb/egress", on_packet, 1)
COUNTING("?cgroup_skb/egress", on_packet_too, 1)
COUNTING("?tcx/ingress", on_tcx, -1)
COUNTING("?netkit/primary", on_netkit, 0)
COUNTING("?netfilter", on_netfilter, 1)
COUNTING("?sk_lookup", on_lookup, 1)
COUNTING("?sk_skb/stream_verdict", on_verdict, 1)
COUNTING("?tc", on_tc, TC_ACT_OK)

__attribute__((noinline)) int verdict(struct xdp_md *ctx)
{
	volatile int pass = XDP_PASS;

	return ctx ? pass : XDP_ABORTED;
}

SEC("?xdp")
int on_xdp(struct xdp_md *ctx)
{
	__u32 slot = 1;
	__u64 *value = bpf_map_lookup_elem(&slots, &slot);

	if (value)
		__sync_fetch_and_add(value, 1);
	bpf_tail_call(ctx, &jumps, 2);
	return verdict(ctx);
}

SEC("?freplace/verdict")
int drop(struct xdp_md *ctx)
{
	return XDP_DROP;
}

SEC("?iter/task")
int list_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *from = ctx->task;
	struct task task = {};

	if (!from)
		return 0;
	task.pid = from->pid;
	bpf_probe_read_kernel_str(task.comm, sizeof(task.comm), from->comm);
	bpf_seq_write(ctx->meta->seq, &task, sizeof(task));
	return 0;
}

SEC("?iter/task")
int print_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task)
		BPF_SEQ_PRINTF(ctx->meta->seq, "task %d\n", task->pid);
	return 0;
}

SEC("?raw_tp/sys_enter")
int rejected(void *ctx)
{
	return *(volatile int *)0;
}

SEC("?struct_ops/ssthresh")
__u32 BPF_PROG(ssthresh, struct sock *sk)
{
	return 2;
}

SEC("?struct_ops/cong_avoid")
void BPF_PROG(cong_avoid, struct sock *sk, __u32 ack, __u32 acked)
{
}

SEC("?struct_ops/undo_cwnd")
__u32 BPF_PROG(undo_cwnd, struct sock *sk)
{
	return 10;
}

SEC(".struct_ops.link")
struct tcp_congestion_ops congestion = {
	.ssthresh = (void *)ssthresh,
	.cong_avoid = (void *)cong_avoid,
	.undo_cwnd = (void *)undo_cwnd,
	.name = "bpf_demo",
};

char LICENSE[] SEC("license") = "GPL";
