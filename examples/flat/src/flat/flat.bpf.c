// SPDX-License-Identifier: GPL-2.0
/* Reports how long TCP handshakes and UDP questions take to be answered, from the packets alone. Only packets are read, no
 * structs of the kernel, so nothing has to be relocated. The program is here twice: it reports through a ring buffer, which
 * came with Linux 5.8, and through a perf buffer; the option `alternatives` chooses. There are no global variables, which
 * kernels before 5.2 do not have. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TCP_FLAGS 13 /* offset of the flags in a TCP header */
#define TCP_SYN 0x02
#define TCP_ACK 0x10

struct flow {
	__u8 saddr[16]; /* network order; an IPv4 address takes the first 4 bytes */
	__u8 daddr[16];
	__u16 sport; /* host order */
	__u16 dport;
	__u8 protocol;
	__u8 family; /* 4 or 6 */
	__u16 unused;
};

struct flow_event {
	struct flow flow; /* in the direction of the question */
	__u64 start_ns;
	__u64 end_ns;
};

/* clang leaves types that no variable has out of the BTF, and with them the skeleton's flow_event. */
struct flow_event *unused_flow_event __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} ring_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} perf_events SEC(".maps");

/* When the flows that are not answered yet began. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct flow);
	__type(value, __u64);
} unanswered SEC(".maps");

/* Returns the offset of the transport header, 0 if the packet is neither IPv4 nor IPv6. */
static __always_inline __u32 read_addresses(struct __sk_buff *skb, struct flow *flow)
{
	__u8 length;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		flow->family = 4;
		bpf_skb_load_bytes(skb, ETH_HLEN, &length, 1);
		bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, protocol), &flow->protocol, 1);
		bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, saddr), flow->saddr, 4);
		bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, daddr), flow->daddr, 4);
		return ETH_HLEN + (length & 0x0f) * 4;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		flow->family = 6;
		bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, nexthdr), &flow->protocol, 1);
		bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, saddr), flow->saddr, 16);
		bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, daddr), flow->daddr, 16);
		return ETH_HLEN + sizeof(struct ipv6hdr);
	}
	return 0;
}

static __always_inline void turn_round(const struct flow *flow, struct flow *other)
{
	*other = *flow;
	__builtin_memcpy(other->saddr, flow->daddr, sizeof(other->saddr));
	__builtin_memcpy(other->daddr, flow->saddr, sizeof(other->daddr));
	other->sport = flow->dport;
	other->dport = flow->sport;
}

/* Whether the packet answers another one; then `event` is complete. */
static __always_inline bool is_answer(struct __sk_buff *skb, struct flow_event *event)
{
	struct flow flow = {};
	__u64 now = bpf_ktime_get_ns(), *start;
	__u16 ports[2] = {};
	__u8 flags = 0;
	__u32 at = read_addresses(skb, &flow);

	if (!at || bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return false;
	flow.sport = bpf_ntohs(ports[0]);
	flow.dport = bpf_ntohs(ports[1]);
	if (flow.protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, at + TCP_FLAGS, &flags, 1) || !(flags & TCP_SYN))
			return false;
	} else if (flow.protocol != IPPROTO_UDP) {
		return false;
	}
	turn_round(&flow, &event->flow);
	start = bpf_map_lookup_elem(&unanswered, &event->flow);
	if (start && (flow.protocol == IPPROTO_UDP || flags & TCP_ACK)) {
		event->start_ns = *start;
		event->end_ns = now;
		bpf_map_delete_elem(&unanswered, &event->flow);
		return true;
	}
	if (!(flags & TCP_ACK))
		bpf_map_update_elem(&unanswered, &flow, &now, BPF_NOEXIST);
	return false;
}

SEC("tc")
int flat_ring(struct __sk_buff *skb)
{
	struct flow_event event = {};

	if (is_answer(skb, &event))
		bpf_ringbuf_output(&ring_events, &event, sizeof(event), 0);
	return TC_ACT_OK;
}

SEC("tc")
int flat_perf(struct __sk_buff *skb)
{
	struct flow_event event = {};

	if (is_answer(skb, &event))
		bpf_perf_event_output(skb, &perf_events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
