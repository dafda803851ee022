"""hatch-bpf's own libbpf: libraries for every Linux, and headers for BPF programs.

hatch-bpf's wheel carries them; in a checkout `python -m tools.libbpf` makes them.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from hatch_bpf.runtime.host.arch import running_name
from hatch_bpf.runtime.libbpf.bundled import SONAME, running_libc

OWN_LIBBPF = Path(__file__).parents[1] / "_libbpf"
"""The folder: `include/`, and `lib/` as wheels carry it. It is not there in a checkout that did not make it."""


def own_libraries() -> dict[str, dict[str, Any]]:
    """Architecture -> C library -> `sha256` and platform `tags` of the library in `lib/ARCH/LIBC/`; empty if none."""
    return _read("libraries.json")


def own_version() -> tuple[int, int] | None:
    """libbpf's version, as the SBOM of the libraries has it; None if there are none."""
    for part in _read("sbom.cdx.json").get("components", ()):
        if part["name"] == "libbpf":
            major, minor, *_ = part["version"].split(".")
            return int(major), int(minor)
    return None


def _read(name: str) -> dict[str, Any]:
    """A document beside the libraries; empty if there are none."""
    with suppress(OSError):
        return dict(json.loads((OWN_LIBBPF / "lib" / name).read_bytes()))
    return {}


def own_library() -> Path | None:
    """The library that this machine can load; None if there is none for it."""
    arch, libc = running_name(), running_libc()
    return OWN_LIBBPF / "lib" / arch / libc / SONAME if libc in own_libraries().get(arch, {}) else None
