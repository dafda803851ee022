// SPDX-License-Identifier: GPL-2.0
/* Reports the smoothed round-trip time of a cgroup's TCP connections each time the kernel updates it. */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10

/* The one field that is read of the kernel's own struct, which is laid out anew by almost every release. */
struct tcp_sock {
	__u32 srtt_us; /* in eighths of a microsecond */
} __attribute__((preserve_access_index));

struct rtt_event {
	__u32 srtt_us;
	__u16 family;
	__u16 sport;
	__u16 dport;
	__u8 saddr[16]; /* network order; an IPv4 address takes the first 4 bytes */
	__u8 daddr[16];
};

/* clang leaves types that no variable has out of the BTF, and with them the skeleton's rtt_event. */
struct rtt_event *unused_rtt_event __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} rtt_events SEC(".maps");

/* Connections faster than this are not reported; set before the load. */
const volatile __u32 min_rtt_us = 0;

/* Events that found the ring buffer full. */
__u64 lost_events = 0;

static __always_inline void copy_addresses(struct rtt_event *event, struct bpf_sock_ops *ops)
{
	__u32 *saddr = (__u32 *)event->saddr, *daddr = (__u32 *)event->daddr;

	__builtin_memset(event->saddr, 0, sizeof(event->saddr));
	__builtin_memset(event->daddr, 0, sizeof(event->daddr));
	if (ops->family == AF_INET6) {
		saddr[0] = ops->local_ip6[0];
		saddr[1] = ops->local_ip6[1];
		saddr[2] = ops->local_ip6[2];
		saddr[3] = ops->local_ip6[3];
		daddr[0] = ops->remote_ip6[0];
		daddr[1] = ops->remote_ip6[1];
		daddr[2] = ops->remote_ip6[2];
		daddr[3] = ops->remote_ip6[3];
	} else {
		saddr[0] = ops->local_ip4;
		daddr[0] = ops->remote_ip4;
	}
}

/* At the address of ops->sk lies the kernel's struct tcp_sock, but the verifier knows it as a struct bpf_sock and allows
 * no arithmetic on it. Read back from the stack, it is a plain number. bpf_skc_to_tcp_sock() would do the same only on a
 * kernel that has BTF of its own. */
static __always_inline struct tcp_sock *tcp_sock_of(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct tcp_sock *tcp = 0;

	if (sk)
		bpf_probe_read_kernel(&tcp, sizeof(tcp), &sk);
	return tcp;
}

static __always_inline void report_rtt(struct bpf_sock_ops *ops)
{
	struct tcp_sock *tcp = tcp_sock_of(ops);
	struct rtt_event *event;
	__u32 srtt_us;

	if (!tcp)
		return;
	srtt_us = BPF_CORE_READ(tcp, srtt_us) >> 3;
	if (srtt_us < min_rtt_us)
		return;
	event = bpf_ringbuf_reserve(&rtt_events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&lost_events, 1);
		return;
	}
	event->srtt_us = srtt_us;
	event->family = ops->family;
	event->sport = ops->local_port;
	event->dport = __builtin_bswap32(ops->remote_port);
	copy_addresses(event, ops);
	bpf_ringbuf_submit(event, 0);
}

SEC("sockops")
int bpf_sockops_cb(struct bpf_sock_ops *ops)
{
	switch (ops->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_RTT_CB_FLAG);
		break;
	case BPF_SOCK_OPS_RTT_CB:
		if (ops->is_fullsock)
			report_rtt(ops);
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
