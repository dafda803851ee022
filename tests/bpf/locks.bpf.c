/* Values that their lock keeps whole: both halves always hold the same number. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct pair {
	__u64 left;
	struct bpf_spin_lock lock;
	__u64 right[30];
};

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, __u32); __type(value, struct pair); } pairs SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, struct pair); } numbered SEC(".maps");

static void grow(struct pair *pair)
{
	bpf_spin_lock(&pair->lock);
	pair->left++;
	for (int i = 0; i < 30; i++)
		pair->right[i]++;
	bpf_spin_unlock(&pair->lock);
}

SEC("tc")
int count(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct pair *pair = bpf_map_lookup_elem(&pairs, &key), *other = bpf_map_lookup_elem(&numbered, &key);

	if (pair)
		grow(pair);
	if (other)
		grow(other);
	return 0;
}

char _license[] SEC("license") = "GPL";
