/* Counts in maps of every kind that can be drained, and histograms as bcc's and libbpf-tools' programs fill them. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define KEYS 100

struct traffic {
	__u64 packets;
	__u32 bytes;
	char name[4];
};

struct histogram_key {
	__u32 disk;
	__u32 slot;
};

struct slots {
	__u64 sum;
	__u32 slots[27];
};

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, __u32); __type(value, __u64); } counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, __u32); __type(value, struct traffic); __uint(map_flags, BPF_F_NO_PREALLOC); } structs SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 1024); __type(key, __u32); __type(value, __u64); } recent SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 1024); __type(key, __u32); __type(value, struct traffic); } cpu_counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(max_entries, 64); __uint(map_flags, BPF_F_NO_PREALLOC); __type(key, __u64); __type(value, __u64); } routes SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, KEYS); __type(key, __u32); __type(value, __u64); } slots SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 65536); __type(key, __u32); __type(value, __u32); } large SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, struct traffic); } totals SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, KEYS); __type(key, __u32); __type(value, __u64); } cpu_slots SEC(".maps");

struct inner { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, __u32); __type(value, __u64); } first SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct inner);
} current SEC(".maps") = { .values = { &first } };

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 256); __type(key, struct histogram_key); __type(value, __u64); } by_disk SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16); __type(key, __u32); __type(value, struct slots); } by_size SEC(".maps");

static __always_inline void count(void *map, __u32 key)
{
	__u64 one = 1, *value = bpf_map_lookup_elem(map, &key);

	if (!value) {
		if (!bpf_map_update_elem(map, &key, &one, BPF_NOEXIST))
			return;
		value = bpf_map_lookup_elem(map, &key);
	}
	if (value)
		__sync_fetch_and_add(value, 1);
}

SEC("xdp") int into_counts(void *ctx)
{
	count(&counts, bpf_get_prandom_u32() % KEYS);
	return XDP_PASS;
}

SEC("xdp") int into_inner(void *ctx)
{
	__u32 zero = 0;
	void *inner = bpf_map_lookup_elem(&current, &zero);

	if (inner)
		count(inner, bpf_get_prandom_u32() % KEYS);
	return XDP_PASS;
}

SEC("xdp") int into_arrays(void *ctx)
{
	__u32 key = bpf_get_prandom_u32() % KEYS;
	__u64 *slot = bpf_map_lookup_elem(&slots, &key), *own = bpf_map_lookup_elem(&cpu_slots, &key);

	if (slot)
		__sync_fetch_and_add(slot, 1);
	if (own)
		*own += 1;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
