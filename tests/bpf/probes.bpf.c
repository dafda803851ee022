/* Programs for probes and samples. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 samples;

SEC("perf_event")
int on_sample(void *ctx)
{
	__sync_fetch_and_add(&samples, 1);
	return 0;
}

SEC("kprobe")
int on_function(void *ctx)
{
	return 0;
}

char _license[] SEC("license") = "GPL";
