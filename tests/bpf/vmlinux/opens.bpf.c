/* Files opened: plain tracepoints, enumerators, bitfields, and what a kernel may lack. */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct event {
	u32 pid;
	u32 uid;
	s32 result;
	u32 flags;
	u32 leader;
	u64 kind;
	char name[64];
};

struct task_struct___from_5_14 {
	unsigned int __state;
} __attribute__((preserve_access_index));

struct task_struct___before_5_14 {
	long state;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_openat")
int on_open(struct trace_event_raw_sys_enter *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		return 0;
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->uid = BPF_CORE_READ(task, cred, uid.val);
	event->flags = ctx->args[2];
	event->leader = BPF_CORE_READ_BITFIELD_PROBED(task, in_execve);
	if (bpf_core_field_exists(((struct task_struct___from_5_14 *)task)->__state))
		event->result = BPF_CORE_READ((struct task_struct___from_5_14 *)task, __state);
	else
		event->result = BPF_CORE_READ((struct task_struct___before_5_14 *)task, state);
	event->kind = bpf_core_enum_value(enum bpf_map_type, BPF_MAP_TYPE_RINGBUF) + PIDTYPE_SID +
		      bpf_core_type_size(struct file) + bpf_core_type_exists(struct fown_struct);
	bpf_probe_read_user_str(event->name, sizeof(event->name), (const char *)ctx->args[1]);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
