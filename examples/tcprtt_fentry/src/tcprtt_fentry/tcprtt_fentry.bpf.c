// SPDX-License-Identifier: GPL-2.0
/* Reports the smoothed round-trip time of each IPv4 TCP connection when it is closed. fentry programs read the kernel's
 * structs directly, for which they need the kernel's own BTF. Only the members that are read have to be declared. */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define AF_INET 2

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct tcp_sock {
	__u32 srtt_us; /* in eighths of a microsecond */
} __attribute__((preserve_access_index));

struct close_event {
	__u32 srtt_us;
	__u8 saddr[4];
	__u8 daddr[4];
	__u16 sport;
	__u16 dport;
};

/* clang leaves types that no variable has out of the BTF, and with them the skeleton's close_event. */
struct close_event *unused_close_event __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} close_events SEC(".maps");

SEC("fentry/tcp_close")
int BPF_PROG(tcp_close, struct sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct close_event *event;

	if (!tcp || sk->__sk_common.skc_family != AF_INET)
		return 0;
	event = bpf_ringbuf_reserve(&close_events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->srtt_us = tcp->srtt_us >> 3;
	*(__be32 *)event->saddr = sk->__sk_common.skc_rcv_saddr;
	*(__be32 *)event->daddr = sk->__sk_common.skc_daddr;
	event->sport = sk->__sk_common.skc_num;
	event->dport = bpf_ntohs(sk->__sk_common.skc_dport);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
