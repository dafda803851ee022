// SPDX-License-Identifier: GPL-2.0
/* What the benchmarks of the runtime read: a ring buffer that is filled by running a program, and a hash map. */
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

__u32 number = 0;
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

char LICENSE[] SEC("license") = "GPL";
