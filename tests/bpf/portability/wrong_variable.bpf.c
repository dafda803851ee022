/* libbpf wants a typed extern to be of the kernel's type: here it is only declared. */
#include "cases.h"

struct rq;

extern const struct rq runqueues __ksym;

CASE(fails__with_the_object)
{
	return 0;
}

CASE(fails__by_itself)
{
	return bpf_get_prandom_u32() == (__u32)(long)&runqueues;
}
