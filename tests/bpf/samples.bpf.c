/* Which threads a clock samples, bytes that are no multiple of 8, and filters of tc. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct tail {
	__u32 number;
	char data[];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} bytes SEC(".maps"), numbers SEC(".maps"), tails SEC(".maps");

struct tail *unused __attribute__((unused));
__u64 seen;

SEC("perf_event") int on_sample(void *ctx)
{
	__u32 thread = bpf_get_current_pid_tgid();
	__u64 one = 1, *count = bpf_map_lookup_elem(&threads, &thread);

	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&threads, &thread, &one, BPF_ANY);
	return 0;
}

SEC("xdp") int write(struct xdp_md *ctx)
{
	char data[16] = "\5\0\0\0ABCDEFGHIJK";

	bpf_perf_event_output(ctx, &bytes, BPF_F_CURRENT_CPU, data, 5);
	bpf_perf_event_output(ctx, &numbers, BPF_F_CURRENT_CPU, data, 4);
	bpf_perf_event_output(ctx, &tails, BPF_F_CURRENT_CPU, data, 9);
	return XDP_PASS;
}

SEC("tc") int on_packet(struct __sk_buff *skb)
{
	__sync_fetch_and_add(&seen, 1);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
