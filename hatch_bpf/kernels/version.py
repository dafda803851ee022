"""A kernel's release -> bounds of `LINUX_KERNEL_VERSION`, as libbpf will give it to a program there.

Input: a `Kernel`. Output: the least and the greatest value it can have, or None where the release starts with no
version. libbpf asks the running kernel, whose release does not always name the patch level: Debian's `6.1.0-50` is an
ABI name, and the real version is in `uname -v`; Ubuntu's is in /proc/version_signature.
"""

from __future__ import annotations

import re

from hatch_bpf.kernels.identity import Kernel

_LAST_PATCH = 255
"""KERNEL_VERSION() has eight bits for the patch level; higher ones count as this."""


def kernel_version(major: int, minor: int, patch: int) -> int:
    """C's KERNEL_VERSION()."""
    return (major << 16) + (minor << 8) + min(patch, _LAST_PATCH)


def version_bounds(kernel: Kernel) -> tuple[int, int] | None:
    """`6.1.0-50-amd64` is 6.1.0 to 6.1.255, `6.12.95+deb12-amd64` 6.12.95; Ubuntu's patch level says nothing."""
    match = re.match(r"([0-9]{1,5})\.([0-9]{1,5})(?:\.([0-9]{1,5}))?", kernel.release)
    if match is None:
        return None
    major, minor, patch = int(match[1]), int(match[2]), int(match[3] or 0)
    if patch and kernel.distro != "ubuntu":
        return (kernel_version(major, minor, patch),) * 2
    return kernel_version(major, minor, 0), kernel_version(major, minor, _LAST_PATCH)
