"""Whether a kernel's file is the one that the project's lock has.

Input: a file's bytes, and the sha256 that `lock.py` found in the lock. Output: nothing, or `KernelError`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from hatch_bpf.errors import KernelError
from hatch_bpf.kernels.identity import Kernel

LOCK_NAME = "bpf-kernels.lock"
"""The lock file, beside pyproject.toml."""
REMEDY = "run `hatch-bpf kernels lock` and look at what it changes"


def check_locked(what: str, data: bytes, sha256: str | None, *, kernel: Kernel, source: Path | str = "") -> None:
    """Raise `KernelError` unless this file is the locked one.

    `sha256` is the lock's: empty if it lacks this file, None if it has no files of this kind or there is no lock.
    """
    found = hashlib.sha256(data).hexdigest()
    if sha256 is None or found == sha256:
        return
    why = f"its sha256 is {found} instead of {sha256}" if sha256 else "it is not there"
    raise KernelError(
        f"{what} is not the one that {LOCK_NAME} has: {why}. Get the file that was locked; if this one is right, "
        f"{REMEDY}",
        source=source,
        kernel=kernel,
    )
