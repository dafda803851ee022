/* A thread's thread-local storage on x86_64: Linux 4.7 renamed thread_struct's `fs` to `fsbase`. Both layouts are
 * declared, one as a flavor, and the kernel's version chooses. */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct thread_struct {
	unsigned long fsbase;
} __attribute__((preserve_access_index));

struct thread_struct___v46 {
	unsigned long fs;
} __attribute__((preserve_access_index));

struct task_struct {
	struct thread_struct thread;
} __attribute__((preserve_access_index));

extern int LINUX_KERNEL_VERSION __kconfig;

const volatile __u32 target_pid = 0;

__u64 fsbase = 0;

SEC("raw_tp/sys_enter")
int on_enter(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct thread_struct *thread = &task->thread;

	if ((__u32)bpf_get_current_pid_tgid() != target_pid)
		return 0;
	if (LINUX_KERNEL_VERSION < KERNEL_VERSION(4, 7, 0))
		fsbase = BPF_CORE_READ((struct thread_struct___v46 *)thread, fs);
	else
		fsbase = BPF_CORE_READ(thread, fsbase);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
