/* A packet counter for a process that may load programs by a BPF token alone. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	__u32 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct event *unused_event __attribute__((unused));
const volatile __u32 shortest = 0;
__u64 seen = 0;

SEC("xdp")
int on_packet(struct xdp_md *ctx)
{
	__u32 key = 0, bytes = ctx->data_end - ctx->data;
	struct event event = { .bytes = bytes };
	__u64 *count = bpf_map_lookup_elem(&packets, &key);

	if (bytes < shortest)
		return XDP_PASS;
	if (count)
		__sync_fetch_and_add(count, 1);
	__sync_fetch_and_add(&seen, 1);
	bpf_ringbuf_output(&events, &event, sizeof(event), 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
