/* A probe that a program in user space declares itself, and the argument that it hands over. */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/usdt.bpf.h>

__u64 hits;
long argument;

SEC("usdt")
int on_usdt(struct pt_regs *ctx)
{
	__sync_fetch_and_add(&hits, 1);
	bpf_usdt_arg(ctx, 0, &argument);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
