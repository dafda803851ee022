/* A map with a flag that only new kernels know: nothing of its object loads on others. */
#include "cases.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__uint(map_flags, 1 << 19); /* BPF_F_RB_OVERWRITE */
} events SEC(".maps");

CASE(beside_the_map) { return 0; }
