/* Programs to test-run, each with a context of another kind. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct request {
	__u64 question;
	__s64 answer;
};

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

char _license[] SEC("license") = "GPL";
