/* flat, which tells its events through a ring buffer: for Linux 5.8 and later. */
#include "flat.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} flow_events SEC(".maps");

SEC("tc")
int flat(struct __sk_buff *skb)
{
	struct flow_event event = {};

	if (is_answer(skb, &event))
		bpf_ringbuf_output(&flow_events, &event, sizeof(event), 0);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
