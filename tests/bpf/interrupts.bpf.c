/* Events that user space makes by test-running a program, many at a time, to be read while signals arrive. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	__u64 number;
	__u64 check;
	__u8 data[16];
};

struct text {
	__u32 number;
	__u32 length;
	char data[];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} ring SEC(".maps"), texts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} perf SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} orders SEC(".maps");

struct event *unused_event __attribute__((unused));
struct text *unused_text __attribute__((unused));

__u64 rings, texted, perfs, dropped;
__u64 ordered, order_sum;

SEC("xdp") int into_ring(struct xdp_md *ctx)
{
	struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

	if (!event) {
		dropped++;
		return 0;
	}
	event->number = rings++;
	event->check = ~event->number;
	bpf_ringbuf_submit(event, 0);
	if (rings % 7 == 0) {
		event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);
		if (event)
			bpf_ringbuf_discard(event, 0);
	}
	return 0;
}

SEC("xdp") int into_texts(struct xdp_md *ctx)
{
	char text[64] = {};
	__u32 length = texted % 32;

	((__u32 *)text)[0] = texted;
	((__u32 *)text)[1] = length;
	if (bpf_ringbuf_output(&texts, text, 8 + length, 0))
		dropped++;
	else
		texted++;
	return 0;
}

SEC("xdp") int into_perf(struct xdp_md *ctx)
{
	struct event event = {};

	event.number = perfs;
	event.check = ~event.number;
	if (bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event)))
		dropped++;
	perfs++;
	return 0;
}

static long take(struct bpf_dynptr *order, void *ctx)
{
	__u64 number = 0;

	bpf_dynptr_read(&number, sizeof(number), order, 0, 0);
	order_sum += number;
	ordered++;
	return 0;
}

SEC("syscall") int out_of_orders(void *ctx)
{
	bpf_user_ringbuf_drain(&orders, take, 0, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
