// SPDX-License-Identifier: GPL-2.0
/* What the benchmarks of the runtime read: buffers that are filled by running a program or by a process' system calls,
 * a hash map, and counts. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	__u64 time;
	__u32 pid;
	__u32 number;
	char comm[16];
};

struct event *unused_event __attribute__((unused));

struct traffic {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 * 1024 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__type(key, __u32);
	__type(value, struct traffic);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} live SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

__u32 number = 0;
__u32 pid = 0;
__u64 lost = 0;

SEC("tc")
int emit(struct __sk_buff *skb)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		lost++;
		return 0;
	}
	event->time = bpf_ktime_get_ns();
	event->pid = 1234;
	event->number = number++;
	__builtin_memcpy(event->comm, "benchmark\0\0\0\0\0\0", sizeof(event->comm));
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

static __always_inline int fill(struct event *event)
{
	event->pid = bpf_get_current_pid_tgid() >> 32;
	if (event->pid != pid)
		return 0;
	event->time = bpf_ktime_get_ns();
	event->number = number++;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	return 1;
}

SEC("raw_tp/sys_enter")
int into_perf(void *ctx)
{
	struct event event = {};

	if (fill(&event))
		bpf_perf_event_output(ctx, &live, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return 0;
}

SEC("raw_tp/sys_enter")
int into_ring(void *ctx)
{
	struct event event = {};

	if (fill(&event) && bpf_ringbuf_output(&events, &event, sizeof(event), 0))
		lost++;
	return 0;
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 key = bpf_get_prandom_u32() % 1000;
	__u64 one = 1, *value = bpf_map_lookup_elem(&counts, &key);

	if (!value) {
		if (!bpf_map_update_elem(&counts, &key, &one, BPF_NOEXIST))
			return XDP_PASS;
		value = bpf_map_lookup_elem(&counts, &key);
	}
	if (value)
		__sync_fetch_and_add(value, 1);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
