/* Kernel symbols: all of this object needs the kernel's own BTF, for libbpf looks for typed externs in it. */
#include "cases.h"

struct rq;

extern const struct rq hatch_bpf_never_variable __ksym __weak;
extern void hatch_bpf_never_kfunc(void) __ksym __weak;

CASE(kernel_btf__nothing_of_its_own)
{
	return 0;
}

CASE(kernel_btf__guarded_kfunc)
{
	if (hatch_bpf_never_kfunc)
		hatch_bpf_never_kfunc();
	return 0;
}

CASE(fails__kfunc_without_guard)
{
	hatch_bpf_never_kfunc();
	return 0;
}

CASE(kernel_btf__guard_by_a_variable)
{
	if (&hatch_bpf_never_variable)
		return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
	return 0;
}

CASE(fails__guard_by_a_missing_variable)
{
	if (!&hatch_bpf_never_variable)
		return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
	return 0;
}
