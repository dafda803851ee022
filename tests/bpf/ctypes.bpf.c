/* Every kind of C type that a skeleton declares. */
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

enum state { STATE_IDLE, STATE_BUSY = 5, STATE_GONE = -1 };
enum access { ACCESS_READ = 1, ACCESS_WRITE = 2, ACCESS_EXEC = 4 };
typedef enum { COLOR_RED, COLOR_BLUE } color_t;
enum awkward { None, True_ = 2, name, mro, __concealed, _sunder_ };

struct bits {
	char first;
	__u32 wide : 23;
	__s32 negative : 5;
	enum state state : 4;
	__u32 : 0;
	__u64 far : 40, near : 24;
	__u8 last : 1;
};

struct packed {
	__u8 a;
	__u64 b;
	__u16 c[3];
} __attribute__((packed));

union address {
	__u32 v4;
	__u8 v6[16];
	struct { __u16 low, high; } halves;
};

struct keywords {
	int from, import, class, def, self;
	int __class__, _fields_, to_dict, __private;
	enum awkward None;
};

/* a member named like a type, and types used after it */
struct point { __s16 x, y; };
struct shadow {
	struct point point;
	struct point others[2];
	union address address;
	union address previous;
	enum state state;
	enum state states[3];
};

struct everything {
	bool yes;
	char letter;
	signed char small;
	__u64 aligned;
	__int128 huge;
	float half;
	double whole;
	void *pointer;
	int (*function)(int);
	char text[12];
	__u8 mac[6];
	char words[2][8];
	__u32 matrix[2][3];
	enum access access;
	color_t color;
	union { __u32 number; struct { __u8 tag; __u32 flag : 3; union { __u16 deep; char deeper[2]; }; }; };
	struct { __u16 inner; } named;
	struct bits bits;
	struct packed packed;
	struct {} nothing;
	struct point points[2];
};

struct flexible {
	__u32 count;
	struct point items[];
};

struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, struct everything); __type(value, struct shadow); } event SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } point SEC(".maps");
/* what the runtime calls something of its own */
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); } _by_name SEC(".maps");

struct keywords keywords;
struct flexible *unused_flexible __attribute__((unused));
struct bits bits = { .wide = 5, .negative = -3, .state = STATE_BUSY, .far = 0x123456789a, .near = 77, .last = 1 };

SEC("raw_tp/sys_enter")
int lambda(void *ctx)
{
	bits.near++;
	keywords.class++;
	return 0;
}

char _license[] SEC("license") = "GPL";
