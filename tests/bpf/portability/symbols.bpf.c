/* Kernel symbols without a type: libbpf looks them up in /proc/kallsyms, before it loads anything. */
#include "cases.h"

extern const void schedule __ksym __weak;
extern const void vfs_read __ksym;
extern const void hatch_bpf_never_symbol __ksym __weak;

#define READ BPF_CORE_READ(NEVER(CURRENT), hatch_bpf_never)

CASE(loads__address)
{
	return bpf_get_prandom_u32() == (__u32)(long)&vfs_read;
}

CASE(loads__guarded_by_the_absence_of_a_symbol_that_is_there)
{
	return &schedule ? 0 : READ;
}

CASE(fails__guarded_by_a_symbol_that_is_there)
{
	return &schedule ? READ : 0;
}

CASE(conditional__on_a_symbol_that_no_btf_lists)
{
	return &hatch_bpf_never_symbol ? READ : 0;
}
