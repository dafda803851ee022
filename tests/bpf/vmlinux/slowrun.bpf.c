/* How long tasks wait for a processor: typed tracepoints, a hash map, a perf buffer, pointers behind pointers. */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct event {
	u32 pid;
	u32 owner;
	u64 waited;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, u32);
	__type(value, u64);
} waiting SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(u32));
} events SEC(".maps");

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *task)
{
	u64 now = bpf_ktime_get_ns();
	u32 pid = task->pid;

	return bpf_map_update_elem(&waiting, &pid, &now, BPF_ANY);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct event event = {.pid = next->pid};
	u64 *since;

	since = bpf_map_lookup_elem(&waiting, &event.pid);
	if (!since)
		return 0;
	event.waited = bpf_ktime_get_ns() - *since;
	event.owner = BPF_CORE_READ(next, mm, owner, real_parent, tgid);
	bpf_probe_read_kernel_str(event.comm, sizeof(event.comm), next->comm);
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	bpf_map_delete_elem(&waiting, &event.pid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
