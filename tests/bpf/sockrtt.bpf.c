/* Reports the smoothed RTT of TCP connections of a cgroup: a ring buffer, a hash map, globals, and a CO-RE read. */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2

struct tcp_sock {
	__u32 srtt_us;
} __attribute__((preserve_access_index));

enum direction {
	DIRECTION_ACTIVE = 1,
	DIRECTION_PASSIVE = 2,
};

struct rtt_event {
	__u32 saddr;
	__u32 daddr;
	__u16 sport;
	__u16 dport;
	__u32 srtt_us;
	enum direction direction;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} rtt_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

const volatile __u32 min_rtt_us = 0;
__u64 seen;
__u32 limit = 1000;

/* keeps the type, which only the ring buffer uses */
struct rtt_event *unused_rtt_event __attribute__((unused));

SEC("sockops")
int watch(struct bpf_sock_ops *ctx)
{
	struct rtt_event *event;
	struct tcp_sock *tcp;
	__u32 op = ctx->op;
	__u64 one = 1, *count;

	count = bpf_map_lookup_elem(&calls, &op);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&calls, &op, &one, BPF_ANY);
	if (ctx->family != AF_INET)
		return 1;
	if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
		bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_RTT_CB_FLAG);
		return 1;
	}
	if (op != BPF_SOCK_OPS_RTT_CB || seen >= limit)
		return 1;
	if (!ctx->sk)
		return 1;
	tcp = (struct tcp_sock *)bpf_skc_to_tcp_sock(ctx->sk);
	if (!tcp || tcp->srtt_us >> 3 < min_rtt_us)
		return 1;
	event = bpf_ringbuf_reserve(&rtt_events, sizeof(*event), 0);
	if (!event)
		return 1;
	event->saddr = ctx->local_ip4;
	event->daddr = ctx->remote_ip4;
	event->sport = ctx->local_port;
	event->dport = bpf_ntohl(ctx->remote_port);
	event->srtt_us = tcp->srtt_us >> 3;
	event->direction = DIRECTION_ACTIVE;
	__builtin_memcpy(event->comm, "tcp\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	bpf_ringbuf_submit(event, 0);
	__sync_fetch_and_add(&seen, 1);
	return 1;
}

char _license[] SEC("license") = "GPL";
