// SPDX-License-Identifier: GPL-2.0
/* Reports waits for PostgreSQL's heavyweight locks: by the USDT probes around each wait, by those around each query, and by
 * a uprobe on the function that every lock is acquired with. vmlinux.h is for struct pt_regs, which each architecture has
 * otherwise. */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

#define LOCKTAG_TRANSACTION 5
#define LOCK_MODES 9 /* from AccessShareLock, 1, to AccessExclusiveLock, 8 */

struct wait_event {
	__u32 pid; /* a backend; PostgreSQL has a process for each connection */
	__u32 object; /* a relation's oid, or a transaction's number */
	__u32 type; /* LockTagType of PostgreSQL */
	__u32 mode;
	__u64 waited_ns;
	char query[128];
};

/* clang leaves types that no variable has out of the BTF, and with them the skeleton's wait_event. */
struct wait_event *unused_wait_event __attribute__((unused));

/* Where the query of each backend is, in its memory. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} queries SEC(".maps");

/* When each backend began to wait. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} waiting_since SEC(".maps");

/* How often locks of each mode were asked for. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOCK_MODES);
	__type(key, __u32);
	__type(value, __u64);
} requests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} wait_events SEC(".maps");

SEC("usdt")
int BPF_USDT(on_query_start, const char *query)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 address = (__u64)query;

	bpf_map_update_elem(&queries, &pid, &address, BPF_ANY);
	return 0;
}

SEC("usdt")
int on_query_done(struct pt_regs *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	bpf_map_delete_elem(&queries, &pid);
	return 0;
}

/* LockAcquireExtended(const LOCKTAG *locktag, LOCKMODE lockmode, ...) */
SEC("uprobe")
int BPF_KPROBE(on_request, const void *locktag, int lockmode)
{
	__u32 mode = lockmode;
	__u64 *number = bpf_map_lookup_elem(&requests, &mode);

	if (number)
		(*number)++;
	return 0;
}

SEC("usdt")
int on_wait_start(struct pt_regs *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&waiting_since, &pid, &now, BPF_ANY);
	return 0;
}

/* field1 to field4 are those of a LOCKTAG; what they mean depends on the type of the lock. */
SEC("usdt")
int BPF_USDT(on_wait_done, __u32 field1, __u32 field2, __u32 field3, __u16 field4, __u8 type, int mode)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	__u64 *since = bpf_map_lookup_elem(&waiting_since, &pid), *query;
	struct wait_event *event;

	if (!since)
		return 0;
	event = bpf_ringbuf_reserve(&wait_events, sizeof(*event), 0);
	if (event) {
		event->pid = pid;
		event->object = type == LOCKTAG_TRANSACTION ? field1 : field2;
		event->type = type;
		event->mode = mode;
		event->waited_ns = bpf_ktime_get_ns() - *since;
		event->query[0] = 0;
		query = bpf_map_lookup_elem(&queries, &pid);
		if (query)
			bpf_probe_read_user_str(event->query, sizeof(event->query), (const void *)*query);
		bpf_ringbuf_submit(event, 0);
	}
	bpf_map_delete_elem(&waiting_since, &pid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
