"""Files in the repository that are derived from others: `python -m tests.regenerate` rewrites them.

Input: nothing. Output: every file of `DERIVED`. When one is out of date, tests/repository/test_regenerate.py fails and
names the command. To add one, write a function that returns its text, and a line in `DERIVED`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from hatch_bpf.arch import X86_64
from hatch_bpf.skeleton.generate import SkeletonOptions, generate
from tests.common.skeleton_package import BPF, model_of
from tools import api_page

ROOT = Path(__file__).parent.parent


def golden_skeleton() -> str:
    """The skeleton of a program with every kind of C type."""
    with tempfile.TemporaryDirectory() as folder:
        model = model_of(BPF / "ctypes.bpf.c", Path(folder))
    options = SkeletonOptions(
        source="tests/bpf/ctypes.bpf.c",
        class_name="Ctypes",
        runtime="hatch_bpf.runtime",
        objects={X86_64.name: ("x86_64/ctypes.bpf.o", "0" * 64)},  # the object's bytes depend on clang's version
        kernels=("kernels.btfs", "0" * 64),
        events={"point": "point"},
        types=("flexible",),
    )
    return generate({X86_64.name: model}, options=options)


DERIVED: dict[str, Callable[[], str]] = {
    "docs/api.md": api_page.page,
    "tests/golden/ctypes_skel.py": golden_skeleton,
}
"""Path in the repository -> the function that returns its text."""


def main() -> None:
    """Write every derived file."""
    for path, make in DERIVED.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(make(), encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
