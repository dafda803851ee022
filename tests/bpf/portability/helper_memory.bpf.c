/* What is still known of a number on the stack once a helper has had its address. */
#include "cases.h"

#define HAS_NEVER bpf_core_field_exists(NEVER(0)->hatch_bpf_never)
#define READ BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never)

/* Since some release after Linux 6.12, the verifier forgets nothing that the helper only reads. */
CASE(guard_in_memory_that_a_helper_reads)
{
	__u64 has_never = HAS_NEVER;

	bpf_trace_printk((char *)&has_never, sizeof(has_never));
	return has_never ? READ : 0;
}

/* Not a size, what is passed behind the address here. */
SEC("tc") int fails__guard_in_memory_that_a_helper_writes(struct __sk_buff *skb)
{
	__u32 has_never = HAS_NEVER;

	bpf_check_mtu(skb, 0, &has_never, 0, 0);
	return has_never ? bpf_core_enum_value(enum bpf_func_id___never, BPF_FUNC_hatch_bpf_never___never) : 0;
}
