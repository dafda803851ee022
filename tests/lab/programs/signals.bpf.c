// A fault that no verdict sees: BTF does not say which helpers a type of program may call. Linux 6.12 refuses this one.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("socket")
int sends_a_signal(struct __sk_buff *skb)
{
	return bpf_send_signal(10);
}

char LICENSE[] SEC("license") = "GPL";
