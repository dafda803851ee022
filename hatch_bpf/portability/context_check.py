"""A program's accesses of its context -> those that a kernel refuses, because its context has no such field.

Input: the type of a program, and where it loads from its context or stores there. Output: the slots that the kernel's
verifier refuses as `invalid bpf_context access`. Accesses with a CO-RE relocation are none of these: libbpf finds the
field, or poisons the access.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.objects.linked_program import LinkedProgram
from hatch_bpf.portability.kernel_features import KernelFeatures
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

_XDP_FIELDS = {"rxq": range(12, 20), "txq": range(20, 24)}
"""Members of `struct xdp_buff`, and the bytes of `struct xdp_md` that came with them (Linux 4.16 and 5.8). Old kernels'
BTF lacks the latter, since nothing in them has its type."""
_WITHOUT_HOLES = frozenset({"__sk_buff"})
"""Structs between whose fields a kernel lets no program read. In others it lets some, for programs of older headers."""


def refused_accesses(
    linked: LinkedProgram, slots: Iterable[int], section: ProgramSection | None, features: KernelFeatures
) -> dict[int, int]:
    """Those of `slots`, which access the context as it was given, that a kernel refuses; with the offset in bytes."""
    struct = _struct_of(section)
    offsets = {slot: linked.insns[slot].off for slot in slots} if struct else {}
    return {slot: offset for slot, offset in offsets.items() if not _has_byte(struct, offset, features)}


def _struct_of(section: ProgramSection | None) -> str:
    return CONTEXTS.get(section.program_type, "") if section is not None else ""


def names_of_context(section: ProgramSection | None) -> Iterator[str]:
    """Structs that a kernel is asked for about a program's context."""
    struct = _struct_of(section)
    if struct:
        yield struct
    if struct == "xdp_md":
        yield "xdp_buff"


def _has_byte(struct: str, offset: int, features: KernelFeatures) -> bool:
    """Whether there is a field at an offset of a kernel's context; true also where its BTF does not say."""
    places = features.places_in(struct)
    if places:
        return any(offset in place for place in places) or (struct not in _WITHOUT_HOLES and offset < places[-1].stop)
    if struct == "xdp_md":
        came_with = (name for name, place in _XDP_FIELDS.items() if offset in place)
        return not any(features.lacks_member("xdp_buff", name) for name in came_with)
    return True


def field_of(btf: Btf, section: ProgramSection | None, offset: int) -> str:
    """The field of a program's context at an offset in bytes, as its object declares it: `__sk_buff.hwtstamp`."""
    struct = _struct_of(section)
    for type_id in btf.find(struct, t.Kind.STRUCT):
        name = _member_at(btf, type_id, offset)
        if name:
            return f"{struct}.{name}"
    return f"byte {offset} of {struct}"


def _member_at(btf: Btf, type_id: int, offset: int) -> str:
    _, found = btf.resolve(type_id)
    for member in found.members if isinstance(found, (t.Struct, t.Union)) else ():
        start = member.bit_offset // 8
        if start <= offset < start + btf.size_of(member.type_id):
            # the first of an anonymous union is what it was made for; the rest is padding
            return member.name or _member_at(btf, member.type_id, offset - start)
    return ""
