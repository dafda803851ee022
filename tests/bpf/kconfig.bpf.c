/* Externs of every kind that libbpf fills in from the kernel's configuration. The program hands them on, so that clang keeps them. */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern int LINUX_KERNEL_VERSION __kconfig;
extern char CONFIG_A_CHAR __kconfig __weak;
extern bool CONFIG_A_BOOL __kconfig __weak;
extern enum libbpf_tristate CONFIG_A_TRISTATE __kconfig __weak;
extern __u16 CONFIG_A_SHORT __kconfig __weak;
extern __u64 CONFIG_A_LONG __kconfig __weak;
extern __s32 CONFIG_NEGATIVE __kconfig __weak;
extern char CONFIG_A_STRING[11] __kconfig __weak;
extern __u32 CONFIG_ABSENT __kconfig __weak;
extern bool CONFIG_B_BOOL __kconfig __weak;

__u64 sum;

SEC("raw_tracepoint/sys_enter")
int read_all(void *ctx)
{
	sum = LINUX_KERNEL_VERSION + CONFIG_A_CHAR + CONFIG_A_BOOL + CONFIG_A_TRISTATE + CONFIG_A_SHORT + CONFIG_A_LONG +
	      CONFIG_NEGATIVE + CONFIG_A_STRING[0] + CONFIG_ABSENT + CONFIG_B_BOOL;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
