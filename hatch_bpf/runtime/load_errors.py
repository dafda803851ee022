"""What went wrong in bpf_object__load(), by libbpf's messages. Input: these lines. Output: the error to raise."""

from __future__ import annotations

import errno
import os

from . import privileges
from .errors import LoadError, VerifierError, permission_denied, reason, tail
from .handle import LOG_LINES
from .host import kernel as _kernel
from .libbpf.messages import verifier_logs
from .sections import libbpf_since, parse_section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .errors import BpfError
    from .libbpf.library import Libbpf
    from .spec import ObjectSpec

VERIFIER_LINES = 20
"""Lines of the verifier's log that an error's message holds; the exception holds all of them."""


def check_libbpf_is_new_enough(spec: ObjectSpec, libbpf: Libbpf, lines: list[str]) -> None:
    """Raise `LibbpfTooOldError` where the load failed over what a later libbpf knows: a section, or kinds of BTF."""
    if os.path.exists(_kernel.KERNEL_BTF) and any("Error loading vmlinux BTF" in line for line in lines):
        # 64-bit enums came with Linux 6.0 and libbpf 1.0
        libbpf.require((1, 0), f"{spec.source}: reading the BTF of a kernel from 6.0 on")
    for name in (line.split("'")[-2] for line in lines if "missing BPF prog type" in line and line.count("'") > 1):
        libbpf.require(libbpf_since(name), f"{spec.source}: SEC({name!r})")


def load_error(
    spec: ObjectSpec, code: int, lines: list[str], *, sections: list[str], map_in_words: Callable[[str], str]
) -> BpfError:
    """What went wrong in bpf_object__load(), from libbpf's messages. `sections` are those of the programs, and
    `map_in_words` says of a map by its name what it should have been."""
    log = "\n".join(lines)
    for program, verifier_log in verifier_logs(lines):
        shown = [line for line in verifier_log.split("\n") if line.strip()]
        hint = privileges.narrows_verifier()
        if "non-GPL compatible program" in verifier_log:
            hint = 'The object says no license that is compatible with the GPL: char LICENSE[] SEC("license") = "GPL";'
        return VerifierError(
            f"{spec.source}: the kernel rejects program {program}: {reason(code)}; the end of the verifier's log:\n"
            f"{tail(shown, VERIFIER_LINES)}" + (f"\n{hint}" if hint else ""),
            errno=code,
            log=log,
            program=program,
            verifier_log=verifier_log,
        )
    if code in (errno.EPERM, errno.EACCES):
        return permission_denied(f"{spec.source} can't be loaded", errno=code, lines=lines, sections=sections)
    message = f"{spec.source} can't be loaded: {reason(code)}\n{tail(lines, LOG_LINES)}"
    for name in (item.name for item in spec.maps):
        if any(line.startswith(f"map '{name}': failed to create: Invalid argument") for line in lines):
            message += f"\nmap {name} is {map_in_words(name)}"
    if not os.path.exists(_kernel.KERNEL_BTF):
        parsed = ((program.name, parse_section(program.section)) for program in spec.programs)
        typed = [name for name, section in parsed if section is not None and section.needs_kernel_btf]
        if typed:
            message += (
                f"\nThis kernel has no BTF of its own, and {', '.join(typed)} can't be loaded without it, whatever the "
                f"package embeds: set autoload to False for such programs here, or use other kinds (kprobe, tracepoint)"
            )
    return LoadError(message, errno=code, log=log)
