/* Guards by values that libbpf takes from the running kernel. */
#include "cases.h"

extern int LINUX_KERNEL_VERSION __kconfig;
extern int CONFIG_HATCH_BPF_NEVER __kconfig __weak;

#define READ BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never)

CASE(loads__guarded_by_a_version_long_past)
{
	return LINUX_KERNEL_VERSION < KERNEL_VERSION(4, 0, 0) ? READ : 0;
}

CASE(loads__guarded_by_a_version_to_come)
{
	return LINUX_KERNEL_VERSION >= KERNEL_VERSION(200, 0, 0) ? READ : 0;
}

CASE(fails__guarded_by_a_version_that_is_reached)
{
	return LINUX_KERNEL_VERSION >= KERNEL_VERSION(4, 0, 0) ? READ : 0;
}

CASE(loads__guarded_by_a_major_version)
{
	return LINUX_KERNEL_VERSION >> 16 < 4 ? READ : 0;
}

CASE(conditional__on_the_configuration)
{
	return CONFIG_HATCH_BPF_NEVER ? READ : 0;
}
