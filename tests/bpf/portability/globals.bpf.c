/* Guards by global variables: only what is fixed at load counts, and only what the application cannot set is known. */
#include "cases.h"

const volatile bool use_never;
const volatile bool use_never_by_default = true;
const volatile int level = 3;
static const volatile bool never_set;
static const volatile bool always_set = true;
bool at_run_time;
static const char format[] = "pid %d";

#define READ BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never)

CASE(conditional__on_a_global)
{
	return use_never ? READ : 0;
}

CASE(conditional__on_a_global_that_is_set)
{
	return use_never_by_default ? READ : 0;
}

CASE(conditional__on_a_comparison)
{
	return level > 4 ? READ : 0;
}

CASE(conditional__on_a_mask)
{
	return level & 4 ? READ : 0;
}

CASE(conditional__on_two_globals)
{
	return use_never && level == 2 ? READ : 0;
}

CASE(conditional__on_a_global_passed_on)
{
	volatile __u64 kept = use_never;

	bpf_get_prandom_u32();
	return kept ? READ : 0;
}

CASE(loads__guarded_by_a_field_and_a_global)
{
	return use_never && bpf_core_field_exists(NEVER(0)->hatch_bpf_never) ? READ : 0;
}

CASE(fails__whatever_the_global_is)
{
	if (use_never)
		return READ;
	return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_nowhere);
}

CASE(fails__after_a_branch_on_a_global)
{
	__u64 value = use_never ? bpf_ktime_get_ns() : bpf_get_prandom_u32();

	return value + READ;
}

CASE(loads__guarded_by_a_static_constant)
{
	return never_set ? READ : 0;
}

CASE(fails__guarded_by_a_static_constant_that_is_set)
{
	return always_set ? READ : 0;
}

CASE(fails__guarded_by_what_changes)
{
	return at_run_time ? READ : 0;
}

CASE(loads__guarded_by_a_character_of_a_string)
{
	return ((volatile const char *)format)[4] == 'x' ? READ : 0;
}
