"""Which function in a kernel's BTF shows that the kernel has a helper.

Input: a helper's number. Output: the name of the function behind it. `enum bpf_func_id` alone is no proof:
distributions backport its header, and leave helpers out by configuration. openEuler's 4.19 lists 115 helpers and lacks
29 of them.
"""

from __future__ import annotations

from hatch_bpf.objects.uapi import helper_name, helpers

_WITHOUT = helpers("""
    unspec get_prandom_u32 tail_call redirect_map override_return fib_lookup rc_repeat rc_keydown rc_pointer_rel
    sk_select_reuseport probe_read probe_read_str skb_output xdp_output setsockopt getsockopt lwt_push_encap
    load_hdr_opt store_hdr_opt reserve_hdr_opt check_mtu get_func_ip get_func_arg get_func_ret get_func_arg_cnt
    get_netns_cookie get_attach_cookie get_stackid spin_lock spin_unlock
""")
"""Helpers whose function has another name, or one for each program type, on some kernels; that of spin locks may not be
traced, so that some versions of pahole leave it out."""

ALWAYS_THERE = ("bpf_map_lookup_elem", "bpf_skb_store_bytes", "bpf_get_current_task")
"""Functions of old helpers, one from each place where the kernel keeps them: the core, the network, and tracing. A BTF
that lacks one leaves out all of its place, since some versions of pahole list only what can be traced."""


def function_of(number: int) -> str:
    """`bpf_sk_lookup_tcp`; empty where no one function shows that a kernel has the helper."""
    name = helper_name(number)
    return name if number not in _WITHOUT and name.startswith("bpf_") else ""
