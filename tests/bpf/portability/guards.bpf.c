/* Guards by CO-RE relocations: which count, and which do not. */
#include "cases.h"

CASE(fails__no_guard)
{
	return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
}

CASE(loads__guarded)
{
	struct task_struct *task = CURRENT;

	if (bpf_core_field_exists(NEVER(task)->hatch_bpf_never))
		return BPF_CORE_READ(NEVER(task), hatch_bpf_never);
	return BPF_CORE_READ(task, pid);
}

CASE(loads__guarded_by_early_return)
{
	struct task_struct *task = CURRENT;

	if (!bpf_core_field_exists(NEVER(task)->hatch_bpf_never))
		return 0;
	return BPF_CORE_READ(NEVER(task), hatch_bpf_never);
}

CASE(fails__guarded_by_another_field)
{
	struct task_struct *task = CURRENT;

	if (bpf_core_field_exists(task->pid))
		return BPF_CORE_READ(NEVER(task), hatch_bpf_never);
	return 0;
}

CASE(loads__guarded_by_two_fields)
{
	struct task_struct *task = CURRENT;

	if (bpf_core_field_exists(task->pid) && bpf_core_field_exists(NEVER(task)->hatch_bpf_never))
		return BPF_CORE_READ(NEVER(task), hatch_bpf_nowhere);
	return 0;
}

CASE(fails__guarded_by_either_of_two_fields)
{
	struct task_struct *task = CURRENT;

	if (bpf_core_field_exists(task->pid) || bpf_core_field_exists(NEVER(task)->hatch_bpf_never))
		return BPF_CORE_READ(NEVER(task), hatch_bpf_never);
	return 0;
}

CASE(loads__guarded_by_type)
{
	struct hatch_bpf_never *never = (void *)CURRENT;

	if (bpf_core_type_exists(struct hatch_bpf_never))
		return BPF_CORE_READ(never, field);
	return 0;
}

CASE(fails__type_without_guard)
{
	struct hatch_bpf_never *never = (void *)CURRENT;

	return BPF_CORE_READ(never, field);
}

CASE(loads__size_of_missing_type)
{
	return bpf_core_type_size(struct hatch_bpf_never);
}

CASE(loads__guarded_by_size)
{
	struct task_struct *task = CURRENT;

	if (bpf_core_field_size(task->pid) == 8)
		return BPF_CORE_READ(NEVER(task), hatch_bpf_never);
	return 0;
}

CASE(loads__guarded_by_an_offset)
{
	if (__builtin_preserve_field_info(CURRENT->pid, BPF_FIELD_BYTE_OFFSET) == 0)
		return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
	return 0;
}

CASE(fails__guarded_by_an_offset_that_is_so)
{
	if (__builtin_preserve_field_info(CURRENT->pid, BPF_FIELD_BYTE_OFFSET) != 0)
		return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
	return 0;
}

CASE(fails__size_of_missing_field)
{
	return bpf_core_field_size(NEVER(0)->hatch_bpf_never);
}

CASE(fails__enumerator_without_guard)
{
	return bpf_core_enum_value(enum bpf_func_id___never, BPF_FUNC_hatch_bpf_never___never);
}

CASE(loads__guarded_enumerator)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id___never, BPF_FUNC_hatch_bpf_never___never))
		return bpf_core_enum_value(enum bpf_func_id___never, BPF_FUNC_hatch_bpf_never___never);
	return 0;
}

CASE(fails__guarded_at_run_time_only)
{
	struct task_struct *task = CURRENT;

	if (bpf_get_prandom_u32() == 7)
		return BPF_CORE_READ(NEVER(task), hatch_bpf_never);
	return 0;
}

CASE(loads__guard_kept_across_calls)
{
	struct task_struct *task = CURRENT;
	bool has = bpf_core_field_exists(NEVER(task)->hatch_bpf_never);
	__u64 a = bpf_ktime_get_ns(), b = bpf_get_current_pid_tgid(), c = bpf_get_prandom_u32();
	__u64 d = bpf_get_smp_processor_id(), e = bpf_get_current_uid_gid();
	int value = BPF_CORE_READ(task, pid);

	if (has)
		value += BPF_CORE_READ(NEVER(task), hatch_bpf_never);
	return value + a * b + c * d + e;
}

/* The read is in a subprogram because clang lifts a relocated offset out of a loop, and with it the poison: before the
 * guard, where it does harm. */
static __noinline int read_never(struct task_struct *task)
{
	return BPF_CORE_READ(NEVER(task), hatch_bpf_never);
}

CASE(loads__guard_in_a_loop)
{
	struct task_struct *task = CURRENT;
	int sum = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < 5; i++) {
		if (bpf_core_field_exists(NEVER(task)->hatch_bpf_never))
			sum += read_never(task);
		sum += bpf_get_prandom_u32();
	}
	return sum;
}

CASE(fails__in_a_loop)
{
	struct task_struct *task = CURRENT;
	int sum = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < 5; i++)
		sum += i == 3 ? BPF_CORE_READ(NEVER(task), hatch_bpf_never) : (int)bpf_get_prandom_u32();
	return sum;
}

CASE(loads__chosen_from_three_fields)
{
	struct task_struct *task = CURRENT;

	if (bpf_core_field_exists(NEVER(task)->hatch_bpf_never))
		return BPF_CORE_READ(NEVER(task), hatch_bpf_never);
	if (bpf_core_field_exists(NEVER(task)->hatch_bpf_nowhere))
		return BPF_CORE_READ(NEVER(task), hatch_bpf_nowhere);
	return BPF_CORE_READ(task, tgid);
}

/* A static subprogram is checked with the arguments of each call... */
static __noinline int read_if(struct task_struct *task, bool has)
{
	if (has)
		return BPF_CORE_READ(NEVER(task), hatch_bpf_never);
	return BPF_CORE_READ(task, pid);
}

CASE(loads__guard_passed_to_a_subprogram)
{
	struct task_struct *task = CURRENT;

	return read_if(task, bpf_core_field_exists(NEVER(task)->hatch_bpf_never));
}

CASE(fails__another_guard_passed_to_a_subprogram)
{
	struct task_struct *task = CURRENT;

	return read_if(task, bpf_core_field_exists(task->pid));
}

static __noinline bool has_never(void)
{
	return bpf_core_field_exists(NEVER(0)->hatch_bpf_never);
}

CASE(loads__guard_returned_by_a_subprogram)
{
	if (has_never())
		return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
	return 0;
}

/* ...and a global one with any arguments. */
__noinline int read_global(bool has)
{
	if (has)
		return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
	return 0;
}

CASE(fails__guard_passed_to_a_global_subprogram)
{
	return read_global(bpf_core_field_exists(NEVER(0)->hatch_bpf_never));
}

/* A hidden one is static to the kernel. */
__hidden __noinline int read_hidden(bool has)
{
	if (has)
		return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
	return 0;
}

CASE(loads__guard_passed_to_a_hidden_subprogram)
{
	return read_hidden(bpf_core_field_exists(NEVER(0)->hatch_bpf_never));
}

/* A subprogram that writes into its caller's frame must not make a guard be forgotten, nor remembered wrongly. */
static __noinline int fill(__u64 *place, struct task_struct *task)
{
	*place = BPF_CORE_READ(task, pid);
	return 0;
}

CASE(fails__guard_overwritten_by_a_subprogram)
{
	volatile __u64 has = bpf_core_field_exists(NEVER(0)->hatch_bpf_never);

	fill((__u64 *)&has, CURRENT);
	if (has)
		return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
	return 0;
}

CASE(fails__guard_overwritten_by_a_helper)
{
	volatile __u64 has = bpf_core_field_exists(NEVER(0)->hatch_bpf_never);

	bpf_probe_read_kernel((void *)&has, sizeof(has), CURRENT);
	if (has)
		return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
	return 0;
}

CASE(loads__guard_kept_on_the_stack)
{
	volatile __u64 has = bpf_core_field_exists(NEVER(0)->hatch_bpf_never);

	if (has)
		return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
	return 0;
}

CASE(loads__existing_guard_kept_on_the_stack)
{
	volatile __u64 has = bpf_core_field_exists(((struct task_struct *)0)->pid);

	if (!has)
		return BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never);
	return 0;
}

#define NO_SUCH_HELPER ((long (*)(void))9999)

CASE(fails__helper_without_guard)
{
	return NO_SUCH_HELPER();
}

CASE(loads__guarded_helper)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id___never, BPF_FUNC_hatch_bpf_never___never))
		return NO_SUCH_HELPER();
	return bpf_get_prandom_u32();
}
