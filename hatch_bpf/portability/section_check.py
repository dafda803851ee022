"""A program's section name against a kernel: program type, flags, attach type and attach target.

Input: a program, what its section name means to libbpf, and the kernel's features. Output: reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches

from hatch_bpf.objects.model import Function
from hatch_bpf.portability import reasons as because
from hatch_bpf.portability.kernel_features import KernelFeatures, event_class
from hatch_bpf.portability.verdicts import Reason, ReasonKind, Weight
from hatch_bpf.runtime.sections import (
    BTF_PREFIX,
    WITHOUT_ATTACH_TYPE,
    AttachTypeUse,
    ProgramSection,
    Target,
    section_patterns,
)

_OLDEST = (1, 0)
"""The oldest libbpf that a program is expected to be loaded with; 0.x is no longer maintained."""
_FIRST_SLEEPABLE_HOOK = "bprm_committed_creds"
_MAKE_OPTIONAL = 'make the program optional with SEC("?...")'


def check_section(
    program: Function,
    section: ProgramSection | None,
    features: KernelFeatures,
    arch: str,
    libbpf: tuple[int, int] | None = None,
) -> Iterator[Reason]:
    """Program type, flags, attach type and attach target, as the section name has them, against a kernel.

    `libbpf` is the version that loads the program; None if any may.
    """
    if section is None:
        yield _unknown(program)
        return
    kind = f'SEC("{section.name}")'
    if section.since > (libbpf or _OLDEST):
        yield because.libbpf_too_old(section.since, kind, libbpf)
    is_unset = section.target_kind in BTF_PREFIX and not section.target
    if is_unset or section.target_kind == Target.BPF_PROGRAM:
        what = f"the application has to say what {kind} attaches to, before the load"
        if not is_unset:
            what = f"the application has to say in which program {kind} replaces a function, before the load"
        yield Reason(ReasonKind.ATTACH_TARGET_UNSET, Weight.CONDITIONAL, what, on_any_kernel=True)
    lacking = ""
    if features.has_program_type(section.program_type) is False:
        lacking = "this kernel does not know"
    elif section.program_type == "LIRC_MODE2" and features.has_function("lirc_prog_attach") is False:
        lacking = "this kernel was built without (CONFIG_BPF_LIRC_MODE2)"
    if lacking:
        what = f"{kind} is a BPF_PROG_TYPE_{section.program_type}, which {lacking}"
        yield Reason(ReasonKind.PROGRAM_TYPE_MISSING, Weight.FAILS, what, _alternative(section))
        return
    if section.needs_kernel_btf:
        yield Reason(ReasonKind.KERNEL_BTF, Weight.KERNEL_BTF, f"{kind} needs the kernel's own BTF")
    yield from _flags(kind, section, features)
    yield from _attach_type(kind, section, features)
    yield from _trampoline(kind, section, features, arch)
    yield from _target(kind, section, features)


def _unknown(program: Function) -> Reason:
    what = f'libbpf knows no program type for SEC("{program.section_def}")'
    if program.section_def == ".text":
        what = f"{program.name}() has no SEC(), so it is no program"
    near = get_close_matches(program.section_def.split("/")[0], {name.rstrip("+") for name in section_patterns()}, 1)
    remedy = (
        f'did you mean SEC("{"/".join([*near, *program.section_def.split("/")[1:]])}")?'
        if near
        else ('use one of libbpf\'s section names, such as SEC("xdp") or SEC("kprobe/FUNCTION")')
    )
    return Reason(ReasonKind.SECTION_UNKNOWN, Weight.FAILS, what, remedy, on_any_kernel=True)


def _alternative(section: ProgramSection) -> str:
    match section.target_kind:
        case Target.BTF_FUNCTION:
            return f"provide a kprobe/{section.target} program for it" if section.target else "provide a kprobe for it"
        case Target.BTF_FUNCTIONS:
            return f"provide a kprobe.multi/{section.target or 'PATTERN'} program for it"
        case Target.BTF_TRACEPOINT:
            return f"provide a raw_tp/{section.target} program for it"
        case _:
            return _MAKE_OPTIONAL


def _flags(kind: str, section: ProgramSection, features: KernelFeatures) -> Iterator[Reason]:
    missing = unsaid = ""
    is_lsm, is_btf_tracepoint = section.program_type == "LSM", section.target_kind == Target.BTF_TRACEPOINT
    if section.xdp_frags and not features.has_xdp_frags:
        missing = "needs BPF_F_XDP_HAS_FRAGS, which this kernel does not know"
    elif section.sleepable and not features.has_sleepable_programs(section.program_type, section.attach_type):
        missing = "is sleepable, and this kernel is too old for that"
    elif section.sleepable and is_lsm and section.target != _FIRST_SLEEPABLE_HOOK and not features.has_sleepable_hooks:
        missing = f"is sleepable, and the only hook of this kernel that may sleep is {_FIRST_SLEEPABLE_HOOK}"
    elif section.attach_type == "BPF_MODIFY_RETURN":
        unsaid = "loads only if its target allows error injection or is a security hook, which BTF does not say"
    elif section.sleepable and section.target_kind in _LISTED_TARGETS:
        may = "is one of those that may sleep" if is_lsm else "allows error injection"
        unsaid = f"loads only if its target {may}, which BTF does not say"
    elif section.sleepable and section.target_kind == Target.BTF_FUNCTIONS:
        unsaid = "attaches only if all these functions allow error injection, which BTF does not say"
    elif section.sleepable and (section.program_type in _TRACEPOINTS or is_btf_tracepoint):
        then = "loads" if is_btf_tracepoint else "attaches"
        unsaid = f"{then} only if its tracepoint may sleep, as those of system calls may; BTF does not say which"
    if missing:
        yield Reason(ReasonKind.PROGRAM_FLAG_MISSING, Weight.FAILS, f"{kind} {missing}", _MAKE_OPTIONAL)
    if unsaid:
        yield Reason(ReasonKind.ATTACH_TARGET_UNKNOWN, Weight.NOTE, f"{kind} {unsaid}")


_TRACEPOINTS = ("TRACEPOINT", "RAW_TRACEPOINT")
_LISTED_TARGETS = (Target.BTF_FUNCTION, Target.LSM_HOOK)
"""Kinds of targets of which only some let sleepable programs attach."""


def _trampoline(kind: str, section: ProgramSection, features: KernelFeatures, arch: str) -> Iterator[Reason]:
    of_functions = section.target_kind in (Target.BTF_FUNCTION, Target.BTF_FUNCTIONS, Target.LSM_HOOK)
    if not of_functions and section.target_kind not in (Target.BPF_PROGRAM, Target.STRUCT_OPS):
        return
    if not features.has_trampolines(arch, of_functions=of_functions):
        what = f"{kind} can never be attached: on {arch} this kernel cannot call such programs"
        yield Reason(ReasonKind.ATTACH_UNSUPPORTED, Weight.CANNOT_ATTACH, what, _alternative(section))


def _attach_type(kind: str, section: ProgramSection, features: KernelFeatures) -> Iterator[Reason]:
    use = section.attach_type_use
    if use in (AttachTypeUse.NONE, AttachTypeUse.OPTIONAL):
        return
    is_unknown = features.has_attach_type(section.attach_type) is False
    if use != AttachTypeUse.CALL and features.lacks_member("bpf_prog", "expected_attach_type"):
        what = f"{kind} is loaded for an attach type, and this kernel loads no program for one"
        plain = WITHOUT_ATTACH_TYPE.get(section.name)
        remedy = f'write SEC("{plain}")' if plain else _alternative(section)
        yield Reason(ReasonKind.ATTACH_TYPE_MISSING, Weight.FAILS, what, remedy)
    elif is_unknown and use != AttachTypeUse.IGNORED:
        weight, then = Weight.FAILS, "so it does not load"
        if use != AttachTypeUse.LOAD:
            weight, then = Weight.CANNOT_ATTACH, "so it loads but can never be attached"
        what = f"{kind} attaches as {section.attach_type}, which this kernel does not know, {then}"
        yield Reason(ReasonKind.ATTACH_TYPE_MISSING, weight, what, _alternative(section))


def _target(kind: str, section: ProgramSection, features: KernelFeatures) -> Iterator[Reason]:
    target = section.target
    if not target:
        return
    if section.target_kind in BTF_PREFIX:
        yield from _btf_target(kind, section, features)
    elif section.target_kind == Target.RAW_TRACEPOINT:
        yield from _listed_tracepoint(kind, target, features)
    elif section.program_type == "TRACEPOINT":
        yield from _tracepoint(kind, section, features)
    elif section.target_kind == Target.FUNCTION:
        function = re.split(r"[+:]", target)[0]
        # `name.isra.0` and the like are made by the compiler; BTF lists only what the source has
        names = function, _BEFORE_WRAPPERS.format(function.removeprefix("sys_"))
        if "." not in function and all(features.has_function(name) is False for name in names):
            what = (
                f"{kind}: this kernel's BTF has no function {function}, so the attach fails "
                "unless a module has it or it is written in assembly"
            )
            yield _unknown_target(what, features.near_function(function))
    elif section.target_kind == Target.SYSCALL:
        yield from _probed_syscall(kind, section, features)


def _unknown_target(what: str, nearest: str) -> Reason:
    return Reason(ReasonKind.ATTACH_TARGET_UNKNOWN, Weight.CONDITIONAL, what, nearest=nearest)


def _unknown_syscall(kind: str, call: str, nearest: str) -> Reason:
    # pahole leaves out a few functions, perf_event_open()'s for example
    what = f"{kind}: this kernel's BTF has no function for the system call {call}, so the attach may fail"
    return _unknown_target(what, nearest)


def _probed_syscall(kind: str, section: ProgramSection, features: KernelFeatures) -> Iterator[Reason]:
    call = section.target
    if not _has_syscall(call, features):
        yield _unknown_syscall(kind, call, _near_syscall(call, features))
    elif all(features.has_function(pattern.format(call)) is False for pattern in _SINCE_WRAPPERS):
        what = f"{kind} can never be attached: libbpf finds system calls by the names that they have since Linux 4.17"
        probe = section.name.partition("/")[0].replace("syscall", "probe")
        yield _never_attached(what, f'write SEC("{probe}/sys_{call}") for this kernel', "")


def _listed_tracepoint(kind: str, name: str, features: KernelFeatures) -> Iterator[Reason]:
    is_there = features.has_tracepoint(name)
    if is_there is None and not features.has_event_class(name):
        what = f"{kind}: this BTF does not say whether the kernel has the tracepoint {name}"
        yield Reason(ReasonKind.ATTACH_TARGET_UNKNOWN, Weight.NOTE, what)
    elif is_there is False:
        what = f"{kind}: this kernel has no tracepoint {name}, so the attach fails unless a module has it"
        yield _unknown_target(what, features.near_tracepoint(name))


def _tracepoint(kind: str, section: ProgramSection, features: KernelFeatures) -> Iterator[Reason]:
    """A target of SEC("tp/CATEGORY/NAME"), which is looked up at attach."""
    category, slash, name = section.target.partition("/")
    if not slash:
        what = f"{kind} names no category of tracepoints, so it can never be attached"
        remedy = f'write SEC("tp/CATEGORY/{category}"); the category is its folder in /sys/kernel/tracing/events'
        near = features.near_tracepoint(category) if features.has_tracepoint(category) is False else ""
        yield replace(_never_attached(what, remedy, near), on_any_kernel=True)
    elif category == "syscalls":
        call = re.sub("^sys_(enter|exit)_", "", name)
        if not _has_syscall(call, features):
            near = _near_syscall(call, features)
            yield _unknown_syscall(kind, call, near and name.replace(call, near))
    elif category in _BUILT_IN and features.has_tracepoint(name) is False:
        what = f"{kind} can never be attached: this kernel has no tracepoint {section.target}"
        yield _never_attached(what, _MAKE_OPTIONAL, features.near_tracepoint(name))
    else:
        yield from _listed_tracepoint(kind, name, features)


def _never_attached(what: str, remedy: str, nearest: str) -> Reason:
    return Reason(ReasonKind.ATTACH_TARGET_MISSING, Weight.CANNOT_ATTACH, what, remedy, nearest=nearest)


_BUILT_IN = frozenset({
    "sched", "raw_syscalls", "task", "signal", "irq", "irq_vectors", "timer", "workqueue", "exceptions", "kmem",
    "vmscan", "oom", "writeback", "filemap", "block", "net", "napi", "skb", "sock", "tcp", "udp", "power", "rcu",
    "cgroup", "printk", "module", "mmap", "migrate", "compaction", "page_isolation", "percpu", "rpm", "qdisc",
})  # fmt: skip
"""Categories of tracepoints that cannot be in a module."""


def _has_syscall(name: str, features: KernelFeatures) -> bool:
    return any(features.has_function(function) is not False for function in _syscall_names(name))


def _near_syscall(name: str, features: KernelFeatures) -> str:
    prefixes = (pattern.format("") for pattern in _SYSCALL_NAMES)
    return next(filter(None, (features.near_function(name, prefix=prefix) for prefix in prefixes)), "")


def names_of_target(section: ProgramSection) -> Iterator[str]:
    """Names under which a kernel's BTF may have the target."""
    category, _, name = section.target.rpartition("/")
    if section.program_type == "TRACEPOINT" and category == "syscalls":
        yield from _syscall_names(re.sub("^sys_(enter|exit)_", "", name))
    elif section.program_type == "TRACEPOINT" or section.target_kind == Target.RAW_TRACEPOINT:
        yield from (BTF_PREFIX[Target.BTF_TRACEPOINT] + name, event_class(name))
    elif section.target_kind == Target.SYSCALL:
        yield from _syscall_names(section.target)
    elif section.target_kind == Target.FUNCTION:
        yield from (section.target, _BEFORE_WRAPPERS.format(section.target.removeprefix("sys_")))
    else:
        yield BTF_PREFIX.get(section.target_kind, "") + section.target


def _syscall_names(call: str) -> Iterator[str]:
    return (pattern.format(call) for pattern in _SYSCALL_NAMES)


_SINCE_WRAPPERS = (
    "__x64_sys_{}",
    "__arm64_sys_{}",
    "__s390x_sys_{}",
    "__riscv_sys_{}",
    "__se_sys_{}",
    "__do_sys_{}",
)
_BEFORE_WRAPPERS = "SyS_{}"
"""The function for which `sys_NAME` is an alias."""
_SYSCALL_NAMES = (*_SINCE_WRAPPERS, "sys_{}", _BEFORE_WRAPPERS)


def _btf_target(kind: str, section: ProgramSection, features: KernelFeatures) -> Iterator[Reason]:
    """Targets that libbpf looks up in the BTF of the kernel and its modules while it loads the program."""
    name = BTF_PREFIX[section.target_kind] + section.target
    if section.module:
        what = f"{kind}: only the running kernel can tell whether module {section.module} has {section.target}"
        yield Reason(ReasonKind.ATTACH_TARGET_UNKNOWN, Weight.NOTE, what)
        return
    is_tracepoint = section.target_kind == Target.BTF_TRACEPOINT
    # such programs need the typedefs, so a BTF without any belongs to a kernel without such programs
    is_there = bool(features.has_tracepoint(section.target)) if is_tracepoint else features.has_function(name)
    if is_there is None:
        what = f"{kind}: this BTF does not say whether the kernel has {name}"
        yield Reason(ReasonKind.ATTACH_TARGET_UNKNOWN, Weight.NOTE, what)
    elif not is_there:
        what = f"{kind}: this kernel's BTF has no {name} (a module may define it)"
        nearest = features.near_tracepoint(section.target) if is_tracepoint else features.near_function(name)
        nearest = nearest.removeprefix(BTF_PREFIX[section.target_kind])
        yield Reason(ReasonKind.ATTACH_TARGET_MISSING, Weight.FAILS, what, _alternative(section), nearest=nearest)
