"""What a program has to return: the kernel's check_return_code() as a table.

Input: a program's section and a kernel's features; a program's instructions. Output: the values that the kernel's
verifier takes, and whether the program may return others, so that only few programs need to be walked for it. Where
versions differ and BTF does not tell them apart, the table has what the most lenient one takes.
"""

from __future__ import annotations

from collections.abc import Mapping

from hatch_bpf.objects.insns import AluOp, Class, Insn
from hatch_bpf.portability.kernel_features import KernelFeatures
from hatch_bpf.runtime.sections import ProgramSection
from hatch_bpf.verifier.code import Code
from hatch_bpf.verifier.facts import is_allowed

_ZERO, _ONE, _ZERO_OR_ONE, _UP_TO_3 = range(1), range(1, 2), range(2), range(4)
_BY_TYPE: Mapping[str, range] = dict.fromkeys(
    (
        "CGROUP_SKB", "CGROUP_SOCK", "CGROUP_SOCK_ADDR", "CGROUP_DEVICE", "CGROUP_SYSCTL", "CGROUP_SOCKOPT",
        "SOCK_OPS", "SK_LOOKUP", "NETFILTER",
    ),
    _ZERO_OR_ONE,
)  # fmt: skip
"""Types of programs that may return only these values, on every kernel that has them."""
_BY_ATTACH_TYPE: Mapping[str, range] = {
    **dict.fromkeys(("BPF_CGROUP_UDP4_RECVMSG", "BPF_CGROUP_UDP6_RECVMSG", "BPF_CGROUP_UNIX_RECVMSG"), _ONE),
    **{
        f"BPF_CGROUP_{family}_{call}": _ONE
        for family in ("INET4", "INET6", "UNIX")
        for call in ("GETPEERNAME", "GETSOCKNAME")
    },
    "BPF_TRACE_ITER": _ZERO_OR_ONE,
}
"""The same for attach types."""
_EGRESS = "BPF_CGROUP_INET_EGRESS"
_BINDS = ("BPF_CGROUP_INET4_BIND", "BPF_CGROUP_INET6_BIND")
_RUN_SOCK_ADDR = "__cgroup_bpf_run_filter_sock_addr"
_TRAMPOLINES = ("BPF_TRACE_FENTRY", "BPF_TRACE_FEXIT")


def allowed_returns(section: ProgramSection | None, features: KernelFeatures) -> range | None:
    """What programs of a section may return on a kernel; None if that is not known, or anything."""
    if section is None:
        return None
    attach_type = section.attach_type
    if attach_type == _EGRESS and not features.lacks_member("bpf_prog", "enforce_expected_attach_type"):
        return _UP_TO_3  # Linux 5.3
    if attach_type in _BINDS and features.arguments(_RUN_SOCK_ADDR) != 4:
        return _UP_TO_3  # Linux 5.12, whose function has a fifth argument for the second bit
    if attach_type in _TRAMPOLINES:
        # Linux 5.8, which also brought iterators
        return _ZERO if features.has_attach_type("BPF_TRACE_ITER") else None
    return _BY_ATTACH_TYPE.get(attach_type) or _BY_TYPE.get(section.program_type)


def may_return_others(code: Code, allowed: range) -> bool:
    """Whether a program may return what is not allowed; the walk says whether it does."""
    linked, live = code.linked, code.live
    own = enumerate(linked.insns[: code.end])
    return any(slot in linked.calls or (live[slot + 1] & 1 and _may_set(insn, allowed)) for slot, insn in own)


def _may_set(insn: Insn, allowed: range) -> bool:
    """Whether an instruction may leave in r0 what is not allowed."""
    if insn.is_call:
        return True
    if insn.dst or insn.cls not in (Class.ALU, Class.ALU64, Class.LDX, Class.LD):
        return False
    if insn.cls in (Class.ALU, Class.ALU64) and insn.op == AluOp.MOV and not insn.uses_register:
        return not is_allowed(insn.imm, allowed)
    return True
