/* Maps, globals and iterators whose values are easy to get wrong. */
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <bpf/bpf_helpers.h>

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));
struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
} __attribute__((preserve_access_index));

enum level { LOW, HIGH = 7 };
struct limits {
	__u16 ports[3];
	_Bool strict;
	enum level level;
	char name[8];
	__u8 mac[6];
	__u32 wide : 5;
};
struct record {
	__u32 key;
	unsigned char raw[4];
};
struct pair {
	__u32 a;
	__u16 b;
};

volatile const _Bool is_on = 1;
volatile const __u32 number = 3;
volatile const __s8 small = -3;
volatile const float ratio = 0.5;
volatile const struct limits limits = { .ports = { 1, 2, 3 } };
char comm[16] = "bash";
int only_pid = -1;
long build_id_stack = -1, plain_stack = -1;
struct record *unused __attribute__((unused));

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 64); __type(key, __u32); __type(value, __u32); } counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, char[8]); __type(value, struct limits); } by_name SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __uint(key_size, 4); __uint(value_size, 4); } jumps SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 128);
	__uint(key_size, 4);
	__uint(value_size, 16 * sizeof(struct bpf_stack_build_id));
	__uint(map_flags, BPF_F_STACK_BUILD_ID);
} build_ids SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_STACK_TRACE); __uint(max_entries, 128); __uint(key_size, 4); __uint(value_size, 16 * 8); } addresses SEC(".maps");
struct inner { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, struct pair); };
struct { __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(max_entries, 8); __type(key, struct pair); __array(values, struct inner); } outer SEC(".maps");

SEC("xdp")
int look_inside(struct xdp_md *ctx)
{
	struct pair key = { 1, 2 }, *found;
	__u32 inner_key = 5;
	void *inner = bpf_map_lookup_elem(&outer, &key);

	if (!inner)
		return XDP_ABORTED;
	found = bpf_map_lookup_elem(inner, &inner_key);
	return found ? found->b : XDP_PASS;
}

SEC("raw_tp/sys_enter")
int take_stacks(void *ctx)
{
	if (bpf_get_current_pid_tgid() >> 32 != only_pid)
		return 0;
	build_id_stack = bpf_get_stackid(ctx, &build_ids, BPF_F_USER_STACK | BPF_F_REUSE_STACKID);
	plain_stack = bpf_get_stackid(ctx, &addresses, BPF_F_USER_STACK | BPF_F_REUSE_STACKID);
	return 0;
}

SEC("?iter/bpf_map_elem")
int write_records(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 *key = ctx->key;
	struct record record = { 0, { 0xff, '\r', '\n', 0 } };

	if (!key)
		return 0;
	record.key = *key;
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

char _license[] SEC("license") = "GPL";
