"""What an object says of its license -> what kernels refuse to its programs.

Input: the text in its section `license`. Output: the licenses that kernels take for compatible with the GPL, and the
helpers that only such programs may call. See the kernel's Documentation/bpf/bpf_licensing.rst.
"""

from __future__ import annotations

from hatch_bpf.objects.uapi import helpers

GPL_COMPATIBLE = frozenset(
    {"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"}
)
"""What license_is_gpl_compatible() takes (include/linux/license.h), letter by letter."""

GPL_ONLY_HELPERS = helpers("""
    probe_read trace_printk perf_event_read perf_event_output get_stackid get_current_task probe_write_user
    probe_read_str perf_event_read_value perf_prog_read_value override_return get_stack fib_lookup
    tcp_check_syncookie tcp_gen_syncookie skb_output probe_read_user probe_read_kernel probe_read_user_str
    probe_read_kernel_str read_branch_records xdp_output seq_printf seq_write seq_printf_btf get_current_task_btf
    check_mtu snprintf timer_init timer_set_callback timer_start timer_cancel get_func_ip task_pt_regs
    get_branch_snapshot trace_vprintk copy_from_user_task tcp_raw_gen_syncookie_ipv4 tcp_raw_gen_syncookie_ipv6
    tcp_raw_check_syncookie_ipv4 tcp_raw_check_syncookie_ipv6
""")
"""Those whose bpf_func_proto is `gpl_only`: they read memory, print, or look into the kernel's own data."""
