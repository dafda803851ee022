/* Subprograms that helpers call: reached when the helper is. Linux 5.10 knows none; the tests mind that. */
#include "cases.h"

enum bpf_func_id___loop { BPF_FUNC_loop___loop = 181 };

static int unguarded(__u32 index, void *data)
{
	return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
}

static int guarded(__u32 index, void *data)
{
	if (bpf_core_field_exists(NEVER(0)->hatch_bpf_never))
		return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
	return 0;
}

#define HAS_LOOP bpf_core_enum_value_exists(enum bpf_func_id___loop, BPF_FUNC_loop___loop)

CASE(fails__callback_without_guard)
{
	return bpf_loop(3, unguarded, 0, 0);
}

CASE(loads__guarded_callback)
{
	return HAS_LOOP ? bpf_loop(3, guarded, 0, 0) : 0;
}

CASE(loads__callback_of_a_guarded_call)
{
	if (bpf_core_field_exists(NEVER(0)->hatch_bpf_never))
		return bpf_loop(3, unguarded, 0, 0);
	return 0;
}
