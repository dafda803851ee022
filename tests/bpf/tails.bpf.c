/* Programs in question in an object with an array of programs that libbpf fills, and a map of maps. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 calls;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} inner SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(max_entries, 1);
		__type(key, __u32);
		__type(value, __u64);
	});
} outer SEC(".maps") = {
	.values = { &inner },
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_RINGBUF);
		__uint(max_entries, 4096);
	});
} rings SEC(".maps") = {
	.values = { &ring },
};

SEC("raw_tp")
int tail(void *ctx)
{
	__sync_fetch_and_add(&calls, 1);
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = {
	.values = { (void *)&tail },
};

SEC("raw_tp/sys_enter")
int jumping(void *ctx)
{
	bpf_tail_call(ctx, &jumps, 0);
	return 0;
}

SEC("raw_tp/sys_enter")
int nesting(void *ctx)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&outer, &key) != 0;
}

SEC("raw_tp/sys_enter")
int ringing(void *ctx)
{
	__u32 key = 0;
	void *inner = bpf_map_lookup_elem(&rings, &key);

	if (inner)
		bpf_ringbuf_output(inner, &key, sizeof(key), 0);
	return 0;
}

/* The kernel refuses it. */
SEC("raw_tp/sys_enter")
int never(void *ctx)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&inner, &key) && *(volatile int *)8;
}

char _license[] SEC("license") = "GPL";
