// SPDX-License-Identifier: GPL-2.0
/* What `Skeleton.open()`, `load()` and `attach_cgroup()` do, in C: load OBJECT, and attach its program PROGRAM to CGROUP.
 * Prints the CPU time that this took, in seconds. libbpf is linked, and so loaded before the clock starts. */
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static int silent(enum libbpf_print_level level, const char *format, va_list arguments)
{
	(void)level, (void)format, (void)arguments;
	return 0;
}

static double cpu_seconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	struct bpf_program *program;
	struct bpf_object *object;
	struct bpf_link *link;
	double start, end;
	int cgroup;

	if (argc != 4)
		return 2;
	cgroup = open(argv[3], O_RDONLY | O_DIRECTORY);
	if (cgroup < 0)
		return 3;
	libbpf_set_print(silent);
	start = cpu_seconds();
	object = bpf_object__open_file(argv[1], NULL);
	if (!object || bpf_object__load(object))
		return 4;
	program = bpf_object__find_program_by_name(object, argv[2]);
	link = program ? bpf_program__attach_cgroup(program, cgroup) : NULL;
	if (!link)
		return 5;
	end = cpu_seconds();
	printf("%.9f\n", end - start);
	bpf_link__destroy(link);
	bpf_object__close(object);
	return 0;
}
