/* Maps whose kernel side lists empty slots as keys, and per-CPU values that hold numbers in every way. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum level {
	LOW = 1,
	HIGH = 2,
};

union number {
	__u32 whole;
	float real;
};

struct part {
	__u32 count;
	__u64 slots[2];
};

struct record {
	__u64 count;
	__u32 slots[3];
	struct part part;
	struct part parts[2];
	__int128 wide;
	__u32 bits : 4;
	__s32 signed_bits : 6;
	enum level level;
	_Bool on;
	double real;
	char name[4];
	__u8 mac[3];
	union number number;
	struct {
		__u16 inner;
	};
};

struct { __uint(type, BPF_MAP_TYPE_DEVMAP); __uint(max_entries, 4); __type(key, __u32); __type(value, __u32); } devices SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_SOCKMAP); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); } sockets SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct record); } records SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64[3]); } histograms SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, unsigned __int128); } totals SEC(".maps");

char _license[] SEC("license") = "GPL";
