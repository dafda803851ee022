/* Tells of packets in two forms in one object: by a ring buffer, for Linux 5.8 and later, and by a perf buffer, for all. */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct flow_event {
	__u64 start_ns; /* when a packet of its length came before */
	__u64 end_ns;
};

/* clang leaves types that no variable has out of the BTF, and with them the skeleton's flow_event. */
struct flow_event *unused_flow_event __attribute__((unused));

/* When a packet of each length came last. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} unanswered SEC(".maps");

static __always_inline bool is_answer(struct __sk_buff *skb, struct flow_event *event)
{
	__u32 length = skb->len;
	__u64 *start = bpf_map_lookup_elem(&unanswered, &length);

	event->end_ns = bpf_ktime_get_ns();
	if (start)
		event->start_ns = *start;
	bpf_map_update_elem(&unanswered, &length, &event->end_ns, BPF_ANY);
	return start;
}

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
