/* A type's id in the kernel's own BTF is another one in a minimized BTF. */
#include "cases.h"

CASE(kernel_btf__type_id)
{
	return bpf_core_type_id_kernel(struct task_struct);
}

CASE(loads__local_type_id)
{
	return bpf_core_type_id_local(struct task_struct);
}

CASE(loads__type_id_behind_a_false_guard)
{
	if (bpf_core_field_exists(NEVER(0)->hatch_bpf_never))
		return bpf_core_type_id_kernel(struct task_struct);
	return 0;
}
