/* flat of seeds/, in both of its forms in one object: a ring buffer's for Linux 5.8 and later, a perf buffer's for all. */
#include "seeds/flat.h"
#include <bpf/bpf_core_read.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} flow_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} flow_perf SEC(".maps");

SEC("tc")
int flat_ring(struct __sk_buff *skb)
{
	struct flow_event event = {};

	if (is_answer(skb, &event))
		bpf_ringbuf_output(&flow_ring, &event, sizeof(event), 0);
	return TC_ACT_OK;
}

SEC("tc")
int flat_perf(struct __sk_buff *skb)
{
	struct flow_event event = {};

	if (is_answer(skb, &event))
		bpf_perf_event_output(skb, &flow_perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return TC_ACT_OK;
}

enum bpf_map_type___kernel {
	BPF_MAP_TYPE_RINGBUF___kernel = 27,
};

/* The same without a second program: which buffer there is, the program asks the kernel's BTF. */
SEC("tc")
int flat_guarded(struct __sk_buff *skb)
{
	struct flow_event event = {};

	if (!is_answer(skb, &event))
		return TC_ACT_OK;
	if (bpf_core_enum_value_exists(enum bpf_map_type___kernel, BPF_MAP_TYPE_RINGBUF___kernel))
		bpf_ringbuf_output(&flow_ring, &event, sizeof(event), 0);
	else
		bpf_perf_event_output(skb, &flow_perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
