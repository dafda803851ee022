"""What the kernel means by the error number of an attach, and what to do. Nothing is imported until one fails.

Input: the number, what libbpf said, and the program's section. Output: words for the message; empty if there are none.
"""

from __future__ import annotations

import errno

from .. import since
from ..errors import ENOTSUPP, reason
from ..privileges import linux_version
from ..sections import AttachTypeUse, Target, parse_section, section_patterns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COOKIES = (5, 15)
"""The first Linux with a value of the application's own for each attachment of a probe or tracepoint."""
_PROBES = ("failed to create kprobe '", "failed to create kretprobe '")
_USER_PROBES = ("failed to create uprobe '", "failed to create uretprobe '")
_PLACES = {"tcx": "BPF_TCX_INGRESS", "netkit": "BPF_NETKIT_PRIMARY"}
"""Places that libbpf names, and an attach type that came with each. Sections for them begin with the place's name."""
NETNS_LINKS = (5, 8)
_REFUSED = (errno.EINVAL, errno.EOPNOTSUPP)


def attach_hint(code: int, lines: Sequence[str], section_name: str) -> str:
    """What is missing, or wrong with the target, and what to do about it."""
    said = "\n".join(lines)
    if "user context value is not supported" in said:
        return f"this kernel has no cookies: they came with {since.linux(COOKIES)}"
    for start in _PROBES:
        _, found, where = said.partition(start)
        if found:
            return _probe_hint(code, function=where.partition("'")[0].partition("+")[0], returns="kret" in start)
    if any(start in said for start in _USER_PROBES) and code in (errno.EINVAL, ENOTSUPP):
        return "the file has no instruction at this offset, or none that can be probed"
    for place, attach_type in _PLACES.items():
        if f"failed to attach to {place}: " not in said or code != errno.EINVAL:
            continue
        came = since.ATTACH_TYPES[attach_type]
        if linux_version() < came:
            return f"{place} came with {since.linux(came)}{_instead(place, Target.NONE)}"
        sections = [name for name in section_patterns() if name.startswith(f"{place}/")]
        if section_name.lstrip("?") not in sections:
            return "its section has to say where: write " + " or ".join(f'SEC("{name}")' for name in sections)
    if "failed to attach to netns" in said and code == errno.EINVAL and linux_version() < NETNS_LINKS:
        return f"network namespaces have links from {since.linux(NETNS_LINKS)} on"
    if code == errno.ENOENT and ("perf event ID" in said or "raw tracepoint" in said):
        return "this kernel has no such tracepoint, or has not loaded the module with it; tracepoints() lists them"
    return _attach_type_hint(section_name) if code in _REFUSED else ""


def _probe_hint(code: int, *, function: str, returns: bool) -> str:
    if code == errno.ENOENT and function.startswith("__se_sys_"):
        call = function[len("__se_sys_") :]
        return (
            f"libbpf looks for a system call by the name that it has since Linux 4.17; this kernel may have it as "
            f'sys_{call}: attach_kprobe("sys_{call}")'
        )
    if code == errno.ENOENT:
        return "this kernel has no such function, or none to be probed; kernel_functions() lists those that can be"
    if code in (errno.EINVAL, errno.EILSEQ):
        place = "it is not the start of the function" if returns else "no instruction of the function starts there"
        return f"{place}, or the kernel lets nobody probe it (/sys/kernel/debug/kprobes/blacklist)"
    return ""


def _attach_type_hint(section_name: str) -> str:
    """A hint if this kernel is older than the section's attach type; empty if it is not."""
    section = parse_section(section_name)
    if section is None or section.attach_type_use not in (AttachTypeUse.ATTACH, AttachTypeUse.CALL):
        return ""
    came = since.ATTACH_TYPES.get(section.attach_type)
    if came is None or linux_version() >= came:
        return ""
    return f"it attaches as {section.attach_type}, {since.too_old(came)}{_instead(section.name, section.target_kind)}"


def _instead(name: str, target_kind: str) -> str:
    kind = name.partition("/")[0]
    if kind.startswith("tcx"):
        return '. Write SEC("tc") and use attach_tc()'
    if kind.endswith("probe.multi"):
        single = kind.replace(".multi", "")
        how = "attach_uprobe()" if target_kind == Target.BINARY else "attach_kprobe()"
        return f'. Write SEC("{single}") and call {how} for each function'
    return ""


def not_a_kernel_link(code: int) -> str:
    """What EINVAL means where a link of a probe or tracepoint is inspected or pinned."""
    if code == errno.EINVAL and linux_version() < COOKIES:
        return f"probes, tracepoints and perf events have kernel links from {since.linux(COOKIES)} on"
    return ""


def not_updated(code: int) -> str:
    """What EINVAL means where a link is to attach another program."""
    if code != errno.EINVAL:
        return ""
    return (
        f"{reason(code)}; the other program must be of the same type and for the same attachment, and links of probes, "
        "tracepoints and perf events cannot change it at all"
    )
