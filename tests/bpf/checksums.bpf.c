/* Records of several lengths, each with a sum over it, into a ring buffer that is too small for them. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct head {
	__u64 number;
	__u32 pid;
	__u32 words;
	__u64 sum;
};

struct record {
	struct head head;
	__u64 words[];
};

struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 12); } records SEC(".maps");

struct record *unused_record __attribute__((unused));

__u32 pids[2];
__u64 numbers[2];
__u64 submitted;
__u64 discarded;
__u64 lost;
__u64 too_long;

static __always_inline void fill(struct head *head, __u64 *words, int count, __u64 number, __u32 pid)
{
	__u64 sum = number ^ pid;

	head->number = number;
	head->pid = pid;
	head->words = count;
	for (int i = 0; i < count; i++) {
		words[i] = (number + 1) * 0x9E3779B97F4A7C15ULL + i * pid;
		sum = (sum << 1 | sum >> 63) + words[i];
	}
	head->sum = sum;
}

#define EMIT(COUNT)                                                                                     \
	do {                                                                                            \
		struct { struct head head; __u64 words[COUNT]; } *place;                                \
		place = bpf_ringbuf_reserve(&records, sizeof(*place), 0);                               \
		if (!place) {                                                                           \
			__sync_fetch_and_add(&lost, 1);                                                 \
		} else {                                                                                \
			fill(&place->head, place->words, COUNT, number, pid);                           \
			if (number % 7 == 3) {                                                          \
				place->head.sum = 0;                                                    \
				__sync_fetch_and_add(&discarded, 1);                                    \
				bpf_ringbuf_discard(place, 0);                                          \
			} else {                                                                        \
				__sync_fetch_and_add(&submitted, 1);                                    \
				bpf_ringbuf_submit(place, 0);                                           \
			}                                                                               \
		}                                                                                       \
	} while (0)

SEC("tp/syscalls/sys_enter_getppid")
int emit(void *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	int slot = pid == pids[0] ? 0 : 1;
	__u64 number;
	void *place;

	if (pid != pids[slot])
		return 0;
	number = numbers[slot]++;
	switch (number % 4) {
	case 0: EMIT(1); break;
	case 1: EMIT(2); break;
	case 2: EMIT(9); break;
	default: EMIT(60); break;
	}
	/* more than the ring has */
	if (number % 100 == 0) {
		place = bpf_ringbuf_reserve(&records, 1 << 13, 0);
		if (!place)
			__sync_fetch_and_add(&too_long, 1);
		else
			bpf_ringbuf_submit(place, 0);
	}
	return 0;
}

char _license[] SEC("license") = "GPL";
