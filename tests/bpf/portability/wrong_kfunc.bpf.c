/* A kfunc that takes something else where the kernel has it. */
#include "cases.h"

extern struct task_struct *bpf_task_acquire(int pid) __ksym;

CASE(fails__with_the_object)
{
	return 0;
}

CASE(fails__by_itself)
{
	return !bpf_task_acquire(1);
}
