// SPDX-License-Identifier: GPL-2.0
/* Three programs, of which one reads a field that Linux 5.14 renamed, and one needs the kernel's own BTF. */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct task_struct {
	int pid;
	unsigned int __state;
} __attribute__((preserve_access_index));

struct dentry;

__u64 execs, blocked, unlinks;

SEC("tp/sched/sched_process_exec")
int on_exec(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (BPF_CORE_READ(task, pid) > 1)
		__sync_fetch_and_add(&execs, 1);
	return 0;
}

SEC("kprobe/schedule")
int on_schedule(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (BPF_CORE_READ(task, __state))
		__sync_fetch_and_add(&blocked, 1);
	return 0;
}

SEC("fentry/vfs_unlink")
int on_unlink(void *ctx)
{
	__sync_fetch_and_add(&unlinks, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
