/* Arguments of what a tracing program is attached to: how many there are, the kernel's BTF says. */
#include "cases.h"

#define TARGET(section, name) SEC(section) int name(__u64 *ctx)

TARGET("tp_btf/sched_switch", kernel_btf__argument_of_a_tracepoint)
{
	return ctx[2];
}

TARGET("tp_btf/sched_switch", fails__argument_that_a_tracepoint_lacks)
{
	return ctx[9];
}

TARGET("tp_btf/sched_switch", kernel_btf__guarded_argument)
{
	if (bpf_core_field_exists(NEVER(0)->hatch_bpf_never))
		return ctx[9];
	return ctx[0];
}

static __noinline int ninth(__u64 *ctx)
{
	return ctx[9];
}

TARGET("tp_btf/sched_switch", fails__argument_read_by_a_subprogram)
{
	return ninth(ctx);
}

/* ssize_t vfs_read(struct file *file, char *buf, size_t count, loff_t *pos) */
TARGET("fentry/vfs_read", kernel_btf__last_argument)
{
	return ctx[3];
}

TARGET("fentry/vfs_read", fails__return_value_on_entry)
{
	return ctx[4];
}

TARGET("fexit/vfs_read", kernel_btf__return_value)
{
	return ctx[4];
}

TARGET("fexit/vfs_read", fails__behind_the_return_value)
{
	return ctx[5];
}
