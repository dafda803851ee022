/* Whether a global subprogram is checked at all if no call of it is reached differs between kernels. */
#include "cases.h"

__noinline int read_never(int value)
{
	return value + BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
}

CASE(global_subprogram_behind_a_guard)
{
	if (bpf_core_field_exists(NEVER(0)->hatch_bpf_never))
		return read_never(bpf_get_prandom_u32());
	return 0;
}
