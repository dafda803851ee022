/* A program that counts packets in the storage of its cgroup. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct { __uint(type, BPF_MAP_TYPE_CGROUP_STORAGE); __type(key, struct bpf_cgroup_storage_key); __type(value, __u64); } per_cgroup SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE); __type(key, struct bpf_cgroup_storage_key); __type(value, __u64); } per_cgroup_and_cpu SEC(".maps");

SEC("cgroup_skb/egress")
int counts(struct __sk_buff *skb)
{
	__u64 *of_all = bpf_get_local_storage(&per_cgroup, 0), *own = bpf_get_local_storage(&per_cgroup_and_cpu, 0);

	__sync_fetch_and_add(of_all, 1);
	*own += 1;
	return 1;
}

char _license[] SEC("license") = "GPL";
