#include "smoke.h"

SEC("fentry/vfs_unlink")
int smoke(void *ctx)
{
	see();
	return 0;
}
