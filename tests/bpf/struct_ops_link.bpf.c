/* The same congestion control, with a link that can change it for another. */
#define OPS ".struct_ops.link"
#include "struct_ops.bpf.c"

__u64 others;

SEC("struct_ops/cong_avoid")
void BPF_PROG(cong_avoid_too, struct sock *sk, __u32 ack, __u32 acked)
{
	__sync_fetch_and_add(&others, 1);
}

SEC(OPS)
struct tcp_congestion_ops counting_too = {
	.ssthresh = (void *)ssthresh,
	.cong_avoid = (void *)cong_avoid_too,
	.undo_cwnd = (void *)undo_cwnd,
	.name = "bpf_counting",
};
