/* Instructions that not every kernel knows. Some are refused wherever they are, some where the verifier comes to them.
 * Names without a verdict: it is another one on old kernels. */
#include "cases.h"

enum bpf_attach_type___new { BPF_TRACE_UPROBE_MULTI___new = 48 };

static const volatile bool never;
long counter;

#define HAS_V4 bpf_core_enum_value_exists(enum bpf_attach_type___new, BPF_TRACE_UPROBE_MULTI___new)
/* r0 = (s8)r0; r0 s/= r0, where r0 is not 0; r0 = bswap64 r0 */
#define MOVSX asm volatile(".quad 0x00000000000800bf" ::: "r0")
#define SDIV asm volatile("r0 = 1; .quad 0x000000000001003f" ::: "r0")
#define BSWAP asm volatile("r0 = 1; .quad 0x00000040000000d7" ::: "r0")
/* r0 = *(s8 *)(r10 - 8); r0 = load_acquire((u64 *)(r10 - 8)); may_goto +1, r0 = 0 */
#define LDSX asm volatile("r0 = 0; *(u64 *)(r10 - 8) = r0; .quad 0x00000000fff8a091" ::: "r0")
#define LOAD_ACQUIRE asm volatile("r0 = 0; *(u64 *)(r10 - 8) = r0; .quad 0x00000100fff8a0db" ::: "r0")
#define MAY_GOTO asm volatile(".quad 0x00000000000100e5; r0 = 0" ::: "r0")
/* r0 = atomic_fetch_add((u64 *)(r10 - 8), r0); r0 = cmpxchg((u64 *)(r10 - 8), r0, r0) */
#define FETCHING_ADDITION asm volatile("r0 = 0; *(u64 *)(r10 - 8) = r0; .quad 0x00000001fff80adb" ::: "r0")
#define COMPARE_AND_EXCHANGE asm volatile("r0 = 0; *(u64 *)(r10 - 8) = r0; .quad 0x000000f1fff80adb" ::: "r0")

CASE(sign_extending_move) { bpf_get_prandom_u32(); MOVSX; return 0; }
CASE(signed_division) { SDIV; return 0; }
CASE(byte_swap) { BSWAP; return 0; }
CASE(sign_extending_load) { LDSX; return 0; }
CASE(load_acquire) { LOAD_ACQUIRE; return 0; }
CASE(may_goto) { MAY_GOTO; return 0; }

/* opcodes that old kernels know too, so that a guard helps */
CASE(loads__guarded_sign_extending_move)
{
	if (HAS_V4) {
		bpf_get_prandom_u32();
		MOVSX;
	}
	return 0;
}

CASE(loads__guarded_signed_division) { if (HAS_V4) SDIV; return 0; }
CASE(load_acquire_in_dead_code) { if (never) LOAD_ACQUIRE; return 0; }

/* and those that they do not */
CASE(guarded_byte_swap) { if (HAS_V4) BSWAP; return 0; }
CASE(guarded_sign_extending_load) { if (HAS_V4) LDSX; return 0; }
CASE(may_goto_in_dead_code) { if (never) MAY_GOTO; return 0; }

CASE(fetching_addition) { FETCHING_ADDITION; return 0; }
CASE(fetching_addition_in_dead_code) { if (never) FETCHING_ADDITION; return 0; }
CASE(compare_and_exchange) { COMPARE_AND_EXCHANGE; return 0; }
CASE(loads__plain_addition) { __sync_fetch_and_add(&counter, 1); return 0; }
CASE(loads__jump_of_32_bits) { return (int)bpf_get_prandom_u32() < -5; }
