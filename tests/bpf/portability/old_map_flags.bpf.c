/* Maps with flags that every kernel since 5.10 knows. */
#include "cases.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, long);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
} values SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, long);
	__uint(map_flags, BPF_F_RDONLY_PROG);
} constants SEC(".maps");

CASE(loads__beside_the_maps) { return 0; }
