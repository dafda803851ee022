/* A program of each kind, as small as it can be, to find out what it takes to load and attach it. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#define COUNTS(name, section, result)                   \
	SEC(section) int name(void *ctx)                \
	{                                               \
		__sync_fetch_and_add(&ran, 1);          \
		return result;                          \
	}

struct { __uint(type, BPF_MAP_TYPE_SOCKMAP); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); } sockets SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); } counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 12); } ring SEC(".maps");

__u64 ran;

COUNTS(on_socket, "socket", 0)
COUNTS(on_xdp, "xdp", XDP_PASS)
COUNTS(on_tc, "tc", TC_ACT_OK)
COUNTS(on_cgroup_skb, "cgroup_skb/egress", 1)
COUNTS(on_cgroup_connect, "cgroup/connect4", 1)
COUNTS(on_sockops, "sockops", 1)
COUNTS(on_sk_lookup, "sk_lookup", 1)
COUNTS(on_flow_dissector, "flow_dissector", 0)
COUNTS(on_sk_skb, "sk_skb/stream_verdict", 1)
COUNTS(on_sk_msg, "sk_msg", 1)
COUNTS(on_tp, "tp/sched/sched_switch", 0)
COUNTS(on_raw_tp, "raw_tp/sched_switch", 0)
COUNTS(on_tp_btf, "tp_btf/sched_switch", 0)
COUNTS(on_fentry, "fentry/vfs_fsync", 0)
COUNTS(on_kprobe, "kprobe/vfs_fsync", 0)
COUNTS(on_uprobe, "uprobe", 0)
COUNTS(on_perf_event, "perf_event", 0)
COUNTS(on_iter, "iter/task", 0)
COUNTS(on_lsm, "lsm/file_open", 0)

/* One that networking programs may be, and that reads the kernel's memory besides. */
SEC("xdp")
int reads_kernel(struct xdp_md *ctx)
{
	__u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), (void *)0);
	ran += word;
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
