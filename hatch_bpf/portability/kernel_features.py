"""A kernel's BTF -> `KernelFeatures`: what the kernel says of itself there, so that no table of versions is needed.

Input: the full BTF of a vmlinux, or an excerpt of it. Output: which helpers, map types, program types and attach types
it has; whether it has a function, a tracepoint, a kfunc, a kernel variable; and what its verifier can follow, known by
the fields that came with it. Distributions backport BPF into old kernels, so a version says little; the BTF says what
was compiled in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cached_property
from typing import TypeVar

from hatch_bpf.btf import types as t
from hatch_bpf.btf.reader import Btf
from hatch_bpf.core_relo.spec import Spec, essential_name
from hatch_bpf.objects.insns import InsnSet
from hatch_bpf.objects.uapi import MapFlag, MapType, helper, helpers
from hatch_bpf.portability.helper_functions import ALWAYS_THERE, function_of
from hatch_bpf.portability.licenses import GPL_ONLY_HELPERS
from hatch_bpf.verifier.abilities import Verifier

_NAMES = frozenset({
    "bpf_func_id", "bpf_map_type", "bpf_prog_type", "bpf_attach_type", "bpf_reg_state", "bpf_map_ops", "bpf_map",
    "bpf_func_info_aux", "bpf_prog_aux", "bpf_prog", "bpf_kfunc", "btf_trace_sched_switch", "bpf_prog_load",
    "bpf_check", "check_stack_range_initialized", "bpf_insn_aux_data", "bpf_ringbuf", "ftrace_ops",
    "bpf_verifier_state", "bpf_stack_slot_type", "is_branch_taken", "sanitize_err", "btf_vmlinux_init",
    "btf_vmlinux_read", "bpf_msg_pop_data", "lirc_prog_attach", *ALWAYS_THERE,
})  # fmt: skip
"""Names that are looked up in nearly every kernel."""


_KTIME_GET_NS, _RINGBUF_OUTPUT, _MSG_POP_DATA = map(helper, ("ktime_get_ns", "ringbuf_output", "msg_pop_data"))
_SPIN_LOCKS = helpers("spin_lock spin_unlock")
_MOST_NEAR = 256
"""Limit on the missing fields for which a similar name is looked for: where more are missing, it is no typo."""
_MOST_NEAR_NAMES = 32
"""The same limit for functions and tracepoints: each takes a search through all of the kernel's names."""
_GLOBAL_DATA = ("bpf_map_ops", "map_direct_value_addr")
_MAP_FLAGS: Mapping[int, tuple[str, str]] = {
    MapFlag.STACK_BUILD_ID: ("bpf_stack_build_id", "build_id"),  # Linux 4.17
    MapFlag.RDONLY_PROG: _GLOBAL_DATA,  # Linux 5.2
    MapFlag.WRONLY_PROG: _GLOBAL_DATA,
    MapFlag.MMAPABLE: ("bpf_map_ops", "map_mmap"),  # Linux 5.5
    MapFlag.PRESERVE_ELEMS: ("bpf_map_ops", "map_meta_equal"),  # Linux 5.10
    MapFlag.INNER_MAP: ("bpf_map_ops", "map_meta_equal"),
    MapFlag.RB_OVERWRITE: ("bpf_ringbuf", "overwrite_mode"),  # Linux 6.19
}
"""Flags of maps, and what came with them. Flags that are as old as their type of map are not here."""
_MAP_FLAG_FUNCTIONS: Mapping[int, str] = {
    MapFlag.ZERO_SEED: "bpf_msg_pop_data",  # Linux 5.0; el8's 4.18 has both, openEuler's 4.19 neither
    MapFlag.CLONE: "bpf_sk_storage_clone",  # Linux 5.4
}
"""The same for flags that came with a function instead of a member."""


_One = TypeVar("_One")
_MAX_NESTING = 16
"""How deep anonymous members and arrays are followed; kernels have a few of each."""


def event_class(tracepoint: str) -> str:
    """The kernel's function for an event class; `TRACE_EVENT()` makes one of the tracepoint's own name."""
    return f"trace_event_raw_event_{tracepoint}"


def member_type(btf: Btf, type_id: int) -> str:
    """Kind and size as a text, equal for members of structs that libbpf treats alike in struct_ops maps."""
    _, found = btf.resolve(type_id)
    kind = t.KIND_OF[type(found)].name
    return kind if isinstance(found, t.Ptr) else f"{kind} {btf.size_of(type_id)}"


def _lists(known: frozenset[_One] | None, one: _One) -> bool | None:
    return None if known is None else one in known


def _with_member(struct: str, member: str) -> cached_property[bool]:
    """Whether a kernel has something, known by a member of a struct that came with it or with the same release."""
    return cached_property(lambda features: features.has_member(struct, member))


def _with_helper(name: str) -> cached_property[bool]:
    """The same, known by a helper of the same release where no member tells."""
    return cached_property(lambda features: features.lists_helper(helper(name)) is not False)


class KernelFeatures:
    """Answers about one kernel, read from its BTF on demand.

    None means that this BTF does not say: it has no such enum, or lists no functions at all.
    """

    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self._found: dict[tuple[str, tuple[t.Kind, ...]], list[int]] = {}
        self._members: dict[str, frozenset[int]] = {}
        """String offsets of the names of a struct's members."""
        self._places: dict[str, tuple[range, ...]] = {}
        self._near: dict[Spec | tuple[str, str], str] = {}

    def expect(self, names: Iterable[str]) -> None:
        """Announce the names that will be asked for: the BTF finds many of them in the time of one."""
        self.btf.expect(_NAMES.union(names))

    @cached_property
    def helpers(self) -> frozenset[int] | None:
        """Numbers of the helpers that its `enum bpf_func_id` lists."""
        return self._values("bpf_func_id", "BPF_FUNC_")

    @cached_property
    def map_types(self) -> frozenset[int] | None:
        return self._values("bpf_map_type", "BPF_MAP_TYPE_")

    @cached_property
    def program_types(self) -> frozenset[str] | None:
        """Names of `enum bpf_prog_type`, without BPF_PROG_TYPE_."""
        return self._names("bpf_prog_type", "BPF_PROG_TYPE_")

    @cached_property
    def attach_types(self) -> frozenset[str] | None:
        """Names of `enum bpf_attach_type`."""
        return self._names("bpf_attach_type", "")

    def has_helper(self, number: int) -> bool | None:
        """Whether programs of some type can call a helper; None if nothing tells."""
        listed = self.lists_helper(number)
        if listed and number in _SPIN_LOCKS:
            return self.has_spin_locks
        function = function_of(number)
        if listed and function and self._lists_helper_functions:
            return bool(self._find(function, t.Kind.FUNC))
        return listed

    def lists_helper(self, number: int) -> bool | None:
        """Whether `enum bpf_func_id` lists a helper, which shows the kernel's age even if the helper is left out."""
        return _lists(self.helpers, number)

    @cached_property
    def _lists_helper_functions(self) -> bool:
        return all(self._find(name, t.Kind.FUNC) for name in ALWAYS_THERE)

    def has_map_type(self, number: int) -> bool | None:
        return _lists(self.map_types, number)

    def has_program_type(self, name: str) -> bool | None:
        return _lists(self.program_types, name)

    def has_attach_type(self, name: str) -> bool | None:
        return _lists(self.attach_types, name)

    @cached_property
    def verifier(self) -> Verifier:
        keeps_constants = self.has_loops  # which came with the same release
        # compilers inlined is_branch_taken() while it had one caller, which was until registers counted; old kernels
        # got that in 2021, together with sanitize_err()
        decides_registers = keeps_constants or any(
            self._find(name, t.Kind.FUNC) for name in ("is_branch_taken", "sanitize_err")
        )
        decides_order = decides_registers or (self.has_subprograms and self._follows_speculation)
        return Verifier(
            decides_unequal=decides_order or self.has_subprograms,  # which came with the same release
            decides_order=decides_order,
            decides_registers=decides_registers,
            follows_arithmetic_shifts=self.takes_map_values,  # as here
            follows_xor=self.has_sleepable,  # and here
            follows_spilled_zeros=_lists(self._names("bpf_stack_slot_type", "STACK_"), "ZERO") is not False,
            follows_spills=keeps_constants,
            # no member came with this one, but the helper did with its release; distributions ship both or neither
            follows_small_spills=self._has_helper("BPF_FUNC_kallsyms_lookup_name"),
            follows_immediate_stores=self.has_kfunc_addresses,  # as here
            reads_frozen_maps=self.has_member("bpf_map", "writecnt"),
            checks_globals_alone=self.checks_globals_alone,
            skips_uncalled_globals=self.has_member("bpf_func_info_aux", "called"),
            spares_what_is_read=self._tells_reads_of_stack,
        )

    def is_gpl_only(self, number: int) -> bool:
        """Whether only programs under a license that is compatible with the GPL may call a helper."""
        # bpf_ktime_get_ns() was for them alone until Linux 5.8, which brought ring buffers
        return number in GPL_ONLY_HELPERS or (number == _KTIME_GET_NS and self.lists_helper(_RINGBUF_OUTPUT) is False)

    def has_insns(self, insns: InsnSet) -> bool:
        """Whether the kernel knows a set of instructions."""
        # nothing that BTF shows came with any of them; each of these came with the same release
        match insns:
            case InsnSet.SHIFT32:  # Linux 5.0
                return self.has_helper(_MSG_POP_DATA) is not False
            case InsnSet.JUMP32:  # Linux 5.1
                return self.has_spin_locks
            case InsnSet.ATOMIC:  # Linux 5.12
                return self.has_variable_stack
            case InsnSet.V4:  # Linux 6.6
                return self.has_attach_type("BPF_TRACE_UPROBE_MULTI") is not False
            case InsnSet.MAY_GOTO:  # Linux 6.9
                return self.has_map_type(MapType.ARENA) is not False
            case InsnSet.ACQUIRE_RELEASE:  # Linux 6.15
                return self.has_member("bpf_insn_aux_data", "live_regs_before")

    has_loops = _with_member("bpf_reg_state", "precise")
    """Whether a program may have loops (Linux 5.3)."""

    has_long_programs = _with_member(*_GLOBAL_DATA)
    """Whether a program may have more than 4096 instructions (Linux 5.2)."""

    def has_tail_calls_beside_subprograms(self, arch: str) -> bool:
        """Whether a program that has subprograms may do tail calls (Linux 5.10; on arm64 6.0)."""
        return self.has_member("bpf_prog_aux", "tail_call_reachable") and (arch != "arm64" or self._is_linux_6_0)

    def has_trampolines(self, arch: str, *, of_functions: bool) -> bool:
        """Whether BPF code can be called in place of functions: the kernel's own, or those of BPF programs.

        That is more than to load such a program: arm64 knows it from Linux 6.4 on, of BPF programs from 6.0 on.
        """
        if arch != "arm64":
            return True
        return self.has_member("ftrace_ops", "direct_call") if of_functions else self._is_linux_6_0

    @property
    def _is_linux_6_0(self) -> bool:
        return self.has_attach_type("BPF_LSM_CGROUP") is not False

    @cached_property
    def has_global_pointers(self) -> bool:
        """Whether a global function may have pointers as arguments, other than the context (Linux 5.12)."""
        return not self.checks_globals_alone or self.has_variable_stack  # which came with the same release

    checks_globals_alone = _with_member("bpf_func_info_aux", "linkage")
    """Whether it checks a global function by itself, apart from its callers (Linux 5.6)."""

    is_beyond_6_18 = _with_member(*_MAP_FLAGS[MapFlag.RB_OVERWRITE])
    """Whether it is newer than Linux 6.18, from which some rules were read; it may have dropped them."""

    @cached_property
    def has_subprograms(self) -> bool:
        """Whether a program may call functions of its own (Linux 4.16)."""
        return not self.lacks_member("bpf_prog_aux", "func_cnt")

    @cached_property
    def has_spin_locks(self) -> bool:
        """Whether maps may have spin locks (Linux 5.1).

        That it lists their helpers proves nothing: openEuler's 4.19 has the header of a newer kernel.
        """
        # the member moved to another struct later, in kernels that have all that came with 5.3
        return not self.lacks_member("bpf_verifier_state", "active_spin_lock") or self.has_loops

    @cached_property
    def reads_parts_of_context(self) -> bool:
        """Whether a program may read any bytes of a field of its context, not only the first ones (Linux 5.0)."""
        # no member came with it, but this helper did with the same release; big-endian kernels wanted the last bytes
        return self.has_helper(_MSG_POP_DATA) is not False or self.btf.endian == "big"

    takes_map_values = _with_helper("get_stack")
    """Whether helpers take keys and values of maps from the value of a map (Linux 4.18)."""

    has_variable_stack = _with_helper("check_mtu")
    """Whether a program may read and write its stack at an offset that varies (Linux 5.12)."""

    @property
    def spills_reserved_space(self) -> bool:
        """Whether the address of space in a ring buffer may be kept on the stack (an update of Linux 5.10)."""
        # no member came with it; sleepable programs came with the same release
        return self.has_sleepable

    has_variable_buffers = _with_member(*_GLOBAL_DATA)
    """Whether a helper may be given a place on the stack at an offset that varies (Linux 5.2)."""

    _follows_speculation = _with_member("bpf_verifier_state", "speculative")
    """Whether it guards against speculation (Linux 5.0). A kernel that does has all that older releases brought."""

    @cached_property
    def is_built_with_btf(self) -> bool:
        """Whether the kernel surely has a BTF of its own (CONFIG_DEBUG_INFO_BTF), seen by others or not.

        A BTF that pahole made of a kernel without one looks the same, but for the functions of kernel/bpf/sysfs_btf.c,
        which is compiled only with it. No is no proof: some BTFs list no static functions (Debian 11's of arm64).
        """
        return any(self.has_function(name) for name in ("btf_vmlinux_init", "btf_vmlinux_read"))

    @cached_property
    def probes_outside_tracing(self) -> bool:
        """Whether programs that are not for tracing may call bpf_probe_read_kernel() and the like (Linux 5.8)."""
        # no member came with it; ring buffers came with the same release
        return self.has_struct("bpf_ringbuf")

    has_global_data = _with_member(*_GLOBAL_DATA)
    """Whether maps can back global variables (Linux 5.2)."""

    has_dots_in_names = _with_member(*_GLOBAL_DATA)  # maps of global variables have the names of sections
    """Whether a map's name may have a dot in it (Linux 5.2), as libbpf's name of an inner map has."""

    has_kfunc_addresses = _with_member("bpf_map_ops", "map_mem_usage")
    """Whether a program may hold a kfunc's address, as bpf_ksym_exists() does (Linux 6.4)."""

    has_xdp_frags = _with_member("bpf_prog_aux", "xdp_has_frags")
    """Whether it takes BPF_F_XDP_HAS_FRAGS (Linux 5.18)."""

    @cached_property
    def has_sleepable(self) -> bool:
        """Whether it takes BPF_F_SLEEPABLE (Linux 5.10)."""
        return self.has_member("bpf_prog_aux", "sleepable") or self.has_member("bpf_prog", "sleepable")

    def has_sleepable_programs(self, program_type: str, attach_type: str) -> bool:
        """Whether programs of this type and attach type may sleep."""
        if not self.has_sleepable:
            return False
        match program_type, attach_type:
            case "KPROBE", _:
                return self._is_linux_6_0
            case "STRUCT_OPS", _:  # Linux 6.3; no member came with it, but this one did soon after
                return self.has_kfunc_addresses
            case ("TRACEPOINT" | "RAW_TRACEPOINT", _) | (_, "BPF_TRACE_RAW_TP"):  # Linux 7.2, as this attach type
                return self.has_attach_type("BPF_TRACE_FENTRY_MULTI") is not False
            case _:
                return True

    has_sleepable_hooks = _with_helper("ima_inode_hash")
    """Whether more than one LSM hook may sleep (Linux 5.11)."""

    def has_map_flag(self, flag: int) -> bool:
        """Whether it knows a flag of maps."""
        if flag in _MAP_FLAG_FUNCTIONS:
            return self.has_function(_MAP_FLAG_FUNCTIONS[flag]) is not False
        member = _MAP_FLAGS.get(flag)
        return member is None or self.has_member(*member)

    def has_wide_values(self, map_type: int) -> bool:
        """Whether values of this type of map may have 8 bytes; at first they held only descriptors of 4 bytes."""
        match map_type:
            case MapType.CPUMAP:  # Linux 5.9
                return self.has_struct("bpf_cpumap_val")
            case MapType.DEVMAP | MapType.DEVMAP_HASH:  # Linux 5.8
                return self.has_struct("bpf_devmap_val")
            case MapType.SOCKMAP | MapType.SOCKHASH:  # Linux 5.7, which also brought LSM programs
                return self.has_program_type("LSM") is not False
            case _:
                return True

    def has_function(self, name: str) -> bool | None:
        """Whether a FUNC has this name; None where the BTF lists no functions."""
        if self._find(name, t.Kind.FUNC):
            return True
        return False if self._lists_functions else None

    def has_tracepoint(self, name: str) -> bool | None:
        """Whether `btf_trace_NAME` is there; None where the BTF lists no tracepoints."""
        if self._find(f"btf_trace_{name}", t.Kind.TYPEDEF):
            return True
        return False if self._lists_tracepoints else None

    def has_event_class(self, name: str) -> bool:
        """Whether the kernel has a tracepoint with its own event class, which a BTF without tracepoints shows too."""
        return bool(self._find(event_class(name), t.Kind.FUNC))

    def near_access(self, spec: Spec) -> str:
        """The kernel's name that is most like a field, an enumerator or a type that it lacks; empty for none."""
        if spec not in self._near and len(self._near) < _MOST_NEAR:
            self._near[spec] = self._near_access(spec)
        return self._near.get(spec, "")

    def _near_access(self, spec: Spec) -> str:
        root = spec.btf[spec.root_type_id]
        name, kind = essential_name(root.name), t.KIND_OF[type(root)]
        found = self._find(name, kind)
        if not found:
            return self._near_name(name, kind, "") if name else ""
        type_id = min(found)
        for step in spec.accessors:
            if step.name is None:
                continue
            members = self._members_within(type_id, 0)
            if step.name not in members:
                return next(iter(get_close_matches(essential_name(step.name), sorted(members), 1, cutoff=0.75)), "")
            type_id = self._behind_arrays(members[step.name])
        return ""

    def _members_within(self, type_id: int, depth: int) -> dict[str, int]:
        """Names of members with their types, including those inside anonymous members; for an enum, its enumerators."""
        _, found = self.btf.resolve(type_id)
        if isinstance(found, t.Enumeration):
            return {value.name: 0 for value in found.values}
        names: dict[str, int] = {}
        for member in self.btf.members(type_id):
            if member.name:
                names[member.name] = member.type_id
            elif depth < _MAX_NESTING:
                names |= self._members_within(member.type_id, depth + 1)
        return names

    def _behind_arrays(self, type_id: int) -> int:
        for _ in range(_MAX_NESTING):
            type_id, found = self.btf.resolve(type_id)
            if not isinstance(found, t.Array):
                break
            type_id = found.type_id
        return type_id

    def near_function(self, name: str, *, prefix: str = "") -> str:
        """The kernel's function whose name, after a prefix, is most like a missing one; empty for none."""
        return self._near_name(name, t.Kind.FUNC, prefix)

    def near_tracepoint(self, name: str) -> str:
        """The same for a tracepoint."""
        return self._near_name(name, t.Kind.TYPEDEF, "btf_trace_")

    def _near_name(self, name: str, kind: t.Kind, prefix: str) -> str:
        key = prefix, name
        if key not in self._near and len(self._near) < _MOST_NEAR_NAMES:
            self._near[key] = self.btf.near(name, kind, prefix=prefix)
        return self._near.get(key, "")

    def arguments(self, name: str) -> int | None:
        """How many arguments a function has, or with its btf_trace_ prefix a tracepoint.

        None where it isn't there, where several of its name differ, or where an argument is a struct, which takes the
        place of several.
        """
        counts = {self._parameters(type_id) for type_id in self._find(name, t.Kind.FUNC, t.Kind.TYPEDEF)}
        return counts.pop() if len(counts) == 1 else None

    def _parameters(self, type_id: int) -> int | None:
        # a tracepoint is a pointer to a function, whose first argument is the tracepoint's own
        hidden = self.btf.kind(type_id) is t.Kind.TYPEDEF
        proto = self.btf.prototype(self.btf.resolve(type_id)[0])
        if proto is None:
            return None
        kinds = [self.btf.resolve(parameter.type_id)[1] for parameter in proto.params]
        return None if any(isinstance(kind, t.Composite) for kind in kinds) else len(kinds) - hidden

    def has_kfunc(self, name: str) -> bool | None:
        """Whether a FUNC has this name and, where the kernel tags its kfuncs, is tagged as one."""
        has_function = self.has_function(name)
        if not has_function or not self._kfunc_ids:
            return has_function
        return any(type_id in self._kfunc_ids for type_id in self._find(name, t.Kind.FUNC))

    def has_variable(self, name: str) -> bool:
        """Whether the BTF has the kernel variable: what a typed ksym needs. BTF lists per-CPU variables only."""
        return bool(self._find(name, t.Kind.VAR))

    def type_of(self, name: str, kind: t.Kind) -> int | None:
        """The id of the type of a kfunc (a FUNC) or a kernel variable (a VAR); None where it isn't there."""
        # libbpf takes the first
        found = self.btf[min(self._find(name, kind), default=0)]
        return found.type_id if isinstance(found, t.Declaration) else None

    def has_struct(self, name: str) -> bool:
        return bool(self._find(name, t.Kind.STRUCT))

    def has_member(self, struct: str, member: str) -> bool:
        """Whether a struct has a member of that name, at its top level."""
        if struct not in self._members:
            # old kernels have many copies of a struct, with the same names
            found = self._find(struct, t.Kind.STRUCT)
            self._members[struct] = frozenset(name for type_id in found for name in self.btf.entry_names(type_id))
        return self.btf.is_among(member, self._members[struct])

    def lacks_member(self, struct: str, member: str) -> bool:
        """Whether the struct is there without the member. False also without the struct, which proves nothing."""
        return self.has_struct(struct) and not self.has_member(struct, member)

    def places_in(self, struct: str) -> tuple[range, ...]:
        """The bytes of each member of a struct; empty where it isn't there."""
        if struct not in self._places:
            starts = ((member.bit_offset // 8, member.type_id) for member in self._members_of(struct))
            self._places[struct] = tuple(range(start, start + self.btf.size_of(type_id)) for start, type_id in starts)
        return self._places[struct]

    def member_type(self, struct: str, member: str) -> str | None:
        """`member_type()` of a struct's member; None where it isn't there."""
        members = self._members_of(struct)
        return next((member_type(self.btf, m.type_id) for m in members if m.name == member), None)

    def _members_of(self, struct: str) -> tuple[t.Member, ...]:
        # libbpf takes the first; old kernels have many copies of a struct
        return self.btf.members(min(self._find(struct, t.Kind.STRUCT), default=0))

    def _find(self, name: str, *kinds: t.Kind) -> list[int]:
        """`Btf.find()`, which searches all names; many programs ask for the same few."""
        key = (name, kinds)
        if key not in self._found:
            self._found[key] = self.btf.find(name, *kinds)
        return self._found[key]

    @cached_property
    def _lists_functions(self) -> bool:
        # every kernel has functions of the BPF system call; their names depend on its age
        names = ("bpf_prog_load", "bpf_check", "map_create", "bpf_prog_select_runtime", "schedule")
        return any(self._find(name, t.Kind.FUNC) for name in names)

    @cached_property
    def _lists_tracepoints(self) -> bool:
        # tracepoints of the scheduler are in every kernel that has any
        return any(self._find(f"btf_trace_{name}", t.Kind.TYPEDEF) for name in ("sched_switch", "sched_wakeup"))

    @cached_property
    def _kfunc_ids(self) -> frozenset[int]:
        """Ids of the FUNCs that carry the declaration tag `bpf_kfunc`, which pahole adds from 1.27 on."""
        tags = (self.btf[type_id] for type_id in self._find("bpf_kfunc", t.Kind.DECL_TAG))
        return frozenset(tag.type_id for tag in tags if isinstance(tag, t.DeclTag))

    @cached_property
    def _tells_reads_of_stack(self) -> bool:
        """Whether the verifier, checking stack memory for a helper, knows if the helper reads or writes it.

        Nothing else in the BTF came with this. A compiler may leave the function out, and then the answer is no.
        """
        for type_id in self._find("check_stack_range_initialized", t.Kind.FUNC):
            proto = self.btf.prototype(type_id)
            if proto is not None:
                return any(self.btf.resolve(p.type_id)[1].name == "bpf_access_type" for p in proto.params)
        return False

    def _has_helper(self, name: str) -> bool:
        found = self._find("bpf_func_id", t.Kind.ENUM, t.Kind.ENUM64)
        return any(self.btf.is_among(name, self.btf.entry_names(type_id)) for type_id in found)

    def _values(self, enum: str, prefix: str) -> frozenset[int] | None:
        """Values of an enum. Its last enumerator (__BPF_FUNC_MAX_ID), which counts the others, has another prefix."""
        found = self._find(enum, t.Kind.ENUM, t.Kind.ENUM64)
        return frozenset(value for type_id in found for value in self.btf.enum_values(type_id, prefix)) or None

    def _names(self, enum: str, prefix: str) -> frozenset[str] | None:
        enums = (self.btf[type_id] for type_id in self._find(enum, t.Kind.ENUM, t.Kind.ENUM64))
        names = (value.name for found in enums if isinstance(found, t.Enumeration) for value in found.values)
        # as above
        own = (name for name in names if name.startswith(prefix) and not name.startswith("__"))
        return frozenset(name.removeprefix(prefix) for name in own) or None
