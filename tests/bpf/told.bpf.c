/* Programs that do nothing by themselves: they are run with a context, or told what to go through. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));
struct cgroup {
	int level;
} __attribute__((preserve_access_index));
struct task_struct {
	int tgid;
} __attribute__((preserve_access_index));
struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
} __attribute__((preserve_access_index));
struct bpf_iter__cgroup {
	struct bpf_iter_meta *meta;
	struct cgroup *cgroup;
} __attribute__((preserve_access_index));
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} __attribute__((preserve_access_index));

struct request {
	__u64 question;
	__s64 answer;
};

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); } squares SEC(".maps");

struct { __uint(type, BPF_MAP_TYPE_CGROUP_STORAGE); __type(key, struct bpf_cgroup_storage_key); __type(value, __u64); } per_cgroup SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE); __type(key, struct bpf_cgroup_storage_key); __type(value, __u64); } per_cgroup_and_cpu SEC(".maps");

__u64 argument;

SEC("syscall")
int answer(struct request *ctx)
{
	ctx->answer = -(__s64)ctx->question;
	return 3;
}

SEC("raw_tp/sys_enter")
int takes_arguments(struct bpf_raw_tracepoint_args *ctx)
{
	argument = ctx->args[1];
	return 4;
}

SEC("tc")
int marks(struct __sk_buff *skb)
{
	skb->mark += 1;
	return 0;
}

SEC("cgroup_skb/egress")
int counts(struct __sk_buff *skb)
{
	__u64 *of_all = bpf_get_local_storage(&per_cgroup, 0), *own = bpf_get_local_storage(&per_cgroup_and_cpu, 0);

	__sync_fetch_and_add(of_all, 1);
	*own += 1;
	return 1;
}

SEC("iter/bpf_map_elem")
int list_squares(struct bpf_iter__bpf_map_elem *ctx)
{
	__u32 *key = ctx->key;
	__u64 *value = ctx->value;

	if (key && value)
		BPF_SEQ_PRINTF(ctx->meta->seq, "%u %llu\n", *key, *value);
	return 0;
}

SEC("iter/cgroup")
int list_cgroups(struct bpf_iter__cgroup *ctx)
{
	struct cgroup *cgroup = ctx->cgroup;

	if (cgroup)
		BPF_SEQ_PRINTF(ctx->meta->seq, "level %d\n", cgroup->level);
	return 0;
}

SEC("iter/task")
int list_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task)
		BPF_SEQ_PRINTF(ctx->meta->seq, "process %d\n", task->tgid);
	return 0;
}

char _license[] SEC("license") = "GPL";
