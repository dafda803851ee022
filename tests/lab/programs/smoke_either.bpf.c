#include "smoke.h"

SEC("fentry/vfs_unlink")
int by_fentry(void *ctx)
{
	see();
	return 0;
}

SEC("kprobe/vfs_unlink")
int by_kprobe(void *ctx)
{
	see();
	return 0;
}
