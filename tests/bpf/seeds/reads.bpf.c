/* Every macro of bpf_core_read.h that reads memory, on something whose value the test can learn elsewhere. The BPF_PROBE_
 * forms are not relocated, so they are used on what every kernel lays out alike. */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct super_block {
	__u32 s_dev;
} __attribute__((preserve_access_index));

struct inode {
	unsigned long i_ino;
	struct super_block *i_sb;
} __attribute__((preserve_access_index));

struct file {
	struct inode *f_inode;
} __attribute__((preserve_access_index));

struct mm_struct {
	struct file *exe_file;
} __attribute__((preserve_access_index));

/* Not relocated: two pointers, on every kernel. */
struct list_head {
	struct list_head *next, *prev;
};

struct task_struct {
	int pid;
	int tgid;
	__u64 start_boottime;
	struct mm_struct *mm;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct list_head children;
	char comm[16];
} __attribute__((preserve_access_index));

/* Linux 5.5 gave the field its name. */
struct task_struct___before_5_5 {
	__u64 real_start_time;
} __attribute__((preserve_access_index));

/* What lies at &task->comm, not relocated. */
struct name {
	char text[16];
};

const volatile __u32 target_pid = 0;

struct kernel_reads {
	__u64 start_boottime;  /* BPF_CORE_READ_INTO */
	__u64 exe_inode;       /* BPF_CORE_READ through four pointers */
	__u32 exe_device;      /* BPF_CORE_READ through five */
	__u32 tgid;            /* BPF_CORE_READ */
	__u32 parent;          /* BPF_CORE_READ */
	__u32 pid;             /* bpf_core_read */
	char comm[16];         /* BPF_CORE_READ_STR_INTO */
	char comm_again[16];   /* bpf_core_read_str */
	char comm_probed[16];  /* BPF_PROBE_READ_STR_INTO */
	__u64 list;            /* address of a list's head, */
	__u64 list_next_prev;  /* which BPF_PROBE_READ finds again */
	__u64 list_prev_next;  /* and BPF_PROBE_READ_INTO */
	__u32 count;
};

struct kernel_reads kernel_reads = {};

SEC("raw_tp/sys_enter")
int of_the_kernel(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct kernel_reads *reads = &kernel_reads;
	struct list_head *list = &task->children;
	struct name *name = (struct name *)&task->comm;
	void *found;

	if ((__u32)bpf_get_current_pid_tgid() != target_pid)
		return 0;
	reads->tgid = BPF_CORE_READ(task, tgid);
	reads->parent = BPF_CORE_READ(task, real_parent, tgid);
	reads->exe_inode = BPF_CORE_READ(task, mm, exe_file, f_inode, i_ino);
	reads->exe_device = BPF_CORE_READ(task, mm, exe_file, f_inode, i_sb, s_dev);
	bpf_core_read(&reads->pid, sizeof(reads->pid), &task->pid);
	if (bpf_core_field_exists(task->start_boottime))
		BPF_CORE_READ_INTO(&reads->start_boottime, task, group_leader, start_boottime);
	else
		BPF_CORE_READ_INTO(&reads->start_boottime, (struct task_struct___before_5_5 *)task, real_start_time);
	BPF_CORE_READ_STR_INTO(&reads->comm, task, group_leader, comm);
	bpf_core_read_str(reads->comm_again, sizeof(reads->comm_again), &task->comm);
	BPF_PROBE_READ_STR_INTO(&reads->comm_probed, name, text);
	reads->list = (__u64)list;
	reads->list_next_prev = (__u64)BPF_PROBE_READ(list, next, prev);
	BPF_PROBE_READ_INTO(&found, list, prev, next);
	reads->list_prev_next = (__u64)found;
	reads->count++;
	return 0;
}

struct trace_event_raw_sys_enter {
	unsigned long args[6];
} __attribute__((preserve_access_index));

struct sockaddr_un {
	__u16 sun_family;
	char sun_path[108];
} __attribute__((preserve_access_index));

struct iovec {
	void *iov_base;
	unsigned long iov_len;
} __attribute__((preserve_access_index));

struct user_msghdr {
	struct sockaddr_un *msg_name;
	int msg_namelen;
	struct iovec *msg_iov;
	unsigned long msg_iovlen;
} __attribute__((preserve_access_index));

/* The same as part of the system call's interface, not relocated. */
struct abi_sockaddr {
	__u16 sun_family;
	char sun_path[108];
};

struct abi_iovec {
	void *iov_base;
	unsigned long iov_len;
};

struct abi_msghdr {
	struct abi_sockaddr *msg_name;
	int msg_namelen;
	struct abi_iovec *msg_iov;
	unsigned long msg_iovlen;
};

struct user_reads {
	__u64 length;          /* BPF_CORE_READ_USER */
	__u64 pieces;          /* BPF_CORE_READ_USER_INTO */
	__u64 length_probed;   /* BPF_PROBE_READ_USER */
	__u64 pieces_probed;   /* BPF_PROBE_READ_USER_INTO */
	__u32 name_length;     /* bpf_core_read_user */
	char path[64];         /* BPF_CORE_READ_USER_STR_INTO */
	char path_again[64];   /* bpf_core_read_user_str */
	char path_probed[64];  /* BPF_PROBE_READ_USER_STR_INTO */
	__u32 count;
};

struct user_reads user_reads = {};

SEC("tracepoint/syscalls/sys_enter_sendmsg")
int of_the_user(struct trace_event_raw_sys_enter *ctx)
{
	struct user_msghdr *message = (void *)ctx->args[1];
	struct abi_msghdr *abi = (void *)ctx->args[1];
	struct user_reads *reads = &user_reads;
	struct sockaddr_un *name;

	if ((__u32)bpf_get_current_pid_tgid() != target_pid)
		return 0;
	reads->length = BPF_CORE_READ_USER(message, msg_iov, iov_len);
	BPF_CORE_READ_USER_INTO(&reads->pieces, message, msg_iovlen);
	reads->length_probed = BPF_PROBE_READ_USER(abi, msg_iov, iov_len);
	BPF_PROBE_READ_USER_INTO(&reads->pieces_probed, abi, msg_iovlen);
	bpf_core_read_user(&reads->name_length, sizeof(reads->name_length), &message->msg_namelen);
	BPF_CORE_READ_USER_STR_INTO(&reads->path, message, msg_name, sun_path);
	name = BPF_CORE_READ_USER(message, msg_name);
	bpf_core_read_user_str(reads->path_again, sizeof(reads->path_again), &name->sun_path);
	BPF_PROBE_READ_USER_STR_INTO(&reads->path_probed, abi, msg_name, sun_path);
	reads->count++;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
