/* TCP connections: a kprobe with registers, structs inside structs, casts, unions, arrays. */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "tcpstate.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct flow);
	__type(value, struct seen);
} flows SEC(".maps");

SEC("kprobe/tcp_rcv_established")
int BPF_KPROBE(on_established, struct sock *sk, struct sk_buff *skb)
{
	struct inet_sock *inet = (struct inet_sock *)sk;
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	struct flow flow = {};
	struct seen seen = {};

	flow.family = BPF_CORE_READ(sk, __sk_common.skc_family);
	flow.sport = bpf_ntohs(BPF_CORE_READ(inet, inet_sport));
	flow.dport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (flow.family == 10)
		BPF_CORE_READ_INTO(&flow.daddr, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
	else
		flow.daddr[0] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	seen.srtt = BPF_CORE_READ(tcp, srtt_us) >> 3;
	seen.length = read_length(skb);
	seen.device = BPF_CORE_READ(skb, dev, ifindex);
	seen.net = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	seen.state = BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_ESTABLISHED;
	bpf_map_update_elem(&flows, &flow, &seen, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
