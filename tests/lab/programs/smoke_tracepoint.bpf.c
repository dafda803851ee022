#include "smoke.h"

SEC("tracepoint/sched/sched_process_fork")
int smoke(void *ctx)
{
	see();
	return 0;
}
