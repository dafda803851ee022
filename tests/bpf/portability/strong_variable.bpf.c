/* Of a variable that the kernel lacks, too. */
#include "cases.h"

extern const int hatch_bpf_never_variable __ksym;

CASE(fails__with_the_object)
{
	return 0;
}

CASE(fails__by_itself)
{
	return bpf_get_prandom_u32() == (__u32)(long)&hatch_bpf_never_variable;
}
