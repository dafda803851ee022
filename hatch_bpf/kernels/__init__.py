"""Where kernels' BTF comes from: identities, archives, single files of any form, and the matrix a project declares."""

from __future__ import annotations

from pathlib import Path

from hatch_bpf.runtime.host import KERNEL_BTF

HOST = "host"
"""The name that means the machine that builds, wherever a kernel can be named."""
HOST_BTF = Path(KERNEL_BTF)
"""The running kernel's own BTF."""
