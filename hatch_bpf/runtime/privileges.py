"""Why the kernel refuses BPF to this process, and what to do about it: capabilities, and other causes.

Input: section names of programs. Output: a sentence for an error. tests/system/test_privileges.py measures what each
kind of program needs, and SECURITY.md lists it. Files are read as bytes, since a process that has dropped its rights
may not be able to import codecs any more.
"""

from __future__ import annotations

import os

from .sections import Target, parse_section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Optional

BITS = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24, "CAP_PERFMON": 38, "CAP_BPF": 39}
"""Numbers from linux/capability.h."""

_TRACING = (
    *("EXT", "KPROBE", "LSM", "PERF_EVENT", "RAW_TRACEPOINT", "RAW_TRACEPOINT_WRITABLE", "STRUCT_OPS"),
    *("TRACEPOINT", "TRACING"),
)
"""Program types that want CAP_PERFMON."""
_NETWORKING = (
    *("CGROUP_DEVICE", "CGROUP_SKB", "CGROUP_SOCK", "CGROUP_SOCKOPT", "CGROUP_SOCK_ADDR", "CGROUP_SYSCTL", "EXT"),
    *("FLOW_DISSECTOR", "LWT_IN", "LWT_OUT", "LWT_SEG6LOCAL", "LWT_XMIT", "NETFILTER", "SCHED_ACT", "SCHED_CLS"),
    *("SK_MSG", "SK_SKB", "SOCK_OPS", "STRUCT_OPS", "XDP"),
)
"""Program types that want CAP_NET_ADMIN."""
_PERF_EVENTS = "KPROBE", "PERF_EVENT", "TRACEPOINT"
"""Program types that are attached through a perf event."""


def needed(section: str) -> tuple[str, ...]:
    """The capabilities that loading and attaching a program takes on Linux 5.8 and later."""
    parsed = parse_section(section)
    kind = "" if parsed is None else parsed.program_type
    conditional = (("CAP_PERFMON", _TRACING), ("CAP_NET_ADMIN", _NETWORKING))
    return ("CAP_BPF", *(name for name, kinds in conditional if kind in kinds))


def for_perf_event(section: str) -> tuple[str, ...]:
    """The capabilities to add if the kernel refuses the perf event that a program of this section is attached to."""
    parsed = parse_section(section)
    if parsed is None or parsed.program_type not in _PERF_EVENTS:
        return ()
    return ("CAP_SYS_ADMIN",) if parsed.target_kind == Target.BINARY or _paranoid() > 2 else ()


def _paranoid() -> int:
    """kernel.perf_event_paranoid. Some distributions' kernels know values above 2: CAP_PERFMON is not enough then."""
    return int(_read("/proc/sys/kernel/perf_event_paranoid") or 0)


def lacking(sections: Collection[str], *, also: Collection[str] = ()) -> list[str]:
    """The capabilities that this process lacks, of those that these sections need and of those in `also`."""
    wanted = _wanted(sections, also)
    effective = _field("CapEff")
    if not effective:  # /proc is not there
        return wanted if os.geteuid() else []
    held = {name for name, bit in BITS.items() if int(effective, 16) >> bit & 1}
    missing = [name for name in wanted if name not in held]
    if "CAP_SYS_ADMIN" in held:
        # bpf() takes it instead of the others, but other parts of the kernel insist on CAP_NET_ADMIN
        return [name for name in missing if name == "CAP_NET_ADMIN" and name in also]
    return missing


def _wanted(sections: Collection[str], also: Collection[str]) -> list[str]:
    """What this kernel wants for these sections and `also`: before Linux 5.8 CAP_SYS_ADMIN for what it lacks."""
    last = int(_read("/proc/sys/kernel/cap_last_cap") or max(BITS.values()))
    names = {"CAP_BPF", *also, *(name for section in sections for name in needed(section))}
    return sorted({name if BITS[name] <= last else "CAP_SYS_ADMIN" for name in names})


def why(sections: Collection[str], *, also: Collection[str] = ()) -> str:
    """Why programs of these sections may be refused here, and the remedy. `also` are further capabilities they need."""
    missing = lacking(sections, also=also)
    if not missing:
        return _forbidden()
    given = _wanted(sections, also)
    text = (
        f"this process lacks {_listed(missing)}: run it as root, or give it {_listed(given)} "
        f"(in a systemd unit AmbientCapabilities={' '.join(given)}, "
        f"for a container {' '.join(f'--cap-add {name[4:]}' for name in given)})"
    )
    if "CAP_SYS_ADMIN" in missing and _paranoid() > 2:
        text += f"; or set kernel.perf_event_paranoid, which is {_paranoid()}, to 2, where CAP_PERFMON is enough"
    return text


def narrows_verifier() -> str:
    """Why the verifier may restrict this process more than others, and the remedy; empty if no reason is known."""
    if lacking((), also=("CAP_PERFMON",)):
        return (
            "this process lacks CAP_PERFMON, without which the verifier lets no program read the kernel's memory or "
            "compare pointers: if that is it, run it as root, or give it CAP_PERFMON too"
        )
    if lockdown() == "confidentiality":
        return (
            "the kernel is locked down (confidentiality), so that no program may read its memory: if that is it, boot "
            "with lockdown=integrity or none"
        )
    return ""


def _forbidden() -> str:
    """Why BPF may be forbidden though no capability is missing: the cause if it can be found, or else what may be."""
    if in_user_namespace():
        return (
            "this process has its capabilities only inside a user namespace (a rootless container, for example), "
            "but BPF needs them outside: run it as root of the machine itself, or let root delegate BPF to it by a "
            "token (Linux 6.9; open(token=...))"
        )
    locked_down = lockdown()
    if locked_down:
        return (
            f"the kernel is locked down ({locked_down}), which keeps even root from probing it or reading its memory: "
            "boot with lockdown=none (and without Secure Boot, if that sets it), or leave out the programs that do so"
        )
    memory = memory_limit()
    if memory is not None:
        return (
            f"before Linux 5.11 BPF memory counts against RLIMIT_MEMLOCK, here {memory // 1024} KB: raise it "
            "(ulimit -l unlimited, in a systemd unit LimitMEMLOCK=infinity), or give the process CAP_SYS_RESOURCE, "
            "with which it raises the limit by itself"
        )
    if _field("Seccomp") == "2":
        return (
            "this process has the capabilities, but runs under a seccomp filter, as in most containers: allow bpf() "
            "and perf_event_open() in its profile, or run it without one (--security-opt seccomp=unconfined)"
        )
    return (
        "this process has the capabilities, so something else forbids it: kernel lockdown, or a security module "
        "(SELinux, AppArmor), whose log says more"
    )


def lockdown() -> str:
    """The kernel's lockdown mode: `integrity`, `confidentiality`, or empty for none or unknown."""
    mode = _read("/sys/kernel/security/lockdown").decode().partition("[")[2].partition("]")[0]
    return "" if mode == "none" else mode


def linux_version() -> tuple[int, int]:
    """Version of the running kernel, (5, 4). It does not show what a distribution has backported."""
    major, minor = (int("".join(filter(str.isdigit, part)) or 0) for part in os.uname().release.split(".")[:2])
    return major, minor


def memory_limit() -> Optional[int]:
    """RLIMIT_MEMLOCK if it limits BPF: before Linux 5.11, and not unlimited."""
    try:
        import resource
    except ImportError:  # it is a file of its own, which this process may not be able to read any more
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return soft if linux_version() < (5, 11) and soft != resource.RLIM_INFINITY else None


def in_user_namespace() -> bool:
    """Whether this process has its rights, and sees the owners of files, in a user namespace only."""
    return _read("/proc/self/uid_map").split() not in ([], [b"0", b"0", b"4294967295"])


def _field(name: str) -> str:
    """A field of this thread's status."""
    fields = b"\n" + _read("/proc/thread-self/status")
    return fields.partition(f"\n{name}:".encode())[2].partition(b"\n")[0].decode().strip()


def _read(path: str) -> bytes:
    """A file of the kernel's; empty if it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
