/* Relocations that tell of types, enumerators and fields rather than read: what exists on this kernel, how big it is,
 * and what its value, place or number is. */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

typedef int pid_t;

struct task_struct {
	pid_t pid;
	unsigned int flags;
	unsigned int __state;
	char comm[16];
} __attribute__((preserve_access_index));

struct task_struct___before_5_14 {
	long state;
} __attribute__((preserve_access_index));

/* Fields and types that no kernel has. */
struct task_struct___never {
	int hatch_bpf_never;
} __attribute__((preserve_access_index));

struct hatch_bpf_never {
	int field;
} __attribute__((preserve_access_index));

/* As every kernel has it. No char: whether it is signed differs since Linux 6.2, and matching takes it exactly. */
struct task_struct___some {
	pid_t pid;
	unsigned int flags;
} __attribute__((preserve_access_index));

/* As no kernel has it: pid is no struct. */
struct task_struct___other {
	struct hatch_bpf_never pid;
} __attribute__((preserve_access_index));

union bpf_attr___some {
	__u32 map_type;
};

struct tcp_sock {
	__u8 nonagle : 4;
} __attribute__((preserve_access_index));

/* Its values hang on the kernel's configuration. */
enum cgroup_subsys_id {
	memory_cgrp_id = 77,
	hatch_bpf_never_cgrp_id = 78,
};

enum bpf_func_id___here {
	BPF_FUNC_ktime_get_tai_ns___here = 77,
};

struct facts {
	__u64 task_exists;
	__u64 never_exists;
	__u64 union_exists;
	__u64 enum_exists;
	__u64 typedef_exists;
	__u64 task_size;
	__u64 never_size;
	__u64 task_local_id;
	__u64 memory_exists;
	__u64 memory_value;
	__u64 never_value_exists;
	__u64 tai_exists;
	__u64 tai_value;
	__u64 pid_exists;
	__u64 never_field_exists;
	__u64 state_exists;
	__u64 old_state_exists;
	__u64 state_size;
	__u64 comm_size;
	__u64 pid_offset;
	__u64 comm_offset;
	__u64 pid_signed;
	__u64 flags_signed;
	__u64 nonagle_offset;
	__u64 nonagle_size;
	__u64 nonagle_lshift;
	__u64 nonagle_rshift;
	/* zero where the compiler is too old for them: clang 14 breaks down on them */
	__u64 can_match;
	__u64 task_matches;
	__u64 other_matches;
	__u64 count;
};

struct facts facts = {};

SEC("raw_tp/sys_enter")
int learn(void *ctx)
{
	struct task_struct *task = 0;
	struct tcp_sock *tcp = 0;

	facts.task_exists = bpf_core_type_exists(struct task_struct);
	facts.never_exists = bpf_core_type_exists(struct hatch_bpf_never);
	facts.union_exists = bpf_core_type_exists(union bpf_attr___some);
	facts.enum_exists = bpf_core_type_exists(enum cgroup_subsys_id);
	facts.typedef_exists = bpf_core_type_exists(pid_t);
	facts.task_size = bpf_core_type_size(struct task_struct);
	facts.never_size = bpf_core_type_size(struct hatch_bpf_never);
	facts.task_local_id = bpf_core_type_id_local(struct task_struct);

	facts.memory_exists = bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id);
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		facts.memory_value = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	facts.never_value_exists = bpf_core_enum_value_exists(enum cgroup_subsys_id, hatch_bpf_never_cgrp_id);
	facts.tai_exists = bpf_core_enum_value_exists(enum bpf_func_id___here, BPF_FUNC_ktime_get_tai_ns___here);
	if (bpf_core_enum_value_exists(enum bpf_func_id___here, BPF_FUNC_ktime_get_tai_ns___here))
		facts.tai_value = bpf_core_enum_value(enum bpf_func_id___here, BPF_FUNC_ktime_get_tai_ns___here);

	facts.pid_exists = bpf_core_field_exists(task->pid);
	facts.never_field_exists = bpf_core_field_exists(((struct task_struct___never *)task)->hatch_bpf_never);
	facts.state_exists = bpf_core_field_exists(task->__state);
	facts.old_state_exists = bpf_core_field_exists(((struct task_struct___before_5_14 *)task)->state);
	if (bpf_core_field_exists(task->__state))
		facts.state_size = bpf_core_field_size(task->__state);
	else
		facts.state_size = bpf_core_field_size(((struct task_struct___before_5_14 *)task)->state);
	facts.comm_size = bpf_core_field_size(task->comm);
	facts.pid_offset = bpf_core_field_offset(task->pid);
	facts.comm_offset = bpf_core_field_offset(task->comm);
	facts.pid_signed = __builtin_preserve_field_info(task->pid, BPF_FIELD_SIGNED);
	facts.flags_signed = __builtin_preserve_field_info(task->flags, BPF_FIELD_SIGNED);
	facts.nonagle_offset = __builtin_preserve_field_info(tcp->nonagle, BPF_FIELD_BYTE_OFFSET);
	facts.nonagle_size = __builtin_preserve_field_info(tcp->nonagle, BPF_FIELD_BYTE_SIZE);
	facts.nonagle_lshift = __builtin_preserve_field_info(tcp->nonagle, BPF_FIELD_LSHIFT_U64);
	facts.nonagle_rshift = __builtin_preserve_field_info(tcp->nonagle, BPF_FIELD_RSHIFT_U64);

#if __clang_major__ >= 15
	facts.can_match = 1;
	facts.task_matches = bpf_core_type_matches(struct task_struct___some);
	facts.other_matches = bpf_core_type_matches(struct task_struct___other);
#endif
	facts.count++;
	return 0;
}

/* A program of its own, since its verdict differs: an embedded BTF numbers its types anew. */
__u64 task_kernel_id = 0;

SEC("raw_tp/sys_enter")
int learn_kernel_id(void *ctx)
{
	task_kernel_id = bpf_core_type_id_kernel(struct task_struct);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
