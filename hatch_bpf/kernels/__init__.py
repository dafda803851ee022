"""Where kernels' BTF comes from: identities, archives, single files of any form, and the matrix a project declares."""

from __future__ import annotations

import hashlib
from pathlib import Path

ARCHIVE_VARIABLE = "BTFHUB_ARCHIVE"
"""Environment variable that overrides `btf-archive`."""
_NOTES = Path("/sys/kernel/notes")
"""Holds the running kernel's build id."""


def running_kernel_digest() -> str:
    """Changes whenever another kernel runs. Raises `OSError` if the kernel has no build id."""
    return hashlib.sha256(_NOTES.read_bytes()).hexdigest()
