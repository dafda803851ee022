// SPDX-License-Identifier: GPL-2.0
/* Counts the packets and bytes that the processes of a cgroup receive and send. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct traffic {
	__u64 packets;
	__u64 bytes;
};

enum direction { RECEIVED, SENT, DIRECTIONS };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DIRECTIONS);
	__type(key, __u32);
	__type(value, struct traffic);
} totals SEC(".maps");

static __always_inline int count(struct __sk_buff *skb, __u32 direction)
{
	struct traffic *traffic = bpf_map_lookup_elem(&totals, &direction);

	if (traffic) {
		__sync_fetch_and_add(&traffic->packets, 1);
		__sync_fetch_and_add(&traffic->bytes, skb->len);
	}
	return 1; /* let it pass */
}

SEC("cgroup_skb/ingress")
int on_receive(struct __sk_buff *skb)
{
	return count(skb, RECEIVED);
}

SEC("cgroup_skb/egress")
int on_send(struct __sk_buff *skb)
{
	return count(skb, SENT);
}

char LICENSE[] SEC("license") = "GPL";
