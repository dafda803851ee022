/* Arguments of what a tracing program is attached to: how many there are, the kernel's BTF says. */
#include "cases.h"

/* Such programs must return 0. */
static __always_inline int read(__u64 *ctx, int argument)
{
	volatile __u64 value = ctx[argument];

	(void)value;
	return 0;
}

#define TARGET(section, name) SEC(section) int name(__u64 *ctx)

TARGET("tp_btf/sched_switch", kernel_btf__argument_of_a_tracepoint)
{
	return read(ctx, 2);
}

TARGET("tp_btf/sched_switch", fails__argument_that_a_tracepoint_lacks)
{
	return read(ctx, 9);
}

TARGET("tp_btf/sched_switch", kernel_btf__guarded_argument)
{
	if (bpf_core_field_exists(NEVER(0)->hatch_bpf_never))
		return read(ctx, 9);
	return read(ctx, 0);
}

static __noinline int ninth(__u64 *ctx)
{
	return ctx[9];
}

TARGET("tp_btf/sched_switch", fails__argument_read_by_a_subprogram)
{
	return ninth(ctx);
}

/* int vfs_fsync_range(struct file *file, loff_t start, loff_t end, int datasync) */
TARGET("fentry/vfs_fsync_range", kernel_btf__last_argument)
{
	return read(ctx, 3);
}

TARGET("fentry/vfs_fsync_range", fails__return_value_on_entry)
{
	return read(ctx, 4);
}

TARGET("fexit/vfs_fsync_range", kernel_btf__return_value)
{
	return read(ctx, 4);
}

TARGET("fexit/vfs_fsync_range", fails__behind_the_return_value)
{
	return read(ctx, 5);
}
