/* A daemon's program: it counts the packets of a cgroup, by the version of the daemon that loaded it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 version;

struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); } packets SEC(".maps");

SEC("cgroup_skb/egress")
int count(struct __sk_buff *skb)
{
	__u32 key = version;
	__u64 *number = bpf_map_lookup_elem(&packets, &key);

	if (number)
		__sync_fetch_and_add(number, 1);
	return 1;
}

SEC("raw_tp/sys_enter")
int say(void *ctx)
{
	__u32 key = 3;
	__u64 *pid = bpf_map_lookup_elem(&packets, &key);

	if (pid && *pid && *pid == bpf_get_current_pid_tgid() >> 32)
		bpf_printk("hatch says %d", 42);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_getppid")
int on_getppid(void *ctx)
{
	__u32 key = 2;
	__u64 *number = bpf_map_lookup_elem(&packets, &key);

	if (number)
		__sync_fetch_and_add(number, 1);
	return 0;
}

char _license[] SEC("license") = "GPL";
