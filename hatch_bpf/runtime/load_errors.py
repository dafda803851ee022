"""What went wrong in bpf_object__load(), by libbpf's messages. Input: these lines. Output: the error to raise.

A kernel answers EINVAL, and nothing more, to a type of program or map that it does not know, so libbpf tries the type.
"""

from __future__ import annotations

import errno
import os

from . import privileges
from .errors import LoadError, VerifierError, permission_denied, reason, tail
from .handle import LOG_LINES
from .host import kernel as _kernel
from .libbpf.messages import verifier_logs, without_optional_btf
from .maps.shapes import is_autocreated, refused_map
from .sections import WITHOUT_ATTACH_TYPE, AttachTypeUse, Target, libbpf_since, parse_section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from .errors import BpfError
    from .handle import ObjectHandle
    from .libbpf.library import Libbpf
    from .spec import ObjectSpec, ProgramSpec

VERIFIER_LINES = 20
"""How many lines of the verifier's log an error quotes; the exception has all of them."""
_UNKNOWN_ADDRESS = "unrecognized bpf_ld_imm64 insn"
"""What a verifier says about an address of a kind that it does not know."""
_UNKNOWN_HELPER, _OTHERS_HELPER = "invalid func unknown#", "unknown func bpf_"
"""What it says about a helper that is newer than the kernel, and about one that programs of this type can't call."""


def check_libbpf_is_new_enough(spec: ObjectSpec, libbpf: Libbpf, lines: list[str]) -> None:
    """Raise `LibbpfTooOldError` where the load failed over what a later libbpf knows: a section, or kinds of BTF."""
    if os.path.exists(_kernel.KERNEL_BTF) and any("Error loading vmlinux BTF" in line for line in lines):
        # 64-bit enums came with Linux 6.0 and libbpf 1.0
        libbpf.require((1, 0), f"{spec.source}: reading the BTF of a kernel from 6.0 on")
    for name in (line.split("'")[-2] for line in lines if "missing BPF prog type" in line and line.count("'") > 1):
        libbpf.require(libbpf_since(name), f"{spec.source}: SEC({name!r})")


def load_error(
    held: ObjectHandle, spec: ObjectSpec, code: int, lines: list[str], loading: Sequence[ProgramSpec]
) -> BpfError:
    """What went wrong in bpf_object__load(), from libbpf's messages. `loading` are the programs that it was to load."""
    log = "\n".join(lines)
    for program, verifier_log in verifier_logs(lines):
        shown = [line for line in verifier_log.split("\n") if line.strip()]
        hint = privileges.narrows_verifier()
        if "non-GPL compatible program" in verifier_log:
            hint = 'The object says no license that is compatible with the GPL: char LICENSE[] SEC("license") = "GPL";'
        elif _UNKNOWN_ADDRESS in verifier_log and _lacks_globals(held, spec):
            hint = (
                "The program uses a global variable, and this kernel has none: they came with Linux 5.2. Keep the "
                "value in an array map"
            )
        elif _UNKNOWN_HELPER in verifier_log:
            hint = (
                "This kernel does not have the helper of this number in enum bpf_func_id: leave the program out "
                "here (autoload, or the option `optional`), or guard the call with bpf_core_enum_value_exists()"
            )
        elif _OTHERS_HELPER in verifier_log and not hint:  # a kernel that is locked down says the same
            hint = "This kernel lets no program of this type call the helper: call it in one of another type"
        return VerifierError(
            f"{spec.source}: the kernel rejects program {program}: {reason(code)}; the end of the verifier's log:\n"
            f"{tail(shown, VERIFIER_LINES)}" + (f"\n{hint}" if hint else ""),
            errno=code,
            log=log,
            program=program,
            verifier_log=verifier_log,
        )
    said = without_optional_btf(lines)
    if code in (errno.EPERM, errno.EACCES):
        sections = [program.section for program in loading]
        action = f"{spec.source} can't be loaded"
        if held.token:
            from .libbpf.tokens import token_in_words  # few packages have one

            action += f" {token_in_words(held.token)}"
        return permission_denied(action, errno=code, lines=said, sections=sections)
    message = f"{spec.source} can't be loaded: {reason(code)}\n{tail(said, LOG_LINES)}"
    hints = refusals_without_words(held, spec, code, lines, [program.name for program in loading])
    hints += [*_of_configuration(lines), *_needing_kernel_btf(loading)]
    return LoadError("\n".join([message, *hints]), errno=code, log=log)


def refusals_without_words(
    held: ObjectHandle, spec: ObjectSpec, code: int, lines: Sequence[str], programs: Collection[str]
) -> list[str]:
    """Explain the maps, and those of the named programs, that the kernel refused by EINVAL alone."""
    if code != errno.EINVAL:
        return []
    hints = []
    for name in (item.name for item in spec.maps if _has_line(lines, f"map '{item.name}': failed to create: ")):
        if _has_line(lines, f"map '{name}': failed to create inner map: "):
            hints.append(
                f"libbpf names the inner map of {name} `{name}.inner`, and before Linux 5.2 no name has a dot: turn "
                "off the map's autocreate there, or declare no inner map"
            )
        else:
            hints.append(f"map {name} is {refused_map(held.libbpf, held.find_map(name))}")
    for program in (program for program in spec.programs if program.name in programs):
        if _has_line(lines, f"prog '{program.name}': BPF program load failed: "):
            hints += filter(None, [_refused_program(held.libbpf, program)])
        if _has_line(lines, f"prog '{program.name}': no BTF-based attach target"):
            hints.append(
                f"name it before the load: programs.{program.name}.set_attach_target(...) of what open() returned"
            )
    return hints


def _of_configuration(lines: Sequence[str]) -> list[str]:
    """What libbpf did not find in the kernel's configuration."""
    if any("failed to open system Kconfig" in line for line in lines):
        return [
            "The object reads the kernel's configuration, and there is neither /proc/config.gz nor "
            f"/boot/config-{os.uname().release}: install that file"
        ]
    options = [line.split("'")[1] for line in lines if "(strong): not resolved" in line and line.count("'") > 1]
    unset = [option for option in options if option.startswith("CONFIG_")]
    return [f"This kernel's configuration does not set {option}: declare it __weak" for option in unset]


def _lacks_globals(held: ObjectHandle, spec: ObjectSpec) -> bool:
    """Whether libbpf left out the maps of global variables, as from 1.4 on it does where the kernel has none."""
    return not all(is_autocreated(held.libbpf, held.find_map(section.map_name)) for section in spec.sections)


def _has_line(lines: Sequence[str], start: str) -> bool:
    return any(line.startswith(start) for line in lines)


def _refused_program(libbpf: Libbpf, program: ProgramSpec) -> str:
    """That the kernel does not know a program's type, or may not know its attach type; empty if it knows both."""
    from . import since  # most loads succeed
    from .system.objects import PROGRAM_TYPES

    section = parse_section(program.section)
    if section is None:
        return ""
    is_of_btf = section.needs_kernel_btf or section.target_kind == Target.BPF_PROGRAM
    if is_of_btf and not os.path.exists(_kernel.KERNEL_BTF):
        return ""  # libbpf can only try such programs where the kernel has BTF
    kind = section.program_type
    can_try = libbpf.has("libbpf_probe_bpf_prog_type")
    if can_try and libbpf.libbpf_probe_bpf_prog_type(PROGRAM_TYPES.index(kind), None) == 0:
        return f"program {program.name} is a BPF_PROG_TYPE_{kind}, {since.unknown(kind, since.PROGRAM_TYPES)}"
    if section.sleepable and kind != "SYSCALL":
        return f"program {program.name} may sleep, {since.too_old(since.sleepable(kind, section.attach_type))}"
    if section.xdp_frags:
        return f"program {program.name} needs BPF_F_XDP_HAS_FRAGS, {since.too_old(since.XDP_FRAGS)}"
    is_passed = section.attach_type_use in (AttachTypeUse.LOAD, AttachTypeUse.ATTACH, AttachTypeUse.IGNORED)
    if is_passed and privileges.linux_version() < since.EXPECTED_ATTACH_TYPES:
        first, plain = since.linux(since.EXPECTED_ATTACH_TYPES), WITHOUT_ATTACH_TYPE.get(section.name)
        what = (
            f"program {program.name} is loaded for an attach type, {section.attach_type}, as {first} is the first to do"
        )
        return f'{what}: write SEC("{plain}")' if plain else what
    if section.attach_type_use == AttachTypeUse.LOAD:
        came = since.ATTACH_TYPES.get(section.attach_type)
        return f"program {program.name} attaches as {section.attach_type}, {since.too_old(came)}"
    return ""


def _needing_kernel_btf(loading: Sequence[ProgramSpec]) -> list[str]:
    """The programs that cannot be loaded because the kernel has no BTF, in words."""
    parsed = ((program.name, parse_section(program.section)) for program in loading)
    typed = [name for name, section in parsed if section is not None and section.needs_kernel_btf]
    if not typed or os.path.exists(_kernel.KERNEL_BTF):
        return []
    return [
        f"This kernel has no BTF of its own ({_kernel.KERNEL_BTF} is not there), and {', '.join(typed)} can't be "
        f"loaded without it, whatever the package embeds: set autoload to False for such programs here, or use other "
        f"kinds (kprobe, tracepoint)"
    ]
