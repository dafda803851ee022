/* What the programs here share. Each program's name starts with the verdict that it must get on Linux 5.10 and later:
 * loads__, fails__, conditional__ or kernel_btf__. The running kernel is asked too. */
#include <linux/types.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

#define CASE(name) SEC("raw_tp/sched_switch") int name(void *ctx)

struct task_struct {
	int pid;
	int tgid;
} __attribute__((preserve_access_index));

/* Fields and types that no kernel has. */
struct task_struct___never {
	int hatch_bpf_never;
	int hatch_bpf_nowhere;
} __attribute__((preserve_access_index));

struct hatch_bpf_never {
	int field;
} __attribute__((preserve_access_index));

enum bpf_func_id___never { BPF_FUNC_hatch_bpf_never___never = 1000 };

#define NEVER(task) ((struct task_struct___never *)(task))
#define CURRENT ((struct task_struct *)bpf_get_current_task())
