/* Counts what the example should tell of: the same calls in the same cgroup, without a buffer between. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 connections;
__u64 measurements;

SEC("sockops")
int count(struct bpf_sock_ops *ops)
{
	switch (ops->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		__sync_fetch_and_add(&connections, 1);
		break;
	case BPF_SOCK_OPS_RTT_CB:
		if (ops->is_fullsock)
			__sync_fetch_and_add(&measurements, 1);
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
