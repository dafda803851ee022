"""Which Linux was the first with a type of program or map, for messages. Input: a type's name. Output: `Linux 5.8`.

Whether the running kernel has one is for the kernel to say, since distributions backport. The tests compare the tables
with the BTF of real kernels.
"""

from __future__ import annotations

PROGRAM_TYPES = {
    "CGROUP_DEVICE": (4, 15),
    "SK_MSG": (4, 17),
    "RAW_TRACEPOINT": (4, 17),
    "CGROUP_SOCK_ADDR": (4, 17),
    "LWT_SEG6LOCAL": (4, 18),
    "LIRC_MODE2": (4, 18),
    "SK_REUSEPORT": (4, 19),
    "FLOW_DISSECTOR": (4, 20),
    "CGROUP_SYSCTL": (5, 2),
    "RAW_TRACEPOINT_WRITABLE": (5, 2),
    "CGROUP_SOCKOPT": (5, 3),
    "TRACING": (5, 5),
    "STRUCT_OPS": (5, 6),
    "EXT": (5, 6),
    "LSM": (5, 7),
    "SK_LOOKUP": (5, 9),
    "SYSCALL": (5, 14),
    "NETFILTER": (6, 4),
}
"""Of `enum bpf_prog_type`, without BPF_PROG_TYPE_. What is older than all kernels that libbpf supports is not here."""

MAP_TYPES = {
    "CPUMAP": (4, 15),
    "XSKMAP": (4, 18),
    "SOCKHASH": (4, 18),
    "CGROUP_STORAGE": (4, 19),
    "REUSEPORT_SOCKARRAY": (4, 19),
    "PERCPU_CGROUP_STORAGE": (4, 20),
    "QUEUE": (4, 20),
    "STACK": (4, 20),
    "SK_STORAGE": (5, 2),
    "DEVMAP_HASH": (5, 4),
    "STRUCT_OPS": (5, 6),
    "RINGBUF": (5, 8),
    "INODE_STORAGE": (5, 10),
    "TASK_STORAGE": (5, 11),
    "BLOOM_FILTER": (5, 16),
    "USER_RINGBUF": (6, 1),
    "CGRP_STORAGE": (6, 2),
    "ARENA": (6, 9),
}
"""Of `enum bpf_map_type`, without BPF_MAP_TYPE_."""


def unknown(kind: str, tables: dict[str, tuple[int, int]]) -> str:
    """`which this kernel does not know: it came with Linux 5.8`, the latter as far as it is known."""
    since = tables.get(kind)
    return "which this kernel does not know" + (f": it came with Linux {since[0]}.{since[1]}" if since else "")
