#include "smoke.h"

SEC("kprobe/vfs_unlink")
int smoke(void *ctx)
{
	see();
	return 0;
}
