"""hatch-bpf's own libbpf: libraries for every Linux, and headers for BPF programs.

hatch-bpf's wheel carries them; in a checkout `python -m tools.libbpf` makes them.
"""

from __future__ import annotations

import json
from pathlib import Path

from hatch_bpf.runtime.host.arch import running_name
from hatch_bpf.runtime.libbpf.bundled import INDEX, SONAME, running_libc

OWN_LIBBPF = Path(__file__).parents[1] / "_libbpf"
"""The folder: `include/`, and `lib/` as wheels carry it. It is not there in a checkout that did not make it."""


def own_library(folder: Path = OWN_LIBBPF) -> Path | None:
    """The library that this machine can load; None if there is none for it."""
    arch, libc = running_name(), running_libc()
    try:
        index = json.loads((folder / "lib" / INDEX).read_bytes())
    except OSError:
        return None
    return folder / "lib" / arch / libc / SONAME if libc in index.get(arch, {}) else None
