/* A weak kfunc that is declared otherwise than the kernel has it: old versions of libbpf refuse the object. */
#include "cases.h"

extern struct task_struct *bpf_task_from_pid(void *first, int pid) __ksym __weak;

SEC("tp_btf/sched_switch") int beside_the_kfunc(void *ctx) { return 0; }
SEC("tp_btf/sched_switch") int guarded(void *ctx) { return bpf_task_from_pid ? !bpf_task_from_pid(ctx, 1) : 0; }
SEC("tp_btf/sched_switch") int unguarded(void *ctx) { return !bpf_task_from_pid(ctx, 1); }
