// SPDX-License-Identifier: GPL-2.0
/* `calls SECONDS`: wait for a byte, then make system calls for so long. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
	char byte;
	double end;

	if (argc != 2 || read(0, &byte, 1) != 1)
		return 1;
	end = now() + atof(argv[1]);
	while (now() < end)
		for (int i = 0; i < 100; i++)
			syscall(SYS_getppid);
	return 0;
}
