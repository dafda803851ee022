/* A program that sees every lookup of a socket in a network namespace. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 lookups;

SEC("sk_lookup")
int on_lookup(struct bpf_sk_lookup *ctx)
{
	__sync_fetch_and_add(&lookups, 1);
	return 1;
}

char _license[] SEC("license") = "GPL";
