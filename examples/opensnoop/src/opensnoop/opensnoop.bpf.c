// SPDX-License-Identifier: GPL-2.0
/* Reports every openat(), which is how C libraries open files, with its result. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

struct trace_event_raw_sys_enter {
	unsigned long args[6];
} __attribute__((preserve_access_index));

struct trace_event_raw_sys_exit {
	long ret;
} __attribute__((preserve_access_index));

struct open_event {
	__u32 tgid;
	__u32 pid;
	__u32 uid;
	__s32 flags;
	__s32 ret; /* the descriptor, or a negative errno */
	char comm[16];
	char path[256];
};

/* clang leaves types that no variable has out of the BTF, and with them the skeleton's open_event. */
struct open_event *unused_open_event __attribute__((unused));

/* The call that a thread is in. */
struct pending {
	const char *path;
	int flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct pending);
} opening SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} open_events SEC(".maps");

/* The process to watch; 0 for all. */
const volatile __u32 target_tgid = 0;
const volatile bool only_failed = false;

SEC("tracepoint/syscalls/sys_enter_openat")
int on_enter(struct trace_event_raw_sys_enter *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct pending pending = {};
	__u32 pid = id;

	if (target_tgid && target_tgid != id >> 32)
		return 0;
	pending.path = (const char *)ctx->args[1];
	pending.flags = ctx->args[2];
	bpf_map_update_elem(&opening, &pid, &pending, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_openat")
int on_exit(struct trace_event_raw_sys_exit *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 pid = id;
	struct pending *pending = bpf_map_lookup_elem(&opening, &pid);
	struct open_event *event;

	if (!pending)
		return 0;
	event = only_failed && ctx->ret >= 0 ? 0 : bpf_ringbuf_reserve(&open_events, sizeof(*event), 0);
	if (event) {
		event->tgid = id >> 32;
		event->pid = pid;
		event->uid = bpf_get_current_uid_gid();
		event->flags = pending->flags;
		event->ret = ctx->ret;
		bpf_get_current_comm(event->comm, sizeof(event->comm));
		/* only now: the kernel has read the path, so its page is in memory */
		bpf_probe_read_user_str(event->path, sizeof(event->path), pending->path);
		bpf_ringbuf_submit(event, 0);
	}
	bpf_map_delete_elem(&opening, &pid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
