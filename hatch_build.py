"""hatch-bpf's own build: put libbpf's libraries for every Linux, and its headers, into the wheel.

`python -m tools.libbpf` makes them first, into `hatch_bpf/_libbpf`. Nothing of them is in the repository. A wheel that
is built without them works, but it cannot bundle libbpf.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MADE = Path(__file__).resolve().parent / "hatch_bpf" / "_libbpf"


class OwnLibbpf(BuildHookInterface):  # type: ignore[type-arg]
    """Adds to the wheel; editable installs find the folder where it is."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "standard":
            return
        if not MADE.is_dir():
            self.app.display_warning("without libbpf's libraries and headers: python -m tools.libbpf makes them first")
            return
        # one by one, as git ignores the folder
        for path in sorted(MADE.rglob("*")):
            if path.is_file():
                build_data["force_include"][str(path)] = f"hatch_bpf/_libbpf/{path.relative_to(MADE).as_posix()}"
