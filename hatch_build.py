"""hatch-bpf's own build: put libbpf's headers and libraries of the machine that builds the wheel into it.

With them a build machine needs no libbpf package: clang finds <bpf/bpf_helpers.h>, and `libbpf = "bundle"` finds the
libraries. Nothing of it is in the repository. A machine without libbpf makes a wheel without, for any platform.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
HEADERS = Path("/usr/include/bpf")
TARGET = "hatch_bpf/_libbpf"


class OwnLibbpf(BuildHookInterface):  # type: ignore[type-arg]
    """Adds to the wheel; leaves editable installs, which use the system's, alone."""

    _staged: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "standard" or not (HEADERS / "bpf_helpers.h").is_file():
            return
        sys.path.insert(0, str(ROOT))  # hatch-bpf builds itself
        try:
            from hatch_bpf.arch import build_machine
            from hatch_bpf.errors import ToolchainError
            from hatch_bpf.wheel.bundled_libbpf import bundle
        finally:
            sys.path.remove(str(ROOT))

        machine = build_machine()
        if machine is None:
            return
        try:
            libraries = bundle(machine)
        except ToolchainError as error:
            self.app.display_warning(f"without libbpf's headers and libraries: {error}")
            return
        self._staged = tempfile.mkdtemp(prefix="hatch-bpf-")
        for name, data in libraries.files.items():
            path = Path(self._staged, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            build_data["force_include"][str(path)] = f"{TARGET}/{name}"
        # those for BPF programs; the others are for programs that link with libbpf
        for header in sorted({*HEADERS.glob("bpf_*.h"), *HEADERS.glob("*.bpf.h")}):
            build_data["force_include"][str(header)] = f"{TARGET}/include/bpf/{header.name}"
        build_data["tag"] = f"py3-none-{libraries.platform}"
        build_data["pure_python"] = False

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if self._staged is not None:
            shutil.rmtree(self._staged, ignore_errors=True)
