/* Subprograms: beside tail calls, and with pointers as arguments. Names without a verdict: another one on old kernels. */
#include "cases.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 4);
} jumps SEC(".maps");

struct pair {
	int one;
	int other;
};

static __noinline int kept_apart(int number) { volatile int kept = number; return kept + 1; }
static __noinline int jump(struct __sk_buff *skb) { bpf_tail_call(skb, &jumps, 0); return 0; }
__noinline int of_pointer(const struct pair *pair) { return pair ? pair->one : 0; }
__noinline int of_context(struct __sk_buff *skb) { return skb->len & 1; }
static __noinline int static_of_pointer(const struct pair *pair) { return pair->other; }
__noinline int of_number(int number) { volatile int kept = number; return kept - 1; }
static const volatile bool never;

SEC("tc") int loads__tail_call(struct __sk_buff *skb) { bpf_tail_call(skb, &jumps, 0); return 0; }
SEC("tc") int tail_call_beside(struct __sk_buff *skb)
{
	int kept = kept_apart(skb->len);

	bpf_tail_call(skb, &jumps, 0);
	return kept;
}

SEC("tc") int tail_call_within(struct __sk_buff *skb) { return jump(skb); }
SEC("tc") int loads__tail_call_in_dead_code(struct __sk_buff *skb)
{
	int kept = kept_apart(skb->len);

	if (never)
		bpf_tail_call(skb, &jumps, 0);
	return kept;
}

SEC("tc") int loads__global_of_context(struct __sk_buff *skb) { return of_context(skb); }
SEC("tc") int loads__global_of_number(struct __sk_buff *skb) { return of_number(skb->len); }
SEC("tc") int loads__static_of_pointer(struct __sk_buff *skb)
{
	struct pair pair = { 1, skb->len };

	return static_of_pointer(&pair);
}

SEC("tc") int global_of_pointer(struct __sk_buff *skb)
{
	struct pair pair = { skb->len, 1 };

	return of_pointer(&pair);
}

SEC("tc") int global_of_pointer_in_dead_code(struct __sk_buff *skb)
{
	struct pair pair = { skb->len, 1 };

	return never ? of_pointer(&pair) : 0;
}
