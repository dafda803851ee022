"""A program's accesses of its context -> those that a kernel refuses: no such field, or none for such a program.

Input: the type of a program, and where it loads from its context or stores there. Output: the slots that the kernel's
verifier refuses as `invalid bpf_context access`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.objects.insns import Class
from hatch_bpf.objects.linked_program import LinkedProgram
from hatch_bpf.portability import reasons as because
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.portability.verdicts import Reason
from hatch_bpf.runtime.sections import ProgramSection

CONTEXTS: Mapping[str, str] = {
    **dict.fromkeys(("SOCKET_FILTER", "SCHED_CLS", "SCHED_ACT", "CGROUP_SKB", "SK_SKB", "FLOW_DISSECTOR"), "__sk_buff"),
    **dict.fromkeys(("LWT_IN", "LWT_OUT", "LWT_XMIT", "LWT_SEG6LOCAL"), "__sk_buff"),
    "XDP": "xdp_md",
    "CGROUP_SOCK": "bpf_sock",
    "CGROUP_SOCK_ADDR": "bpf_sock_addr",
    "SOCK_OPS": "bpf_sock_ops",
    "SK_MSG": "sk_msg_md",
    "SK_REUSEPORT": "sk_reuseport_md",
    "SK_LOOKUP": "bpf_sk_lookup",
    "CGROUP_DEVICE": "bpf_cgroup_dev_ctx",
    "CGROUP_SYSCTL": "bpf_sysctl",
    "CGROUP_SOCKOPT": "bpf_sockopt",
    "PERF_EVENT": "bpf_perf_event_data",
    "KPROBE": "pt_regs",
}
"""By the name of a program type, the struct whose fields are its context."""

_CAME_WITH: Mapping[str, tuple[str, Mapping[str, range]]] = {
    "xdp_md": ("xdp_buff", {"rxq": range(12, 20), "txq": range(20, 24)}),  # Linux 4.16 and 5.8
    "sk_reuseport_md": ("sk_reuseport_kern", {"migrating_sk": range(40, 56)}),  # Linux 5.14
}
"""Contexts that are missing in old kernels' BTF, because nothing there has their type: a struct that the kernel uses
itself, and the bytes of the context that came with its members."""
_WITHOUT_HOLES = frozenset({"__sk_buff"})
"""Structs in which no kernel lets a program read between fields. In others some may be read, for older headers."""


_READ_IN_PARTS = frozenset({"__sk_buff", "bpf_sock", "bpf_sock_addr", "bpf_cgroup_dev_ctx", "bpf_perf_event_data"})
"""Structs in which a program may read a part of a field: until Linux 5.0 only its first bytes."""
_SCALAR_SIZES = (4, 8)
_ARGUMENTS: Mapping[str, range] = {
    "TRACEPOINT": range(8, 8192),  # behind the fields that all of them have, up to PERF_MAX_TRACE_SIZE
    "RAW_TRACEPOINT": range(12 * 8),  # MAX_BPF_FUNC_ARGS
}
"""Types of programs whose context is no struct -> the bytes that at least one kernel lets them read."""
_RIGHTS_OF_SKB = ("sk_filter_is_valid_access", "cg_skb_is_valid_access")
"""Functions that say what socket filters and programs of cgroups may access; some BTFs list neither."""
_OF_SOCKETS = "family remote_ip4 local_ip4 remote_ip6 local_ip6 remote_port local_port"
_OF_FILTERS = f"tc_classid data data_end data_meta flow_keys tstamp wire_len tstamp_type hwtstamp {_OF_SOCKETS}"
_OF_TUNNELS = f"tc_classid data_meta flow_keys tstamp wire_len tstamp_type hwtstamp {_OF_SOCKETS}"
_TUNNELS = ("LWT_IN", "LWT_OUT", "LWT_XMIT", "LWT_SEG6LOCAL")
_4, _6 = "user_ip6 msg_src_ip4 msg_src_ip6", "user_ip4 msg_src_ip4 msg_src_ip6"
_INET_HOOKS = ("INET{}_BIND", "INET{}_CONNECT", "UDP{}_RECVMSG", "INET{}_GETPEERNAME", "INET{}_GETSOCKNAME")
_DISSECTOR = "bpf_flow_dissector"
"""The struct that flow dissectors work on since Linux 5.2, no longer a `struct sk_buff`."""
_UNREADABLE: Mapping[str, frozenset[str]] = {
    name: frozenset(fields.split())
    for name, fields in {
        "SOCKET_FILTER": _OF_FILTERS,
        "SCHED_CLS": f"flow_keys {_OF_SOCKETS}",
        "SCHED_ACT": f"flow_keys {_OF_SOCKETS}",
        "CGROUP_SKB": "tc_classid data_meta flow_keys wire_len tstamp_type",
        "SK_SKB": "mark tc_classid data_meta flow_keys tstamp wire_len tstamp_type hwtstamp",
        "FLOW_DISSECTOR": f"tc_classid data_meta tstamp wire_len {_OF_SOCKETS}",
        _DISSECTOR: """
            len pkt_type mark queue_mapping protocol vlan_present vlan_tci vlan_proto priority ingress_ifindex ifindex
            tc_index cb hash napi_id gso_segs sk gso_size tstamp_type hwtstamp
        """,
        **dict.fromkeys(_TUNNELS, _OF_TUNNELS),
        "BPF_XDP": "egress_ifindex",
        "BPF_XDP_CPUMAP": "egress_ifindex",
        "BPF_CGROUP_SETSOCKOPT": "retval",
        "BPF_CGROUP_INET_SOCK_CREATE": "src_ip4 src_ip6 src_port",
        "BPF_CGROUP_INET_SOCK_RELEASE": "src_ip4 src_ip6 src_port",
        "BPF_CGROUP_INET4_POST_BIND": "bound_dev_if mark priority src_ip6",
        "BPF_CGROUP_INET6_POST_BIND": "bound_dev_if mark priority src_ip4",
        "BPF_CGROUP_UDP4_SENDMSG": "user_ip6 msg_src_ip6",
        "BPF_CGROUP_UDP6_SENDMSG": "user_ip4 msg_src_ip4",
        **{f"BPF_CGROUP_{hook.format(4)}": _4 for hook in _INET_HOOKS},
        **{f"BPF_CGROUP_{hook.format(6)}": _6 for hook in _INET_HOOKS},
    }.items()
}
"""By attach type or program type, the fields that no kernel lets such a program read, nor write."""
_WRITABLE: Mapping[str, frozenset[str]] = {
    name: frozenset(fields.split())
    for name, fields in {
        "SOCKET_FILTER": "cb",
        "SCHED_CLS": "mark queue_mapping priority tc_index cb tc_classid tstamp",
        "SCHED_ACT": "mark queue_mapping priority tc_index cb tc_classid tstamp",
        "CGROUP_SKB": "mark priority cb tstamp",
        "SK_SKB": "priority tc_index",
        "FLOW_DISSECTOR": "cb",
        **dict.fromkeys(_TUNNELS, "mark priority cb"),
        "SOCK_OPS": "args reply replylong sk_txhash",
        "CGROUP_SYSCTL": "file_pos",
        "BPF_CGROUP_GETSOCKOPT": "optlen retval",
        "BPF_CGROUP_SETSOCKOPT": "level optname optlen",
        "CGROUP_SOCK": "bound_dev_if mark priority",
        "CGROUP_SOCK_ADDR": "user_ip4 user_ip6 user_port msg_src_ip4 msg_src_ip6",
        **dict.fromkeys(("PERF_EVENT", "KPROBE", "SK_MSG", "CGROUP_DEVICE", "SK_LOOKUP", "SK_REUSEPORT"), ""),
    }.items()
}
"""By attach type or program type, the fields that at least one kernel lets it write. Those not listed may write all."""


def accessed_fields(
    linked: LinkedProgram, btf: Btf, accesses: Iterable[int], section: ProgramSection | None
) -> dict[int, str]:
    """What an object calls the fields of its context that it accesses at these slots; empty where it declares none."""
    struct = _struct_of(section)
    return {slot: _field_at(btf, struct, linked.insns[slot].off) if struct else "" for slot in accesses}


def refused_context_accesses(
    linked: LinkedProgram,
    accesses: Mapping[int, str],
    relocated: Container[int],
    section: ProgramSection | None,
    features: KernelFeatures,
) -> dict[int, Reason]:
    """Those of the `accessed_fields()` of a program's context, as it was given, that a kernel refuses, by slot.

    `relocated` slots cannot miss a field: libbpf poisons them then.
    """
    struct = _struct_of(section)
    found: dict[int, Reason] = {}
    if section is not None and section.program_type in _ARGUMENTS:
        return _outside_arguments(linked, accesses, relocated, section)
    if section is None or not struct:
        return found
    unreadable, writable = _rights(section, features)
    for slot, field in accesses.items():
        insn = linked.insns[slot]
        is_write = insn.cls is not Class.LDX
        name = f"{struct}.{field}" if field else f"byte {insn.off} of {struct}"
        if slot not in relocated and not _has_byte(struct, insn.off, features):
            found[slot] = because.context_field_missing(name)
        elif (field and field in unreadable) or (
            is_write and writable is not None and field not in writable and (field or not writable)
        ):
            found[slot] = because.context_field_refused(section, name, is_write=is_write)
        elif slot not in relocated and not is_write and not _is_read_from_start(struct, insn.off, features):
            found[slot] = because.context_part_refused(name if field else struct)
    return found


def _outside_arguments(
    linked: LinkedProgram, accesses: Iterable[int], relocated: Container[int], section: ProgramSection
) -> dict[int, Reason]:
    """Writes, and reads outside of the context. Relocated reads are left out: where they lead differs by kernel."""
    there = _ARGUMENTS[section.program_type]
    found = {}
    for slot in accesses:
        insn = linked.insns[slot]
        is_write = insn.cls is not Class.LDX
        if is_write or (insn.off not in there and slot not in relocated):
            found[slot] = because.context_field_refused(section, f"byte {insn.off} of its context", is_write=is_write)
    return found


def _rights(section: ProgramSection, features: KernelFeatures) -> tuple[frozenset[str], frozenset[str] | None]:
    """The fields that a kernel lets a program neither read nor write, and those it may write; None for all others."""
    kind = section.program_type
    if kind == "CGROUP_SKB" and [features.has_function(name) for name in _RIGHTS_OF_SKB] == [True, False]:
        kind = "SOCKET_FILTER"  # they had the same rights until Linux 5.0
    unreadable = _UNREADABLE.get(kind, frozenset()) | _UNREADABLE.get(section.attach_type, frozenset())
    if kind == "FLOW_DISSECTOR" and features.has_struct(_DISSECTOR):
        unreadable |= _UNREADABLE[_DISSECTOR]
    writable = _WRITABLE.get(section.attach_type) or _WRITABLE.get(kind)
    if writable is not None and not features.has_spin_locks:
        writable -= {"queue_mapping"}  # which came with the same release
    return unreadable, writable


def _struct_of(section: ProgramSection | None) -> str:
    return CONTEXTS.get(section.program_type, "") if section is not None else ""


_OF_PACKETS = frozenset({"data", "data_end", "data_meta"})
"""Fields that are pointers into a packet, although they have the size of a number."""
_WITHOUT_POINTERS = frozenset({"KPROBE", "PERF_EVENT", "TRACEPOINT"})
"""Types of programs whose context holds nothing that a verifier takes for a pointer."""


def packet_fields(accesses: Mapping[int, str]) -> frozenset[int]:
    """Those of the slots with these `accessed_fields()` that read a pointer to a packet."""
    return frozenset(slot for slot, field in accesses.items() if field in _OF_PACKETS)


def has_numbers_only(section: ProgramSection | None) -> bool:
    """Whether a program's context holds no pointer of any kind, as registers of a traced function."""
    return section is not None and section.program_type in _WITHOUT_POINTERS


def names_of_context(section: ProgramSection | None) -> Iterator[str]:
    """Names to look up in a kernel to check a program's accesses of its context."""
    struct = _struct_of(section)
    if struct:
        yield struct
    if struct in _CAME_WITH:
        yield _CAME_WITH[struct][0]
    if section is not None and section.program_type == "CGROUP_SKB":
        yield from _RIGHTS_OF_SKB
    if section is not None and section.program_type == "FLOW_DISSECTOR":
        yield _DISSECTOR


def _has_byte(struct: str, offset: int, features: KernelFeatures) -> bool:
    """Whether there is a field at an offset of a kernel's context; true also where its BTF does not say."""
    places = features.places_in(struct)
    if places:
        return any(offset in place for place in places) or (struct not in _WITHOUT_HOLES and offset < places[-1].stop)
    own, members = _CAME_WITH.get(struct, ("", {}))
    return not any(offset in place and features.lacks_member(own, name) for name, place in members.items())


def _is_read_from_start(struct: str, offset: int, features: KernelFeatures) -> bool:
    """Whether a load begins where a field does, or the kernel does not mind."""
    if struct not in _READ_IN_PARTS or features.reads_parts_of_context:
        return True
    scalars = (place for place in features.places_in(struct) if len(place) in _SCALAR_SIZES)
    return not any(offset in place and offset != place.start for place in scalars)


def _field_at(btf: Btf, struct: str, offset: int) -> str:
    """`hwtstamp`: the field at an offset in bytes, if an object declares the struct; else empty."""
    return next(filter(None, (_member_at(btf, found, offset) for found in btf.find(struct, t.Kind.STRUCT))), "")


def _member_at(btf: Btf, type_id: int, offset: int) -> str:
    for member in btf.members(type_id):
        start = member.bit_offset // 8
        if start <= offset < start + btf.size_of(member.type_id):
            # the first of an anonymous union is what it was made for; the rest is padding
            return member.name or _member_at(btf, member.type_id, offset - start)
    return ""
