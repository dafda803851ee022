/* The same events through a ring buffer and a perf buffer, and records of any length, one each time a task calls getppid(). */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	__u64 number;
	__u32 pid;
	char comm[16];
};

struct note {
	__u32 length;
	char text[];
};

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 16); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 12); } notes SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 12); } raw SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } perf SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_USER_RINGBUF); __uint(max_entries, 1 << 12); } orders SEC(".maps");

const volatile __u32 pid;
__u64 number;
__u64 dropped;
__u64 ordered;

struct event *unused_event __attribute__((unused));
struct note *unused_note __attribute__((unused));

static long take_order(struct bpf_dynptr *dynptr, void *context)
{
	__u64 *order = bpf_dynptr_data(dynptr, 0, sizeof(*order));

	if (order)
		ordered += *order;
	return 0;
}

SEC("tp/syscalls/sys_enter_getppid")
int emit(void *ctx)
{
	struct event event = {}, *reserved;
	struct { __u32 length; char text[8]; } note = {};

	if (bpf_get_current_pid_tgid() >> 32 != pid)
		return 0;
	event.number = number++;
	event.pid = pid;
	bpf_get_current_comm(event.comm, sizeof(event.comm));
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
	bpf_ringbuf_output(&raw, &event.number, 8, 0);
	reserved = bpf_ringbuf_reserve(&ring, sizeof(*reserved), 0);
	if (reserved)
		bpf_ringbuf_discard(reserved, 0);
	if (bpf_ringbuf_output(&ring, &event, sizeof(event), 0))
		dropped++;
	note.length = event.number % 8;
	__builtin_memcpy(note.text, "abcdefg", 8);
	if (note.length < 8)
		bpf_ringbuf_output(&notes, &note, 4 + note.length, 0);
	bpf_user_ringbuf_drain(&orders, take_order, 0, 0);
	return 0;
}

char _license[] SEC("license") = "GPL";
