"""Kernels' BTF for the tests: the example project's, always there, and those of the archive in BTFHUB_ARCHIVE."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from hatch_bpf.kernels.archive import list_kernels, read_archived
from tests.common import needs

FULL = os.environ.get("HATCH_BPF_FULL") == "1"
"""Run whole products of cases rather than samples."""

_EXAMPLE = Path(__file__).parents[2] / "example_project" / "kernels"


def _files() -> dict[str, Path]:
    folders = [_EXAMPLE]
    archive = Path(needs.ARCHIVE)
    if needs.ARCHIVE and archive.is_dir():
        folders.append(archive)
    return {str(entry.kernel): entry.path for folder in folders for entry in list_kernels(folder)}


FILES = _files()
"""Every kernel at hand, by name; where both have one, the archive's."""
EXAMPLES = [str(entry.kernel) for entry in list_kernels(_EXAMPLE)]
SAMPLE = sorted(FILES) if FULL else EXAMPLES[:1] + EXAMPLES[-1:]
"""Kernels for tests that would take too long over all of them: the first and the last of the example project."""


@lru_cache(maxsize=2)
def read(name: str) -> bytes:
    """The BTF of a kernel."""
    return read_archived(FILES[name])
