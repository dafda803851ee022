/* Kfuncs by a name with a flavor, and one that is declared otherwise: libbpf 1.3 and newer finds what others do not.
 * Names without a verdict: another one where the kernel has none of them. */
#include "cases.h"

extern struct task_struct *bpf_task_from_pid___mine(int pid) __ksym __weak;
extern void bpf_task_release___mine(struct task_struct *task) __ksym __weak;
extern struct task_struct *bpf_task_from_pid___wrong(void *first, int pid) __ksym __weak;

SEC("tp_btf/sched_switch") int beside_flavored_kfuncs(void *ctx) { return 0; }

SEC("tp_btf/sched_switch") int guarded_flavored_kfunc(void *ctx)
{
	if (bpf_task_from_pid___mine && bpf_task_release___mine) {
		struct task_struct *task = bpf_task_from_pid___mine(1);

		if (task)
			bpf_task_release___mine(task);
	}
	return 0;
}

SEC("tp_btf/sched_switch") int flavored_kfunc(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid___mine(1);

	if (task)
		bpf_task_release___mine(task);
	return 0;
}

SEC("tp_btf/sched_switch") int guarded_kfunc_of_another_type(void *ctx)
{
	if (bpf_task_from_pid___wrong)
		return !bpf_task_from_pid___wrong(ctx, 1);
	return 0;
}
