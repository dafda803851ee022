/* How long a thread has run in user space. Until Linux 4.10 task_struct counted in jiffies, since then in nanoseconds:
 * version and configuration come from libbpf as externs. */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define NANOSECONDS 1000000000ULL

struct task_struct {
	__u64 utime;
} __attribute__((preserve_access_index));

extern __u32 LINUX_KERNEL_VERSION __kconfig;
extern __u32 CONFIG_HZ __kconfig;

const volatile __u32 target_pid = 0;

__u64 utime_ns = 0;
/* The externs, for all to see. */
__u32 kernel_version = 0;
__u32 hz = 0;

SEC("raw_tp/sys_enter")
int on_enter(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 utime;

	if ((__u32)bpf_get_current_pid_tgid() != target_pid)
		return 0;
	utime = BPF_CORE_READ(task, utime);
	if (LINUX_KERNEL_VERSION < KERNEL_VERSION(4, 11, 0))
		utime *= NANOSECONDS / CONFIG_HZ;
	utime_ns = utime;
	kernel_version = LINUX_KERNEL_VERSION;
	hz = CONFIG_HZ;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
