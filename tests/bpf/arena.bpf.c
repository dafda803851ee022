/* Global variables in an arena. clang before 19 knows neither its address space nor how to cast its pointers, so both are
 * spelled out. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define IN_ARENA __attribute__((section(".addr_space.1")))
/* r1 = addr_space_cast(r1, 0, 1), by which the kernel knows a pointer into the arena */
#define cast_kern(pointer)                                                                          \
	asm volatile("r1 = %[p]; .byte 0xbf, 0x11; .short 1; .long 1; %[p] = r1" : [p] "+r"(pointer)::"r1")

struct point {
	__s32 x, y;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY + 31); /* BPF_MAP_TYPE_ARENA */
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 10);
} arena SEC(".maps");

__u64 counter IN_ARENA;
__s64 steps[4] IN_ARENA = { 1, 2, 3, 4 };
struct point place IN_ARENA = { .x = -1, .y = 7 };
char name[8] IN_ARENA = "arena";

SEC("syscall")
int run(void *ctx)
{
	__u64 *count = &counter;
	__s64 *step = steps;
	struct point *where = &place;
	void *map = &arena;

	asm volatile("" ::"r"(map)); /* a program with such pointers has to name the arena */
	cast_kern(count);
	cast_kern(step);
	cast_kern(where);
	*count += step[1];
	step[3] *= 2;
	where->x += where->y;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
