"""Where what can be had again is kept between builds.

Input: the environment. Output: a folder, which need not exist yet and may be deleted at any time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

CACHE_VARIABLE = "HATCH_BPF_CACHE"
"""Environment variable that names the cache folder."""


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The cache folder: the one named, else the platform's usual place."""
    if environ.get(CACHE_VARIABLE):
        return Path(environ[CACHE_VARIABLE]).absolute()
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"]).absolute() / "hatch-bpf"
    home = Path(environ.get("HOME") or "~").expanduser()
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "hatch-bpf"
