/* libbpf finds all strong externs of an object before it loads any program. */
#include "cases.h"

extern void hatch_bpf_never_kfunc(void) __ksym;

CASE(fails__with_the_object)
{
	return 0;
}

CASE(fails__by_itself)
{
	hatch_bpf_never_kfunc();
	return 0;
}
