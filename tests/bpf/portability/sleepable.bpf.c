/* Sleepable programs: which kinds may be so differs. Names without a verdict: another one on old kernels. */
#include "cases.h"

SEC("uprobe.s") int sleepable_uprobe(void *ctx) { return 0; }
SEC("uretprobe.s") int sleepable_uretprobe(void *ctx) { return 0; }
SEC("lsm.s/file_open") int sleepable_lsm(void *ctx) { return 0; }
SEC("lsm.s/bprm_committed_creds") int kernel_btf__first_sleepable_lsm(void *ctx) { return 0; }
SEC("iter.s/task") int kernel_btf__sleepable_iter(void *ctx) { return 0; }
SEC("syscall") int syscall_program(void *ctx) { return 0; }
