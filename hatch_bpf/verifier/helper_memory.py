"""What helpers do with the memory that they are given, and what they return: facts of the kernel's prototypes."""

from __future__ import annotations

from collections.abc import Mapping

from hatch_bpf.objects.uapi import helper, helpers

READING_HELPERS = helpers("""
    map_lookup_elem map_update_elem map_delete_elem trace_printk perf_event_output map_push_elem ringbuf_output
""")
"""Helpers that only read the memory they are given. Any other may write to the stack."""
MAP_LOOKUP = helper("map_lookup_elem")
KEYS_AND_VALUES: Mapping[int, tuple[int, ...]] = {
    MAP_LOOKUP: (2,),
    helper("map_update_elem"): (2, 3),
    helper("map_delete_elem"): (2,),
}
"""By helper, the registers that hold the address of a map's key, and of its value."""
GET_STACK = helper("get_stack")
RESERVE = helper("ringbuf_reserve")
SUBMIT = helpers("ringbuf_submit ringbuf_discard")
FILLED = helpers("""
    probe_read probe_read_str probe_read_user probe_read_user_str probe_read_kernel probe_read_kernel_str
    get_current_comm skb_load_bytes
""")
"""Helpers that fill their buffer with what no verifier knows."""
BUFFERS: Mapping[int, int] = {
    **dict.fromkeys(helpers("probe_read probe_read_str probe_read_user probe_read_user_str get_current_comm"), 1),
    **dict.fromkeys(helpers("probe_read_kernel probe_read_kernel_str trace_printk"), 1),
    **dict.fromkeys(helpers("ringbuf_output read_branch_records get_stack"), 2),
    **dict.fromkeys(helpers("skb_load_bytes skb_store_bytes"), 3),
    helper("perf_event_output"): 4,
}
"""By helper, the register that holds the address of its buffer. The next one holds the size; no other register does."""
NEVER_EMPTY = helpers("skb_load_bytes skb_store_bytes get_current_comm trace_printk")
"""Helpers whose buffer must have at least one byte (ARG_CONST_SIZE)."""
ANY_NUMBER = FILLED | helpers("""
    map_update_elem map_delete_elem ktime_get_ns get_prandom_u32 get_current_pid_tgid get_current_uid_gid
    get_current_cgroup_id get_socket_cookie get_socket_uid get_hash_recalc get_cgroup_classid jiffies64
    perf_event_output skb_store_bytes skb_ecn_set_ce setsockopt getsockopt
    sock_ops_cb_flags_set
""")
"""Helpers that return a number that old verifiers know nothing about; newer ones know limits for some."""
