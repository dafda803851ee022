// What the three smoke programs share: the kernel type they read, and the map in which they say what they saw.
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct task_struct {
	int tgid;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

// Leave the helper's thread group and the one read out of task_struct: they agree where the relocation is right.
static __always_inline void see(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 helper = bpf_get_current_pid_tgid() >> 32, read = BPF_CORE_READ(task, tgid);
	__u64 value = helper << 32 | read;
	__u32 key = 0;

	bpf_map_update_elem(&seen, &key, &value, BPF_ANY);
}

char LICENSE[] SEC("license") = "GPL";
