// Two ways to see that a file is removed. Either leaves the process that does it, by a helper and out of task_struct:
// the two agree if the relocation is right.
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct task_struct {
	int tgid;
} __attribute__((preserve_access_index));

__u64 by_helper, by_relocation;

static __always_inline int see(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	by_helper = bpf_get_current_pid_tgid() >> 32;
	by_relocation = BPF_CORE_READ(task, tgid);
	return 0;
}

SEC("fentry/vfs_unlink")
int by_fentry(void *ctx)
{
	return see();
}

SEC("kprobe/vfs_unlink")
int by_kprobe(void *ctx)
{
	return see();
}

char LICENSE[] SEC("license") = "GPL";
