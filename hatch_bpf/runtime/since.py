"""Which Linux was the first with a type of program, map or attachment, or a flag, for messages.

Input: a name or a number. Output: `Linux 5.8`, in words that fit behind the name.

Whether the running kernel has one is for the kernel to say, since distributions backport. The tests compare the tables
with the BTF of real kernels.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

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
"""Names in `enum bpf_prog_type`, without BPF_PROG_TYPE_, but for those that every kernel supported by libbpf has."""

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
"""Names in `enum bpf_map_type`, without BPF_MAP_TYPE_."""

ATTACH_TYPES = {
    **{f"BPF_CGROUP_INET{family}_{call}": (4, 17) for family in "46" for call in ("BIND", "CONNECT", "POST_BIND")},
    **{f"BPF_CGROUP_UDP{family}_SENDMSG": (4, 18) for family in "46"},
    "BPF_LIRC_MODE2": (4, 18),
    "BPF_FLOW_DISSECTOR": (4, 20),
    "BPF_CGROUP_SYSCTL": (5, 2),
    **{f"BPF_CGROUP_UDP{family}_RECVMSG": (5, 2) for family in "46"},
    "BPF_CGROUP_GETSOCKOPT": (5, 3),
    "BPF_CGROUP_SETSOCKOPT": (5, 3),
    "BPF_TRACE_RAW_TP": (5, 5),
    "BPF_TRACE_FENTRY": (5, 5),
    "BPF_TRACE_FEXIT": (5, 5),
    "BPF_MODIFY_RETURN": (5, 7),
    "BPF_LSM_MAC": (5, 7),
    "BPF_TRACE_ITER": (5, 8),
    **{f"BPF_CGROUP_INET{family}_{call}": (5, 8) for family in "46" for call in ("GETPEERNAME", "GETSOCKNAME")},
    "BPF_XDP_DEVMAP": (5, 8),
    "BPF_CGROUP_INET_SOCK_RELEASE": (5, 9),
    "BPF_XDP_CPUMAP": (5, 9),
    "BPF_SK_LOOKUP": (5, 9),
    "BPF_SK_SKB_VERDICT": (5, 13),
    "BPF_SK_REUSEPORT_SELECT_OR_MIGRATE": (5, 14),
    "BPF_TRACE_KPROBE_MULTI": (5, 18),
    "BPF_LSM_CGROUP": (6, 0),
    "BPF_NETFILTER": (6, 4),
    "BPF_TCX_INGRESS": (6, 6),
    "BPF_TCX_EGRESS": (6, 6),
    "BPF_TRACE_UPROBE_MULTI": (6, 6),
    **{f"BPF_CGROUP_UNIX_{call}": (6, 7) for call in ("CONNECT", "SENDMSG", "RECVMSG", "GETPEERNAME", "GETSOCKNAME")},
    "BPF_NETKIT_PRIMARY": (6, 7),
    "BPF_NETKIT_PEER": (6, 7),
    "BPF_TRACE_KPROBE_SESSION": (6, 10),
    "BPF_TRACE_UPROBE_SESSION": (6, 13),
}
"""Names in `enum bpf_attach_type`."""

MAP_FLAGS = {
    1 << 3: ("BPF_F_RDONLY", (4, 15)),
    1 << 4: ("BPF_F_WRONLY", (4, 15)),
    1 << 5: ("BPF_F_STACK_BUILD_ID", (4, 17)),
    1 << 6: ("BPF_F_ZERO_SEED", (5, 0)),
    1 << 7: ("BPF_F_RDONLY_PROG", (5, 2)),
    1 << 8: ("BPF_F_WRONLY_PROG", (5, 2)),
    1 << 9: ("BPF_F_CLONE", (5, 4)),
    1 << 10: ("BPF_F_MMAPABLE", (5, 5)),
    1 << 11: ("BPF_F_PRESERVE_ELEMS", (5, 10)),
    1 << 12: ("BPF_F_INNER_MAP", (5, 10)),
    1 << 19: ("BPF_F_RB_OVERWRITE", (6, 19)),
}
"""Flags of maps that an application may define: their names and first Linux."""

WIDE_VALUES = {"SOCKMAP": (5, 7), "SOCKHASH": (5, 7), "DEVMAP": (5, 8), "DEVMAP_HASH": (5, 8), "CPUMAP": (5, 9)}
"""Types of maps that take values of 8 bytes since this Linux, and took only 4 bytes before."""

XDP_FRAGS = (5, 18)
EXPECTED_ATTACH_TYPES = (4, 17)
"""Programs that are loaded for an attach type."""


def sleepable(program_type: str, attach_type: str) -> Optional[tuple[int, int]]:
    """The first Linux where programs of this type may sleep; None if it is not known."""
    if attach_type == "BPF_TRACE_ITER":
        return (5, 16)
    return {"TRACING": (5, 10), "LSM": (5, 10), "KPROBE": (6, 0), "STRUCT_OPS": (6, 3)}.get(program_type)


def unknown(kind: str, tables: dict[str, tuple[int, int]]) -> str:
    """`which this kernel does not know: it came with Linux 5.8`, the latter as far as it is known."""
    since = tables.get(kind)
    return "which this kernel does not know" + (f": it came with {linux(since)}" if since else "")


def too_old(since: Optional[tuple[int, int]]) -> str:
    """`which this kernel may be too old for: it came with Linux 5.8`, the latter as far as it is known."""
    return "which this kernel may be too old for" + (f": it came with {linux(since)}" if since else "")


def linux(since: tuple[int, int]) -> str:
    """`Linux 5.8`."""
    return f"Linux {since[0]}.{since[1]}"
