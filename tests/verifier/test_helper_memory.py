"""Which helpers read or fill memory: the numbers of the tables, by the names of the kernel."""

from __future__ import annotations

from hatch_bpf.objects.uapi import helper_name
from hatch_bpf.verifier.helper_memory import BUFFERS, READING_HELPERS


def test_helpers_that_take_sizes_are_the_ones_that_are_meant() -> None:
    names = sorted(map(helper_name, BUFFERS))
    assert names == [
        "bpf_get_current_comm",
        "bpf_get_stack",
        "bpf_perf_event_output",
        "bpf_probe_read",
        "bpf_probe_read_kernel",
        "bpf_probe_read_kernel_str",
        "bpf_probe_read_str",
        "bpf_probe_read_user",
        "bpf_probe_read_user_str",
        "bpf_read_branch_records",
        "bpf_ringbuf_output",
        "bpf_skb_load_bytes",
        "bpf_skb_store_bytes",
        "bpf_trace_printk",
    ]


def test_helpers_that_only_read_are_the_ones_that_are_meant() -> None:
    names = sorted(helper_name(number) for number in READING_HELPERS)
    assert names == [
        "bpf_map_delete_elem",
        "bpf_map_lookup_elem",
        "bpf_map_push_elem",
        "bpf_map_update_elem",
        "bpf_perf_event_output",
        "bpf_ringbuf_output",
        "bpf_trace_printk",
    ]
