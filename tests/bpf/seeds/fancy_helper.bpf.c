/* A helper that old kernels lack, behind a setting of the application's: where that is off, the verifier never comes to
 * the call. bpf_ktime_get_tai_ns() came with Linux 6.1. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

const volatile bool use_fancy_helper = false;
const volatile __u32 fallback_value = 1;
const volatile __u32 target_pid = 0;

__u64 value = 0;

SEC("raw_tp/sys_enter")
int on_enter(void *ctx)
{
	if ((__u32)bpf_get_current_pid_tgid() != target_pid)
		return 0;
	if (use_fancy_helper)
		value = bpf_ktime_get_tai_ns();
	else
		value = bpf_ktime_get_ns() * fallback_value;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
