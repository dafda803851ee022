/* The verifier rejects this: it reads a map's value without looking whether there is one. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); } values SEC(".maps");

SEC("xdp")
int careless(struct xdp_md *ctx)
{
	__u32 key = 1;
	__u64 *value = bpf_map_lookup_elem(&values, &key);

	return *value;
}

char _license[] SEC("license") = "GPL";
