/* Groups of which one member is enough, and programs that may be left out. */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct task_struct {
	int tgid;
} __attribute__((preserve_access_index));

struct event {
	__u32 pid;
	__u32 by; /* 1: by_ring, 2: by_perf */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} perf SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} only_extra SEC(".maps");

/* No kernel can create it: there is no such flag. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, 1 << 28);
	__type(key, __u32);
	__type(value, __u32);
} never SEC(".maps");

struct event *unused __attribute__((unused));
__u64 watched;
const volatile __u32 wanted_pid;
const volatile __u8 break_ring;

static __always_inline int fill(struct event *event, __u32 by)
{
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->by = by;
	return event->pid == wanted_pid;
}

SEC("tracepoint/syscalls/sys_enter_getppid")
int by_ring(void *ctx)
{
	struct event event;

	if (break_ring) /* the verifier sees it only if it is told the setting */
		return *(volatile int *)8;
	if (fill(&event, 1))
		bpf_ringbuf_output(&ring, &event, sizeof(event), 0);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_getppid")
int by_perf(void *ctx)
{
	struct event event;

	if (fill(&event, 2))
		bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return 0;
}

SEC("?fentry/vfs_unlink")
int watch_fentry(void *ctx)
{
	__sync_fetch_and_add(&watched, 1);
	return 0;
}

SEC("kprobe/this_function_is_not_there")
int watch_kprobe(void *ctx)
{
	__sync_fetch_and_add(&watched, 1);
	return 0;
}

SEC("raw_tp/sys_enter")
int watch_raw(void *ctx)
{
	__sync_fetch_and_add(&watched, 1);
	return 0;
}

SEC("raw_tp/sys_exit")
int extra(void *ctx)
{
	__u32 key = 0;

	bpf_map_lookup_elem(&only_extra, &key);
	return 0;
}

SEC("raw_tp/sys_exit")
int extra_with_never(void *ctx)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&never, &key) != 0;
}

SEC("raw_tp/sys_exit")
int extra_with_types(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, tgid) == 1;
}

SEC("raw_tp/sys_exit")
int more_with_types(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, tgid) == 2;
}

SEC("tcx/ingress")
int on_tcx(struct __sk_buff *skb)
{
	return 0;
}

SEC("tc")
int on_tc(struct __sk_buff *skb)
{
	return 0;
}

char _license[] SEC("license") = "GPL";
