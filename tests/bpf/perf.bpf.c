/* Events that know their CPU, counters that a program reads, and how often events of the kernel were sampled. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	__u64 number;
	__u32 cpu;
};

struct event *unused_event __attribute__((unused));

struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4); } events SEC(".maps"), counters SEC(".maps");

__u32 pid;
__u64 number;
__u64 count;
__s64 refused;
__u64 samples;

SEC("raw_tp/sys_enter") int emit(void *ctx)
{
	struct event event = {};

	if (bpf_get_current_pid_tgid() >> 32 != pid)
		return 0;
	event.number = number++;
	event.cpu = bpf_get_smp_processor_id();
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
	return 0;
}

SEC("raw_tp/sys_enter") int read_counter(void *ctx)
{
	struct bpf_perf_event_value value = {};

	if (bpf_get_current_pid_tgid() >> 32 != pid)
		return 0;
	refused = bpf_perf_event_read_value(&counters, BPF_F_CURRENT_CPU, &value, sizeof(value));
	count = value.counter;
	return 0;
}

SEC("perf_event") int on_sample(void *ctx)
{
	__sync_fetch_and_add(&samples, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
