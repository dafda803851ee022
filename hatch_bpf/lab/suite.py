"""A project's own tests -> files for a guest. Input: the project's folder. Output: nodes, none if it has no tests.

The sources of the package stay out, so that the tests use the wheel.
"""

from __future__ import annotations

from pathlib import Path

from hatch_bpf.errors import LabError
from hatch_bpf.lab import cpio

TESTS = "tests"
_SETTINGS = ("pyproject.toml", "pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg", "conftest.py")


def own_tests(root: Path) -> dict[str, cpio.Node]:
    """The folder `tests`, and the files in which pytest looks for settings. Raises `LabError`."""
    if not (root / TESTS).is_dir():
        return {}
    try:
        tests = cpio.tree(root / TESTS, TESTS)
        settings = {name: cpio.file((root / name).read_bytes()) for name in _SETTINGS if (root / name).is_file()}
    except OSError as error:
        why = f"this cannot be read, and goes into the guest with the tests: {error.strerror}"
        raise LabError(why, source=error.filename) from error
    return {name: node for name, node in tests.items() if "__pycache__" not in name.split("/")} | settings
