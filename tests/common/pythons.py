"""Pythons of other versions than the one that runs the tests."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

PYTHONS = ("3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
"""Those that the runtime supports."""


@cache
def pythons() -> dict[str, str]:
    """The other Pythons of this machine, by version."""
    found = {}
    for version in PYTHONS:
        candidates = [shutil.which(f"python{version}")]
        candidates += sorted(map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))
        for candidate in filter(None, candidates):
            if (
                subprocess.run([candidate, "-c", "import ctypes, mmap"], capture_output=True, check=False).returncode
                == 0
            ):
                found[version] = candidate
                break
    return found
