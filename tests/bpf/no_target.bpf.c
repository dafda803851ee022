/* Programs that this or that kernel can't attach though it loads them, and one whose section has no target. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 hits;

SEC("kprobe.multi/tcp_*") int many(void *ctx)
{
	hits++;
	return 0;
}

SEC("raw_tp/sys_enter") int one(void *ctx)
{
	hits++;
	return 0;
}

SEC("uprobe") int anywhere(void *ctx)
{
	hits++;
	return 0;
}

SEC("?uprobe.multi") int everywhere(void *ctx)
{
	hits++;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
