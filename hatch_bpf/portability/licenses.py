"""What an object says of its license -> what kernels refuse to its programs.

Input: the text in its section `license`. Output: the licenses that kernels take for compatible with the GPL, and the
helpers that only programs under such may call. The kernel's Documentation/bpf/bpf_licensing.rst tells of it.
"""

from __future__ import annotations

GPL_COMPATIBLE = frozenset(
    {"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"}
)
"""What license_is_gpl_compatible() takes (include/linux/license.h), letter by letter."""

GPL_ONLY_HELPERS = frozenset({
    4, 6, 22, 25, 27, 35, 36, 45, 55, 56, 58, 67, 69, 100, 110, 111, 112, 113, 114, 115, 119, 121, 126, 127, 150, 158,
    163, 165, 169, 170, 171, 172, 173, 175, 176, 177, 191, 204, 205, 206, 207,
})  # fmt: skip
"""Those whose bpf_func_proto is `gpl_only`: they read memory, print, or look into the kernel's own data."""
