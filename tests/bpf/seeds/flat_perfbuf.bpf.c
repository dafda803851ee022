/* flat, which tells its events through a perf buffer: for kernels that have no ring buffer. */
#include "flat.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} flow_events SEC(".maps");

SEC("tc")
int flat(struct __sk_buff *skb)
{
	struct flow_event event = {};

	if (is_answer(skb, &event))
		bpf_perf_event_output(skb, &flow_events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
