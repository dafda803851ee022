"""A BTF archive, wherever it is: a folder, or a URL.

Input: the text that names it. Output: an `Archive`, or `KernelError`. A build whose archive is a folder never imports
`remote/`, nor the standard library's modules for the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from hatch_bpf.kernels.remote.archive_url import ArchiveUrl

Archive = Union[Path, "ArchiveUrl"]
"""A BTF archive: a folder, or a URL."""


def parse_archive(text: str, *, root: Path) -> Archive:
    """The archive that `btf-archive` names; a folder may be relative to `root`. Raises `KernelError`."""
    if "://" not in text:
        return root / text
    from hatch_bpf.kernels.remote.archive_url import ArchiveUrl

    return ArchiveUrl(text)
