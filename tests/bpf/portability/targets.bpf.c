/* Attach targets and program types. */
#include "cases.h"

SEC("fentry/vfs_read") int kernel_btf__fentry(void *ctx) { return 0; }
SEC("fexit/vfs_read") int kernel_btf__fexit(void *ctx) { return 0; }
SEC("fentry/hatch_bpf_never") int fails__fentry(void *ctx) { return 0; }
SEC("?fentry/hatch_bpf_never") int fails__optional(void *ctx) { return 0; }
SEC("fentry/hatch_bpf_module:hatch_bpf_never") int kernel_btf__fentry_of_a_module(void *ctx) { return 0; }
SEC("fentry") int conditional__fentry_without_target(void *ctx) { return 0; }
SEC("tp_btf/sched_switch") int kernel_btf__tp_btf(void *ctx) { return 0; }
SEC("tp_btf/hatch_bpf_never") int fails__tp_btf(void *ctx) { return 0; }
SEC("iter/task") int kernel_btf__iter(void *ctx) { return 0; }
SEC("iter/hatch_bpf_never") int fails__iter(void *ctx) { return 0; }
SEC("lsm/file_open") int kernel_btf__lsm(void *ctx) { return 0; }
SEC("lsm/hatch_bpf_never") int fails__lsm(void *ctx) { return 0; }
SEC("raw_tp/sched_switch") int loads__raw_tp(void *ctx) { return 0; }
SEC("raw_tp/hatch_bpf_never") int conditional__raw_tp_that_cannot_attach(void *ctx) { return 0; }
SEC("kprobe/vfs_read") int loads__kprobe(void *ctx) { return 0; }
SEC("kprobe/vfs_read+0x4") int loads__kprobe_inside(void *ctx) { return 0; }
SEC("kprobe/hatch_bpf_never") int conditional__kprobe_that_cannot_attach(void *ctx) { return 0; }
SEC("ksyscall/openat") int loads__ksyscall(void *ctx) { return 0; }
SEC("ksyscall/hatch_bpf_never") int conditional__ksyscall_that_cannot_attach(void *ctx) { return 0; }
SEC("xdp") int loads__xdp(void *ctx) { return 2; }
SEC("hatch_bpf/never") int fails__unknown_section(void *ctx) { return 0; }
